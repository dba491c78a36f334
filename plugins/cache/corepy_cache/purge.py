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

    from corepy_cache.entry_table import EntryTable

COMMAND: Final = "cache/purge"
_SLICE: Final = 1000  # entries to test before other queries run


async def purge(tables: Sequence[EntryTable], is_purged: Callable[[bytes], bool]) -> int:
    """Remove the entries whose name (wire form) `is_purged` selects; returns their number."""
    removed = 0
    for table in tables:
        keys = list(table.entries)
        for start in range(0, len(keys), _SLICE):
            for key in keys[start : start + _SLICE]:
                if is_purged(name_of(key)):
                    removed += table.remove(key)
            await asyncio.sleep(0)
    return removed


def name_of(key: bytes) -> bytes:
    """Return the name at the start of a store's key."""
    at = 0
    while n := key[at]:
        at += n + 1
    return key[: at + 1]


def purge_predicate(argument: Any) -> Callable[[bytes], bool]:
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
