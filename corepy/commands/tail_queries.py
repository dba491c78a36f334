"""`corepy tail`: the queries of the running servers of this host, live and filtered.

The filter is evaluated in the servers (`corepy.server.traffic.watchers`). Queries that a server
leaves out, because there are too many, are counted and reported on standard error.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from corepy.commands.figures_text import number, printable, seconds
from corepy.commands.running_servers import add_pid, answers
from corepy.commands.standard_output import write_output
from corepy.flags import Parser
from corepy.plugin.control_client import ControlError, ServerGoneError, ask
from corepy.plugin.errors import CommandError
from corepy.server.options import EXIT_FAILURE, EXIT_OK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

WAIT: Final = 0.5
"""Seconds that one poll of all servers waits for a query."""

_REPORT_INTERVAL: Final = 5.0
_WATCHED_ENDS: Final = "the server has stopped, or it has restarted"


def main(arguments: Sequence[str]) -> int:
    """Run the command until it is interrupted and return its exit code."""
    flags = parser().read(arguments)
    try:
        found = answers("tail", _argument(flags), pid=flags.pid)
    except (CommandError, ControlError) as error:
        sys.stderr.write(f"corepy tail: {error}\n")
        return EXIT_FAILURE
    watched = {path: opened["id"] for path, opened in found}
    tail = _Tail(watched, as_json=flags.json, most=flags.count)
    try:
        return tail.run()
    except KeyboardInterrupt:
        return EXIT_OK
    finally:
        tail.stop()


def parser() -> Parser:
    """Return the parser for the arguments of `corepy tail`."""
    parser = Parser(
        "corepy tail",
        "corepy tail [-name ZONE] [-client CIDR] [-type TYPE] [-rcode RCODE] [-slow DURATION]\n"
        "                   [-count N] [-json] [-pid PID]",
        "Show the queries of the running servers of this host as they are answered.",
    )
    flag = parser.flag
    flag("name", metavar="ZONE", help="only this name and the names below it")
    flag("client", metavar="CIDR", help="only clients of this network, or of this address")
    flag("type", metavar="TYPE", help="only queries of this type, such as AAAA")
    flag("rcode", metavar="RCODE", help="only replies with this code, such as NXDOMAIN")
    flag("slow", type=_duration, metavar="DURATION", help="only queries that took as long, as 50ms")
    flag("count", type=_count, metavar="N", help="quit after N queries")
    flag("json", action="store_true", help="print a JSON object per line")
    add_pid(parser, "only the server with this process ID")
    return parser


def _duration(text: str) -> float:
    import argparse

    from corepy.plugin.duration import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    import argparse

    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 10 or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of queries")
    return int(text)


def _argument(flags: argparse.Namespace) -> dict[str, Any]:
    """Return the argument of the command `tail`; raises `CommandError` for a wrong filter.

    Each server would report the same mistake.
    """
    from corepy.server.traffic.watchers import Filter

    known = {key: getattr(flags, key) for key in ("name", "client", "type", "rcode", "slow")}
    wanted = {key: value for key, value in known.items() if value is not None}
    Filter.of(wanted)
    return {"filter": wanted}


class _Tail:
    """Polls the watchers of the servers, and prints the queries."""

    def __init__(self, watched: dict[Path, str], *, as_json: bool, most: int | None) -> None:
        """`watched` has the watcher in each server, by its socket; `most` ends it."""
        self._watched = watched
        self._line = json.dumps if as_json else line_of
        self._left = most
        self._left_out = self._seen = 0
        self._reported = time.monotonic()

    def run(self) -> int:
        """Poll until `most` queries were printed, or no server is left."""
        while self._watched:
            for path in list(self._watched):
                if not self._poll(path):
                    return EXIT_OK
            if time.monotonic() - self._reported > _REPORT_INTERVAL:
                self._report()
        sys.stderr.write(f"corepy tail: {_WATCHED_ENDS}\n")
        return EXIT_FAILURE

    def _poll(self, path: Path) -> bool:
        """Print the queries of one server; return False after the last one that is wanted."""
        argument = {"id": self._watched[path], "wait": WAIT / len(self._watched)}
        try:
            found = ask(path, "tail", argument)
        except ServerGoneError:
            del self._watched[path]
            return True
        except ControlError as error:
            sys.stderr.write(f"corepy tail: {error}\n")
            del self._watched[path]
            return True
        self._seen += found["seen"]
        self._left_out += sum(found["left_out"].values())
        events = found["events"] if self._left is None else found["events"][: self._left]
        if events:
            write_output("".join(f"{self._line(event)}\n" for event in events))
        if self._left is None:
            return True
        self._left -= len(events)
        return self._left > 0

    def _report(self) -> None:
        """Report the queries that were left out since the last report."""
        if self._left_out:
            sys.stderr.write(
                f"corepy tail: {number(self._left_out)} of {number(self._seen)} queries were not"
                " looked at or not shown, because there are too many\n"
            )
        self._left_out = self._seen = 0
        self._reported = time.monotonic()

    def stop(self) -> None:
        """Remove the watchers."""
        self._report()
        for path, name in self._watched.items():
            try:
                ask(path, "tail", {"id": name, "stop": True})
            except ControlError:
                continue


def line_of(event: dict[str, Any]) -> str:
    """Return one line of text for a query."""
    moment = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    fraction = int(event["time"] % 1 * 1000)
    host = f"[{event['client']}]" if ":" in event["client"] else event["client"]
    words = [
        f"{moment}.{fraction:03}",
        f"{host}:{event['port']}",
        event["protocol"],
        event["name"],
        event["type"] if event["class"] == "IN" else f"{event['class']} {event['type']}",
        event["rcode"] or "no reply",
        seconds(event["seconds"]),
        f"{event['size']} B",
        f"by {event['source']}" if event["source"] else "",
        f"({event['error']})" if event["error"] else "",
    ]
    return printable("  ".join(word for word in words if word))
