"""`corepy status`: the running servers of this host at a glance.

The exit code is 0 if all is well, 1 if no server answers, and 3 if a server has a problem.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from corepy.commands.running_servers import add_pid, answers
from corepy.commands.standard_output import write_output
from corepy.flags import Parser
from corepy.plugin.control_client import ControlError
from corepy.server.options import EXIT_FAILURE, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_PROBLEM: Final = 3
"""The exit code if a server runs and has a problem."""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    flags = parser().read(arguments)
    try:
        found = [status for _, status in answers("status", pid=flags.pid)]
    except ControlError as error:
        sys.stderr.write(f"corepy status: {error}\n")
        return EXIT_FAILURE
    if flags.json:
        write_output(json.dumps(found, indent=2) + "\n")
    else:
        from corepy.commands.status_text import render

        write_output("\n".join(map(render, found)))
    return EXIT_PROBLEM if any(status["problems"] for status in found) else EXIT_OK


def parser() -> Parser:
    """Return the parser for the arguments of `corepy status`."""
    parser = Parser(
        "corepy status",
        "corepy status [-json] [-pid PID]",
        "Show the state of the running servers of this host.",
        "exit code: 0 if all is well, 1 if no server answers, 3 if a server has a problem",
    )
    parser.flag("json", action="store_true", help="print JSON, a list with an object per server")
    add_pid(parser, "only the server with this process ID")
    return parser
