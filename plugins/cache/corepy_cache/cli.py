"""`corepy cache purge NAME|--zone ZONE`: remove names from the caches of running servers."""

from __future__ import annotations

import sys
from typing import Final

from corepy.dns.names import InvalidName, from_text, to_text
from corepy.plugin.arguments import Parser
from corepy.plugin.control_client import ControlError, ask_all
from corepy_cache.purge import COMMAND

OK: Final = 0
FAILED: Final = 1


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
    parser = Parser("corepy cache", None, "Command the caches of the servers that run here.")
    purge = parser.command("purge", "forget a name, or all names in a zone")
    what = purge.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", metavar="NAME", help="the name to forget")
    purge.flag("zone", metavar="ZONE", help="forget all names in this zone", group=what)
    return parser


def _purge(what: str, name: str) -> int:
    """Purge on every server; returns the number of entries removed. Raises ControlError."""
    try:
        argument = {what: to_text(from_text(name))}
    except InvalidName as error:
        raise ControlError(str(error)) from None
    counts = [result["value"] for _, results in ask_all(COMMAND, argument) for result in results]
    if not counts:
        raise ControlError("no server with a cache runs here, or none that this user may command")
    return sum(counts)
