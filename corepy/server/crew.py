"""What a server asks of its crew while generations change.

This one is the crew of a server that is one process, and of each process that follows a leader:
there is nobody to ask. `corepy.server.leader` has the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corepy.plugin import Crew

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.server.endpoint import Endpoint, Listen
    from corepy.server.generation import Generation


class ServerCrew(Crew):
    """See the module. The steps of a change are those of `Server`, in the same order."""

    shares_sockets: bool = False
    """Whether an address may have more sockets than this process answers at."""

    def has(self, place: int) -> bool:
        """Return whether another process answers at the sockets of this place."""
        return False

    def open_to(self, server: Endpoints) -> None:
        """Get to know the server, before anything else."""

    def expect(self, generation: Generation) -> None:
        """Take note of what the next steps are for; `size` is what it needs from now on."""

    async def prepare(self) -> None:
        """Let every process build it; raises `StartupError` if one refuses."""

    async def switch(self) -> None:
        """Let every process answer by it; raises `StartupError` if one refuses."""

    async def settle(self) -> None:
        """Let every process end what was before; those that nobody needs any more end whole."""

    async def undo(self) -> None:
        """Go back to what was before the last `prepare`."""

    async def stop(self) -> None:
        """Let every process drain and end."""

    async def command(self, name: str, argument: Any) -> list[dict[str, Any]]:
        """Return what the plugins of the other processes answer to an operator's command.

        Raises `CommandError`.
        """
        return []


class Endpoints:
    """The sockets of the other places, as the crew needs them: `Server` is one."""

    shared: Mapping[tuple[Listen, int], Endpoint]

    def stand_in(self, place: int) -> None:
        """Answer at the sockets of a place whose process is gone."""
        raise NotImplementedError

    def step_aside(self, place: int) -> None:
        """Leave the sockets of a place to its process."""
        raise NotImplementedError
