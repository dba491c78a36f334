"""`corepy cache stats | lookup | dump | purge`: the caches of the running servers on this host."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from corepy.dns.names import InvalidName, from_text, to_text
from corepy.plugin.arguments import Parser
from corepy.plugin.control_client import ControlError, ask_all
from corepy_cache.inspecting import LIST, LOOKUP
from corepy_cache.purge import COMMAND

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

OK: Final = 0
FAILED: Final = 1

_NONE_RUNS: Final = "no server with a cache runs here, or this user may not use its control socket"
_COLUMNS: Final = ("BLOCK", "ZONES", "ENTRIES", "CAPACITY", "BYTES", "HITS", "MISSES", "RATIO",
                   "STALE", "EVICTED")  # fmt: skip


def main(argv: list[str]) -> int:
    """Run one command; returns the exit code: 0, or 1 after an error message on standard error."""
    options = parser().read(argv)
    commands = {"stats": _stats, "lookup": _lookup, "dump": _dump, "purge": _purge}
    try:
        for text in commands[options.command](options):
            sys.stdout.write(text)
    except ControlError as error:
        sys.stderr.write(f"corepy cache: {error}\n")
        return FAILED
    return OK


def parser() -> Parser:
    """Return the parser of the arguments after `corepy cache`."""
    parser = Parser(
        "corepy cache", None, "Show and control the caches of the running servers on this host."
    )
    stats = parser.command("stats", "show the numbers of entries and queries of each cache")
    lookup = parser.command("lookup", "show the entries of a name")
    lookup.add_argument("name", metavar="NAME", help="name to look up")
    lookup.add_argument("type", nargs="?", metavar="TYPE", help="record type (default all types)")
    dump = parser.command("dump", "show the entries of all names, or of those of a zone")
    dump.add_argument("zone", nargs="?", default=".", metavar="ZONE", help="zone (default all)")
    for each in (stats, lookup, dump):
        each.flag("json", action="store_true", help="print JSON")
    purge = parser.command("purge", "remove a name, or all names of a zone, from the caches")
    what = purge.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", metavar="NAME", help="name to remove")
    purge.flag("zone", metavar="ZONE", help="remove all names of this zone", group=what)
    return parser


def _stats(options: argparse.Namespace) -> Iterator[str]:
    """Yield a table with a line for each cache."""
    found = [
        plugin
        for _, stats in ask_all("stats", {"top": 0})
        for plugin in stats["plugins"]
        if plugin["plugin"] == "cache"
    ]
    if not found:
        raise ControlError(_NONE_RUNS)
    if options.json:
        yield json.dumps(found, indent=2) + "\n"
        return
    rows = [_COLUMNS, *map(_row, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip() + "\n"


def _row(plugin: dict[str, Any]) -> tuple[str, ...]:
    numbers = plugin["status"]["cache"]
    asked = numbers["hits"] + numbers["misses"]
    ratio = f"{100 * numbers['hits'] / asked:.1f}%" if asked else "-"
    counts = [str(numbers[key]) for key in ("entries", "capacity", "bytes", "hits", "misses")]
    rest = [str(numbers[key]) for key in ("stale", "evictions")]
    return (plugin["block"] or "-", " ".join(plugin["zones"]), *counts, ratio, *rest)


def _lookup(options: argparse.Namespace) -> Iterator[str]:
    """Yield the entries of a name."""
    argument = {"name": _normal(options.name), "type": options.type}
    found = [entry for result in _ask(LOOKUP, argument) for entry in result]
    if options.json:
        yield json.dumps(found, indent=2) + "\n"
        return
    yield from map(_text, found)
    if not found:
        yield f"; no entry of {argument['name']}\n"


def _dump(options: argparse.Namespace) -> Iterator[str]:
    """Yield the entries of a zone."""
    zone, start = _normal(options.zone), 0
    while True:
        results = _ask(LIST, {"zone": zone, "start": start})
        entries = [entry for result in results for entry in result["entries"]]
        yield from (f"{json.dumps(it)}\n" if options.json else _text(it) for it in entries)
        following = [result["next"] for result in results if result["next"] is not None]
        if not following:
            return
        start = min(following)


def _text(entry: dict[str, Any]) -> str:
    """Return an entry as a comment line, followed by its records."""
    kind = f"{entry['rcode']}, {entry['state']}"
    left = f"{entry['left']} of {entry['ttl']} s left" if entry["left"] > 0 else "expired"
    flags = [*entry["flags"], *(["client subnet"] if entry["for_subnet"] else [])]
    suffix = f" ({', '.join(flags)})" if flags else ""
    title = f"; {entry['name']} {entry['class']} {entry['type']}{suffix}: {kind}, {left}"
    return "".join(f"{line}\n" for line in (title, *entry["records"]))


def _purge(options: argparse.Namespace) -> Iterator[str]:
    """Purge on every server; yield the number of entries removed."""
    what = "name" if options.zone is None else "zone"
    count = sum(_ask(COMMAND, {what: _normal(getattr(options, what))}))
    yield f"{count} {'entry' if count == 1 else 'entries'} purged\n"


def _normal(name: str) -> str:
    """Return a name in its normal form; raises ControlError."""
    try:
        return to_text(from_text(name))
    except InvalidName as error:
        raise ControlError(str(error)) from None


def _ask(command: str, argument: Any) -> list[Any]:
    """Return the results of all caches of all servers; raises ControlError without any."""
    found = [it["value"] for _, results in ask_all(command, argument) for it in results]
    if not found:
        raise ControlError(_NONE_RUNS)
    return found
