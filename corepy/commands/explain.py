"""`corepy explain`: how a configuration, or a running server, processes one question."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from corepy import corefile
from corepy.flags import EXIT_USAGE, Parser
from corepy.plugin.errors import CommandError, StartupError
from corepy.server.options import DEFAULT_PORT, EXIT_FAILURE, EXIT_OK, Options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from corepy.server.explain.explainer import Asked

_DESCRIPTION = """\
Show which server block answers a query and why, what each plugin of its chain does with it, and
the reply. Without -server, no server needs to run, no port is opened and the host is not changed.
Upstreams are queried, unless -dry is given."""


class _FailedError(Exception):
    """The explanation failed; the message is for the operator."""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    flags = parser().read(arguments)
    if flags.server and (flags.conf is not None or flags.dry):
        other = "-dry" if flags.dry else "-conf"
        sys.stderr.write(f"corepy explain: -server and {other} exclude each other\n")
        return EXIT_USAGE
    try:
        found = _by_servers(flags) if flags.server else [_by_corefile(flags)]
    except _FailedError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILURE
    if flags.json:
        sys.stdout.write(json.dumps(found if flags.server else found[0], indent=2) + "\n")
    else:
        from corepy.commands.explanation import render

        sys.stdout.write("\n".join(render(explanation) for explanation in found))
    return EXIT_OK


def parser() -> Parser:
    """Return the parser for the arguments of `corepy explain`."""
    parser = Parser(
        "corepy explain",
        "corepy explain [-conf FILE | -server] [OPTION]... NAME [TYPE] [CLIENT]",
        _DESCRIPTION,
    )
    flag = parser.flag
    flag("conf", metavar="FILE", help='Corefile to explain, or "stdin" (default "Corefile")')
    flag(
        "dns.port", "p", dest="port", type=_number, default=DEFAULT_PORT, metavar="PORT",
        help="port for zones without a port (default 53)",
    )  # fmt: skip
    flag(
        "plugin-order",
        dest="plugin_order",
        metavar="FILE",
        help="rules that change the order of the chain, as for corepy",
    )
    flag(
        "server",
        action="store_true",
        help="ask the running servers of this host, over their control sockets",
    )
    flag(
        "at",
        default="",
        metavar="ADDRESS",
        help="listen address that receives the query, IP or IP:PORT",
    )
    flag("tcp", action="store_true", help="send the query over TCP")
    flag("do", action="store_true", help="request DNSSEC records")
    flag(
        "edns", type=_number, default=1232, metavar="SIZE",
        help="UDP payload size in EDNS, 0 for no EDNS (default 1232)",
    )  # fmt: skip
    flag(
        "class",
        dest="class_",
        default="IN",
        metavar="CLASS",
        help="class of the query (default IN)",
    )
    flag(
        "times", type=_number, default=1, metavar="N",
        help="send the query N times and explain the last (default 1)",
    )  # fmt: skip
    flag("dry", action="store_true", help="query no upstream, and show which would be queried")
    flag("json", action="store_true", help="print JSON")
    parser.add_argument("name", metavar="NAME", help="name of the query")
    parser.add_argument(
        "type", metavar="TYPE", nargs="?", default="A", help="record type (default A)"
    )
    parser.add_argument(
        "client", metavar="CLIENT", nargs="?", default="",
        help="IP address of the client, for plugins that use it",
    )  # fmt: skip
    return parser


def _number(text: str) -> int:
    import argparse

    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number (0 to 65535)")
    return int(text)


def _asked(flags: argparse.Namespace) -> Asked:
    from corepy.server.explain.explainer import Asked

    return Asked(
        flags.name,
        flags.type,
        flags.class_,
        flags.client,
        "tcp" if flags.tcp else "udp",
        flags.edns,
        flags.do,
        flags.at,
        flags.times,
    )


def _by_servers(flags: argparse.Namespace) -> list[dict[str, Any]]:
    """Ask each server that runs on this host, and report those that cannot explain the question.

    A server may listen at other addresses, or be about to start. Raises `_FailedError` if all fail.
    """
    from corepy.plugin.control_client import ControlError, ServerGoneError, ask, process_of, sockets

    question = asdict(_checked(flags))
    found: list[dict[str, Any]] = []
    problems = []
    for path in sockets():
        try:
            found.append({"process": process_of(path), **ask(path, "explain", question)})
        except ServerGoneError:
            continue
        except ControlError as error:
            problems.append(f"corepy explain: process {process_of(path)}: {error}")
    nobody = "corepy explain: no server runs here, or this user may not use its control socket"
    if not found:
        raise _FailedError("\n".join(problems) or nobody)
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return found


def _checked(flags: argparse.Namespace) -> Asked:
    asked = _asked(flags)
    try:
        asked.check()
    except CommandError as error:
        raise _FailedError(f"corepy explain: {error}") from None
    return asked


def _by_corefile(flags: argparse.Namespace) -> dict[str, Any]:
    """Explain the answer of a server with this Corefile; raises `_FailedError`."""
    from corepy.plugin.log import configure, unconfigure
    from corepy.plugin.output import WRITER
    from corepy.server.build.loader import Loader, unreadable
    from corepy.server.explain.explainer import rehearse

    asked, lines = _checked(flags), list[str]()
    configure()
    WRITER.divert = lines.append
    try:
        options = Options(flags.conf, flags.port, plugin_order=flags.plugin_order)
        generation = Loader(options).load(checking=True)
        if generation.warnings:
            sys.stderr.write(f"{corefile.render(generation.warnings)}\n")
        explanation = asyncio.run(rehearse(generation, asked, offline=flags.dry))
    except corefile.CorefileError as error:
        raise _FailedError(str(error)) from None
    except OSError as error:
        raise _FailedError(unreadable(error)) from None
    except (StartupError, CommandError) as error:
        raise _FailedError(f"corepy explain: {error}") from None
    finally:
        WRITER.flush()
        WRITER.divert = None
        unconfigure()
    return {**explanation, "log": lines}
