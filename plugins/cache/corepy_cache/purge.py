"""Purge names from the caches of running servers: `corepy cache purge NAME|--zone ZONE`.

The command to a server is "cache/purge" with the argument {"name": NAME} or {"zone": ZONE}. Each
cache returns the number of entries removed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final

from corepy.dns.names import InvalidName, from_text, is_subdomain, to_text
from corepy.plugin import CommandError
from corepy.plugin.arguments import Parser
from corepy.plugin.control_client import ControlError, ask_all
from corepy_cache.keys import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy_cache.entry import CacheEntry
    from corepy_cache.entry_table import EntryTable

COMMAND: Final = "cache/purge"
SLICE: Final = 1000
"""The number of entries to test before other queries run."""

OK: Final = 0
FAILED: Final = 1


async def purge(tables: Sequence[EntryTable], is_purged: Callable[[bytes], bool]) -> int:
    """Remove the entries whose name (wire form) `is_purged` selects; returns their number."""
    removed = 0
    for table in tables:
        removed += await remove_entries(table, lambda entry: is_purged(name_of(entry.key)))
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


def main(argv: list[str]) -> int:
    """Run one command; returns the exit code: 0, or 1 after an error message on standard error."""
    options = parser().read(argv)
    try:
        if options.zone is not None:
            count = _purge("zone", options.zone)
        else:
            count = _purge("name", options.name)
    except ControlError as error:
        sys.stderr.write(f"corepy cache: {error}\n")
        return FAILED
    sys.stdout.write(f"{count} {'entry' if count == 1 else 'entries'} purged\n")
    return OK


def parser() -> Parser:
    """Return the parser of the arguments after `corepy cache`."""
    parser = Parser("corepy cache", None, "Control the caches of the running servers on this host.")
    purge = parser.command("purge", "remove a name, or all names of a zone, from the caches")
    what = purge.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", metavar="NAME", help="name to remove")
    purge.flag("zone", metavar="ZONE", help="remove all names of this zone", group=what)
    return parser


def _purge(what: str, name: str) -> int:
    """Purge on every server; returns the number of entries removed. Raises ControlError."""
    try:
        argument = {what: to_text(from_text(name))}
    except InvalidName as error:
        raise ControlError(str(error)) from None
    counts = [result["value"] for _, results in ask_all(COMMAND, argument) for result in results]
    if not counts:
        raise ControlError(
            "no server with a cache runs here, or this user may not use its control socket"
        )
    return sum(counts)
