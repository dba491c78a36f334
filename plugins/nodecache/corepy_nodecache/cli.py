"""`corepy nodecache status | plan | teardown`: commands that do not need a running server."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from corepy.plugin.arguments import Parser
from corepy_nodecache import survey
from corepy_nodecache.claims import Claims
from corepy_nodecache.driver import NO_DUMMY, lacks_dummy
from corepy_nodecache.link import Links
from corepy_nodecache.model import DesiredState, HostError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from corepy_nodecache.blocks import Plan

OK: Final = 0
FAILED: Final = 1

_HEADERS: Final = {
    "status": ("KIND", "WHERE", "WHAT", "STATE"),
    "plan": ("ACTION", "WHAT"),
    "teardown": ("DONE",),
}
_NOTHING: Final = {
    "status": "This host has no interfaces, addresses or rules of corepy.",
    "plan": "Nothing to change.",
    "teardown": "This host had no interfaces, addresses or rules of corepy.",
}


def main(argv: list[str]) -> int:
    """Run one command; return the exit code: 0, or 1 after an error message on standard error."""
    options = _parser().read(argv)
    try:
        rows = _rows(options)
    except HostError as error:
        sys.stderr.write(f"corepy nodecache: {error}\n")
        return FAILED
    headers = _HEADERS[options.command]
    if options.json:
        names = [header.lower() for header in headers]
        objects = [dict(zip(names, row, strict=True)) for row in rows]
        sys.stdout.write(json.dumps(objects, indent=2) + "\n")
    else:
        sys.stdout.write(_table(headers, rows) if rows else _NOTHING[options.command] + "\n")
    return OK


def _parser() -> Parser:
    parser = Parser(
        "corepy nodecache", None, "Show, plan or remove the changes of nodecache to this host."
    )
    status = parser.command("status", "list the interfaces, addresses and rules of corepy")
    plan = parser.command("plan", "list the changes that a start with a Corefile would make")
    status.flag("conf", metavar="FILE", help="also list the missing parts of this Corefile's setup")
    plan.flag("conf", metavar="FILE", default="Corefile", help='the Corefile (default "Corefile")')
    for command in (status, plan):
        command.flag(
            "dns.port",
            "p",
            dest="port",
            type=int,
            default=53,
            metavar="PORT",
            help="port for zones without a port (default 53)",
        )
    teardown = parser.command("teardown", "remove all interfaces, addresses and rules of corepy")
    teardown.flag(
        "force", action="store_true", help="also while corepy runs, which will restore them"
    )
    for command in (status, plan, teardown):
        command.flag("json", action="store_true", help="print JSON")
    return parser


def _rows(options: argparse.Namespace) -> Sequence[Sequence[str]]:
    links = Links()
    if options.command == "status":
        return survey.findings(links, _load(options) if options.conf else None)
    if options.command == "plan":
        found = survey.steps(_load(options), links)
        _warn_without_driver(found)
        return found
    if Claims().others() != DesiredState() and not options.force:
        message = "corepy is running on this host and would restore everything: stop it first"
        raise HostError("interface_check", message)
    return [(line,) for line in survey.remove_everything(links)]


def _warn_without_driver(steps: Sequence[survey.Step]) -> None:
    """Warn on standard error if the steps add an interface that this kernel cannot create."""
    kind = "interface "
    devices = [it.what.removeprefix(kind) for it in steps if it.what.startswith(kind)]
    if devices and lacks_dummy():
        problem = NO_DUMMY.format(device=devices[0])
        sys.stderr.write(f"corepy nodecache: a start would fail: {problem}\n")


def _load(options: argparse.Namespace) -> Plan:
    from corepy_nodecache.blocks import load_plan

    plan = load_plan(options.conf, options.port)
    sys.stderr.writelines(f"{warning}\n" for warning in plan.warnings)
    return plan


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = [headers, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
    return "\n".join(lines) + "\n"
