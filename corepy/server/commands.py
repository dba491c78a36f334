"""What can be asked of a running server at its control socket: commands of its plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corepy.server.server import Server


async def obey(server: Server, name: str, argument: Any) -> Any:
    """Carry out the command `name`; return what JSON can say. Raises `CommandError`."""
    return await server.command(name, argument)
