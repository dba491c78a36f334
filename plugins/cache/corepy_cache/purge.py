"""Removes names from a cache: the command "cache/purge" of `corepy cache purge`.

Its argument is {"name": NAME} or {"zone": ZONE}. Each cache returns the number of entries removed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from corepy.dns.names import InvalidName, from_text, is_subdomain
from corepy.plugin import CommandError
from corepy_cache.keys import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy_cache.entry import CacheEntry
    from corepy_cache.entry_table import EntryTable

COMMAND: Final = "cache/purge"
SLICE: Final = 1000
"""The number of entries to test before other queries run."""


async def purge(tables: Sequence[EntryTable], is_purged: Callable[[bytes], bool]) -> int:
    """Remove the entries whose name (wire form) `is_purged` selects; returns their number."""
    removed = 0
    for table in tables:
        removed += await remove_entries(table, lambda entry: is_purged(name_of(entry.key)))
    return removed


async def purge_names(tables: Sequence[EntryTable], names: frozenset[bytes]) -> int:
    """Remove the entries of some names (wire form); returns their number.

    A key begins with the name, and no name is the beginning of another one, because it ends with a
    zero.
    """
    lengths = {len(name) for name in names}
    removed = 0
    for table in tables:
        keys = list(table.entries)
        for start in range(0, len(keys), SLICE):
            portion = keys[start : start + SLICE]
            for length in lengths:
                for key in [key for key in portion if key[:length] in names]:
                    removed += table.remove(key)
            await asyncio.sleep(0)
    return removed


async def remove_entries(table: EntryTable, is_removed: Callable[[CacheEntry], bool]) -> int:
    """Remove the entries that `is_removed` selects; returns their number."""
    removed = 0
    keys = list(table.entries)
    for start in range(0, len(keys), SLICE):
        for key in keys[start : start + SLICE]:
            entry = table.entries.get(key)
            if entry is not None and is_removed(entry):
                removed += table.remove(key)
        await asyncio.sleep(0)
    return removed


def purge_predicate(argument: Any) -> Callable[[bytes], bool]:
    """Return a predicate that selects the names (wire form) to purge; raises `CommandError`."""
    if not isinstance(argument, dict) or len(argument) != 1:
        raise CommandError('purge takes {"name": NAME} or {"zone": ZONE}')
    ((what, text),) = argument.items()
    if what not in ("name", "zone") or not isinstance(text, str):
        raise CommandError('purge takes {"name": NAME} or {"zone": ZONE}')
    try:
        name = from_text(text).lower()
    except (InvalidName, UnicodeError) as error:
        raise CommandError(str(error)) from None
    if what == "name":
        return lambda known: known == name
    return lambda known: is_subdomain(known, name)
