"""`corepy top`: shows what a running server does, like top(1)."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

from corepy.commands.running_servers import add_pid, answers
from corepy.commands.standard_output import write_output
from corepy.flags import Parser
from corepy.server.options import EXIT_FAILURE, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.commands.top.glyphs import Glyphs

_DESCRIPTION = """\
Show what a running server of this host does: queries, latency, caches, upstreams, listeners, and
the clients and names with the most queries. The screen refreshes; the key h lists its keys."""

SHORTEST = 0.2
LONGEST = 3600.0


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    flags = parser().read(arguments)
    if flags.once or flags.json:
        return _once(flags)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        sys.stderr.write(
            "corepy top: standard input and output must be a terminal (kubectl exec -it), or use"
            " -once or -json\n"
        )
        return EXIT_FAILURE
    return _run(flags)


def parser() -> Parser:
    """Return the parser for the arguments of `corepy top`."""
    parser = Parser("corepy top", "corepy top [OPTION]...", _DESCRIPTION)
    flag = parser.flag
    flag("once", action="store_true", help="print the figures of all servers once, and quit")
    flag("json", action="store_true", help="print the statistics of all servers as JSON, and quit")
    flag(
        "interval", type=_interval, default=2.0, metavar="SECONDS",
        help="seconds between two refreshes (default 2)",
    )  # fmt: skip
    add_pid(parser, "show the server with this process ID")
    flag("ascii", action="store_true", help="draw graphs with ASCII characters only")
    return parser


def _interval(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not SHORTEST <= value <= LONGEST:
        limits = f"{SHORTEST:g} to {LONGEST:g}"
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds ({limits})")
    return value


def glyphs(flags: argparse.Namespace, *, is_plain: bool = False) -> Glyphs:
    """Return how to draw, by the flags, NO_COLOR and the encoding of standard output."""
    from corepy.commands.top.glyphs import Glyphs

    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return Glyphs(
        has_colors=not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        is_plain=is_plain,
        is_ascii=flags.ascii or encoding != "utf8",
    )


def _once(flags: argparse.Namespace) -> int:
    from corepy.plugin.control_client import ControlError

    try:
        documents = _documents(flags)
    except ControlError as error:
        sys.stderr.write(f"corepy top: {error}\n")
        return EXIT_FAILURE
    if flags.json:
        write_output(json.dumps(documents, indent=2) + "\n")
    else:
        from corepy.commands.top.report import report

        width = max(80, shutil.get_terminal_size().columns)
        drawn = glyphs(flags, is_plain=True)
        write_output("\n".join(report(document, drawn, width) for document in documents))
    return EXIT_OK


def _documents(flags: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the statistics of all servers of this host, or of one; raises `ControlError`."""
    found = answers("stats", {"top": 20, "history": True}, pid=flags.pid)
    return [statistics for _, statistics in found]


def _run(flags: argparse.Namespace) -> int:
    """Run the screen until the operator ends it."""
    from corepy.commands.top.stats_poller import StatsPoller
    from corepy.commands.top.terminal import Interrupted, Terminal, TerminalGoneError
    from corepy.commands.top.top_session import TopScreen

    terminal = Terminal(sys.stdin.fileno(), sys.stdout.fileno())
    screen = TopScreen(glyphs(flags), flags.interval)
    poller = StatsPoller(flags.interval, terminal.wake, flags.pid)
    try:
        with terminal.opened():
            poller.start()
            while not screen.is_over:
                screen.take(poller.polled)
                terminal.draw(screen.lines(*terminal.size))
                for key in terminal.wait():
                    poller.carry_out(screen.press(key), screen.interval)
    except (Interrupted, TerminalGoneError):
        pass
    finally:
        poller.stop()
    return EXIT_OK
