"""Forgetting names on command, while the server runs (`corepy cache purge`).

The command is "cache/purge", its argument {"name": NAME} or {"zone": ZONE}, the answer of each
cache the number of entries that went.
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
_SLICE: Final = 1000  # entries looked at before queries get their turn


async def purge(stores: Sequence[Store], doomed: Callable[[bytes], bool]) -> int:
    """Remove the entries whose name (wire form) is `doomed`; return how many there were."""
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
    """Return the name that a store's key begins with."""
    at = 0
    while n := key[at]:
        at += n + 1
    return key[: at + 1]


def doomed_by(argument: Any) -> Callable[[bytes], bool]:
    """Return what tells whether a name in wire form is to go; raises `CommandError`."""
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
