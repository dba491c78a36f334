"""`ProcessGroup`: the processes of one server, as seen by plugins.

With *multisocket*, a server consists of several processes that share its addresses: the process
that was started, the *leader*, and its child processes, the *followers*. Each process has its own
chains, caches and connections; for clients they are one server. A plugin that manages a resource of
the host, or an address that only one process can use, acts only in the leader. If it does nothing
else, it sets `acts_once = True` beside `api_version`, and is not even set up in the followers. If
it also has a handler, it checks `LifecycleContext.process_group.is_leader`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ProcessGroup:
    """A server with a single process; base class for servers with several."""

    is_leader: bool = True
    """Whether this process is the leader."""

    size: int = 1
    """Number of processes that share this server's resource limits."""

    @property
    def followers(self) -> Sequence[int]:
        """The process IDs of this leader's followers."""
        return ()

    @property
    def is_ready(self) -> bool:
        """Whether all followers are running and their plugins are ready."""
        return True

    def problems(self) -> list[str]:
        """Return a line for each process that has sockets but does not respond."""
        return []

    async def gather(self) -> None:
        """Update the metrics with the counts of the other processes."""
