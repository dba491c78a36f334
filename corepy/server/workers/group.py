"""The interface through which a server drives the other processes of its group.

`ServerProcessGroup` does nothing: it is used by a server of one process, and by each process that
follows a leader. `corepy.server.workers.leader` implements the interface for the leader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corepy.plugin import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.server.build.generation import Generation
    from corepy.server.listen.endpoint import Endpoint, Listen


class ServerProcessGroup(ProcessGroup):
    """Drives the other processes of a server; this base class has none.

    The steps of a change are those of `Server`, in the same order.
    """

    shares_sockets: bool = False
    """Whether an address may have more sockets than this process answers at."""

    def has(self, shard: int) -> bool:
        """Return whether another process answers at the sockets of this shard."""
        return False

    def open_to(self, server: Endpoints) -> None:
        """Store the server; called before any other method."""

    def expect(self, generation: Generation) -> None:
        """Store the generation of the next steps; `size` covers it from now on."""

    async def prepare(self) -> None:
        """Make every process build the generation; raises `StartupError` if one refuses."""

    async def activate(self) -> None:
        """Make every process answer with it; raises `StartupError` if one refuses."""

    async def finalize(self) -> None:
        """Make every process stop the old generation; stop the processes no longer needed."""

    async def rollback(self) -> None:
        """Return every process to the generation before the last `prepare`."""

    async def stop(self) -> None:
        """Make every process drain and exit."""

    async def command(self, name: str, argument: Any) -> list[dict[str, Any]]:
        """Return the results of the other processes' plugins for an operator's command.

        Raises `CommandError`.
        """
        return []


class Endpoints:
    """The sockets of the other processes, as the leader needs them; `Server` implements it."""

    shared: Mapping[tuple[Listen, int], Endpoint]

    @property
    def state_descriptor(self) -> int | None:
        """The last snapshot of the state in memory, for processes that start."""
        raise NotImplementedError

    def take_over_shard(self, shard: int) -> None:
        """Answer at the sockets of a shard whose process is not running."""
        raise NotImplementedError

    def hand_back_shard(self, shard: int) -> None:
        """Stop answering at the sockets of a shard whose process is running."""
        raise NotImplementedError
