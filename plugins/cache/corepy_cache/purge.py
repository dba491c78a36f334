"""Purge names from a running server's cache (`corepy cache purge`).

The command is "cache/purge" with the argument {"name": NAME} or {"zone": ZONE}. Each cache returns
the number of entries removed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from corepy.dns.names import InvalidName, from_text, is_subdomain
from corepy.plugin import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy_cache.store import Store

COMMAND: Final = "cache/purge"
_SLICE: Final = 1000  # entries to test before other queries run


async def purge(stores: Sequence[Store], doomed: Callable[[bytes], bool]) -> int:
    """Remove the entries whose name (wire form) is `doomed`; returns their number."""
    removed = 0
    for store in stores:
        keys = list(store.entries)
        for start in range(0, len(keys), _SLICE):
            for key in keys[start : start + _SLICE]:
                if doomed(name_of(key)):
                    removed += store.remove(key)
            await asyncio.sleep(0)
    return removed


def name_of(key: bytes) -> bytes:
    """Return the name at the start of a store's key."""
    at = 0
    while n := key[at]:
        at += n + 1
    return key[: at + 1]


def doomed_by(argument: Any) -> Callable[[bytes], bool]:
    """Return a predicate that selects the names (wire form) to purge; raises `CommandError`."""
    if not isinstance(argument, dict) or len(argument) != 1:
        raise CommandError('to purge takes {"name": NAME} or {"zone": ZONE}')
    ((what, text),) = argument.items()
    if what not in ("name", "zone") or not isinstance(text, str):
        raise CommandError('to purge takes {"name": NAME} or {"zone": ZONE}')
    try:
        name = from_text(text).lower()
    except (InvalidName, UnicodeError) as error:
        raise CommandError(str(error)) from None
    if what == "name":
        return lambda known: known == name
    return lambda known: is_subdomain(known, name)
