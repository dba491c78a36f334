"""`ProcessGroup`: the processes of one server, as seen by plugins.

With *multisocket*, a server consists of several processes that share its addresses: the process
that was started, the *leader*, and its child processes, the *followers*. Each process has its own
chains, caches and connections; for clients they are one server. A plugin that manages a resource of
the host, or an address that only one process can use, acts only in the leader. If it does nothing
else, it sets `acts_once = True` beside `api_version`, and is not even set up in the followers. If
it also has a handler, it checks `LifecycleContext.process_group.is_leader`.

A plugin whose followers have something for the leader, or the other way round, connects them: the
leader's plugin calls `listen`, that of each follower `connect`, both with the same name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence


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

    def listen(self, name: str, connected: Callable[[socket.socket], object]) -> None:
        """In the leader, pass the socket of each follower that connects to `name` to `connected`.

        The name is that of the directive, if need be with more words. Followers may connect from
        now on, also those of a later generation, until `stop_listening`. In a follower, and in a
        server with a single process, `connected` is never called. Raises ValueError if the name is
        in use.
        """

    def stop_listening(self, name: str, connected: Callable[[socket.socket], object]) -> None:
        """Refuse further connections to `name`; those that exist stay open.

        It has no effect unless `listen` was called with this name and `connected`. So `shutdown`
        may call it after `listen` has failed: the object that uses the name keeps it.
        """

    async def connect(self, name: str) -> socket.socket:
        """Return a connection of this follower to the leader's plugin that listens at `name`.

        It is a non-blocking stream socket of the Unix domain, and ends with either process. The
        leader handles the hook `before_listen` first, so this one may connect there. Raises OSError
        if nothing listens at the name, or if this process is the leader.
        """
        raise ConnectionRefusedError(f"nothing listens at {name!r}: this process is the leader")
