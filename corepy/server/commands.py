"""The commands of a running server, which arrive at its control socket.

`explain`, `stats`, `status`, `corefile` and `tail` are implemented by the server, all others by
plugins (the hook `command`). A server of several processes has one control socket, that of the
leader. Commands about queries are carried out in each process (`run_local`), and the leader merges
the results.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin.errors import UnknownCommandError

if TYPE_CHECKING:
    from corepy.server.server import Server
    from corepy.server.traffic.figures import Report

REPORT: Final = "report"
"""A command of the leader to the other processes: report the figures."""


def accept_commands(server: Server) -> None:
    """Let plugins and the control socket run commands on `server`."""
    server.run_command = partial(run_command, server)


async def run_command(server: Server, name: str, argument: Any) -> Any:
    """Carry out the command `name`; return plain data for JSON. Raises `CommandError`."""
    if name == "explain":
        from corepy.server.explain.explainer import explain_live

        return await explain_live(server, argument)
    if name == "stats":
        return await _stats(server, argument)
    if name == "status":
        from corepy.server.traffic import server_status

        return await server_status.document(server, await _reports(server, {"top": 0}))
    if name == "corefile":
        from corepy.server import corefile_report

        return await corefile_report.document(server)
    if name == "tail":
        from corepy.server.traffic.tail import tail

        return await tail(server, argument)
    results = await server.command(name, argument)
    if not results:
        raise UnknownCommandError(f"no plugin of this server provides the command {name!r}")
    return results


async def run_local(server: Server, name: str, argument: Any) -> Any:
    """Carry out a command of the leader in this process; return a list of results."""
    if name == REPORT:
        from corepy.server.traffic.figures import Asked, local_report

        return [local_report(server, Asked.of(argument))]
    if name == "tail":
        from corepy.server.traffic.tail import tail_here

        return [await tail_here(server.traffic.watchers, argument)]
    return await server.command(name, argument)


async def _stats(server: Server, argument: Any) -> dict[str, Any]:
    from corepy.server.traffic.figures import Asked, document

    asked = Asked.of(argument)
    return document(server, await _reports(server, argument), asked)


async def _reports(server: Server, argument: Any) -> list[Report]:
    """Return the reports of all processes, that of the leader first."""
    from corepy.server.traffic.figures import Asked, local_report

    return [
        local_report(server, Asked.of(argument)),
        *await server.ask_followers(REPORT, argument),
    ]
