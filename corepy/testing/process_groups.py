"""The processes of a server (*multisocket*), as objects of one test."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from corepy.plugin import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Callable


class GroupInProcess(ProcessGroup):
    """One process of a group whose processes are objects, or event loops, of one test."""

    size = 2

    def __init__(self, listening: dict[str, Any], *, is_leader: bool = False) -> None:
        """Take the names at which the leader listens: one table for all processes of the group."""
        self.is_leader = is_leader
        self.listening = listening

    def listen(self, name: str, connected: Callable[[socket.socket], object]) -> None:
        """Pass the socket of each follower that connects to `name` to `connected`."""
        self.listening[name] = connected

    def stop_listening(self, name: str, connected: Callable[[socket.socket], object]) -> None:
        """Refuse further connections to `name`, unless another object uses it."""
        if self.listening.get(name) == connected:
            del self.listening[name]

    async def connect(self, name: str) -> socket.socket:
        """Return a connection to the leader; raises OSError if nothing listens at the name."""
        if name not in self.listening:
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.listening[name](theirs)
        return ours


class LinkedProcess(GroupInProcess):
    """One of two processes: the leader, or with the argument `leader` its follower."""

    def __init__(self, leader: LinkedProcess | None = None) -> None:
        super().__init__({} if leader is None else leader.listening, is_leader=leader is None)

    def stop_listening(self, name: str, connected: Callable[[socket.socket], object]) -> None:
        """Refuse followers; raises AssertionError if `connected` has not listened."""
        assert self.listening.pop(name) == connected
