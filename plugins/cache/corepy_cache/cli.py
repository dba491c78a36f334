"""`corepy cache purge NAME|--zone ZONE`: make the servers that run here forget what they keep."""

from __future__ import annotations

import argparse
import socket
import sys
from typing import TYPE_CHECKING, Final

from corepy.dns.names import InvalidName, from_text, to_text
from corepy_cache.purge import LONGEST_LINE, sockets

if TYPE_CHECKING:
    from pathlib import Path

OK: Final = 0
FAILED: Final = 1
_PATIENCE: Final = 30.0  # seconds for a server to go through its caches


class PurgeError(Exception):
    """A purge that did not happen, in words for the operator."""


def main(argv: list[str]) -> int:
    """Run one command and return its exit code: 0, or 1 with a line on standard error."""
    options = _parser().parse_args(argv)
    try:
        if options.zone is not None:
            count = _purge("zone", options.zone)
        else:
            count = _purge("name", options.name)
    except PurgeError as error:
        sys.stderr.write(f"corepy cache: {error}\n")
        return FAILED
    sys.stdout.write(f"{count} entries purged\n")
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="corepy cache", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    purge = commands.add_parser("purge", help="forget a name, or all names in a zone")
    what = purge.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", metavar="NAME", help="the name to forget")
    what.add_argument("-zone", "--zone", metavar="ZONE", help="forget all names in this zone")
    return parser


def _purge(what: str, name: str) -> int:
    """Ask every server; return how many entries went. Raises PurgeError."""
    try:
        line = f"{what} {to_text(from_text(name))}\n"
    except InvalidName as error:
        raise PurgeError(str(error)) from None
    found = sockets()
    if not found:
        raise PurgeError("no server with a cache runs here, or none that this user may command")
    return sum(_ask(path, line) for path in found)


def _ask(path: Path, line: str) -> int:
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_PATIENCE)
            sock.connect(str(path))
            sock.sendall(line.encode())
            answer = sock.recv(LONGEST_LINE).decode("utf-8", "surrogateescape").strip()
    except OSError as error:
        raise PurgeError(f"{path}: {error.strerror or error}") from None
    verdict, _, rest = answer.partition(" ")
    if verdict != "ok":
        raise PurgeError(f"{path}: {rest or 'no answer'}")
    return int(rest)
