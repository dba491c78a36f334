"""`corepy zone`: check a zone file, and compare two."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from corepy import corefile
from corepy.dns.names import to_text
from corepy.flags import EXIT_USAGE, Parser
from corepy.plugin.reading import read_file
from corepy.server.options import EXIT_FAILURE, EXIT_OK
from corepy.zone.changes import changes_between
from corepy.zone.master_file import LARGEST, MasterFileError, origin_from_text, read_zone
from corepy.zone.origin import guess_origin
from corepy.zone.writer import record_to_text
from corepy.zone.zone_check import ZoneCheck
from corepy.zone.zone_errors import ZoneError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

_ORIGIN = (
    "the zone's name, such as example.org (default: the owner of the SOA record if it is absolute,"
    " else the name in the file's name, such as db.example.org or example.org.zone)"
)


def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit code 1 for an invalid zone or a difference, 2 for failures."""
    flags = parser().read(arguments)
    command: Callable[[argparse.Namespace], int] = {"check": _check, "diff": _diff}[flags.command]
    try:
        return command(flags)
    except MasterFileError as error:
        sys.stderr.write(f"{corefile.render(error.diagnostics)}\n")
    except ZoneError as error:
        sys.stderr.write(f"corepy zone: {error}\n")
    except OSError as error:
        if error.filename is None:  # writing the output
            raise
        sys.stderr.write(f"corepy zone: {error.filename}: {error.strerror}\n")
    return EXIT_USAGE


def parser() -> Parser:
    """Return the parser for the arguments of `corepy zone`."""
    parser = Parser("corepy zone", None, "Check zone files, and compare them.")
    check = parser.command("check", "check a zone file, and list errors and doubtful data")
    check.flag("json", action="store_true", help="print the result as JSON")
    check.flag("strict", action="store_true", help="exit with 1 for warnings, too")
    check.add_argument("path", metavar="FILE", help="the zone file")
    check.add_argument("origin", metavar="ORIGIN", nargs="?", help=_ORIGIN)
    diff = parser.command("diff", "list the records in which two zone files differ")
    diff.add_argument("before", metavar="A", help="a zone file")
    diff.add_argument("after", metavar="B", help="another version of it")
    diff.add_argument("origin", metavar="ORIGIN", nargs="?", help=_ORIGIN)
    return parser


def _origin(path: Path, text: str | None) -> bytes:
    if text is not None:
        return origin_from_text(text)
    return guess_origin(path, read_file(path, LARGEST)[0])


def _check(flags: argparse.Namespace) -> int:
    path = Path(flags.path)
    origin = _origin(path, flags.origin)
    # time of day: signatures have dates
    check = ZoneCheck(path, origin, time.time())
    is_good = check.is_valid and not (flags.strict and check.problems)
    if flags.json:
        sys.stdout.write(f"{corefile.to_json(check.problems, valid=check.is_valid)}\n")
        return EXIT_OK if is_good else EXIT_FAILURE
    if check.problems:
        sys.stderr.write(f"{corefile.render(check.problems)}\n")
    if check.zone is not None:
        zone = check.zone
        counts = f"serial {zone.serial}, {zone.records} records"
        sys.stdout.write(f"{path}: the zone {to_text(origin)} is valid: {counts}\n")
    return EXIT_OK if is_good else EXIT_FAILURE


def _diff(flags: argparse.Namespace) -> int:
    """Print the records that only one file has, as lines of a zone file with a sign."""
    before, after = Path(flags.before), Path(flags.after)
    origin = _origin(before, flags.origin)
    zones = [read_zone(path, origin).zone for path in (before, after)]
    changes = changes_between(*zones)
    lines = [f"-{record_to_text(it)}\n" for it in changes.removed]
    lines += [f"+{record_to_text(it)}\n" for it in changes.added]
    sys.stdout.writelines(lines)
    return EXIT_FAILURE if lines else EXIT_OK
