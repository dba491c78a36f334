"""The commands of a running server, which arrive at its control socket.

`explain` is implemented by the server, all others by plugins (the hook `command`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corepy.plugin.errors import UnknownCommandError

if TYPE_CHECKING:
    from corepy.server.server import Server


async def run_command(server: Server, name: str, argument: Any) -> Any:
    """Carry out the command `name`; return plain data for JSON. Raises `CommandError`."""
    if name == "explain":
        from corepy.server.explain.explainer import explain_live

        return await explain_live(server, argument)
    results = await server.command(name, argument)
    if not results:
        raise UnknownCommandError(f"no plugin of this server provides the command {name!r}")
    return results
