"""The processes of a server (*multisocket*) as objects of one test."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from corepy.plugin import ProcessGroup

if TYPE_CHECKING:
    from collections.abc import Callable


class LinkedProcess(ProcessGroup):
    """One of two processes: the leader, or with the argument `leader` its follower."""

    size = 2

    def __init__(self, leader: LinkedProcess | None = None) -> None:
        self.is_leader = leader is None
        self.leader = leader or self
        self.names: dict[str, Callable[[socket.socket], object]] = {}

    def listen(self, name: str, connected: Callable[[socket.socket], object]) -> None:
        """Let followers connect under a name."""
        self.names[name] = connected

    def stop_listening(self, name: str, connected: Callable[[socket.socket], object]) -> None:
        """Refuse followers; raises AssertionError if `connected` has not listened."""
        assert self.names.pop(name) == connected

    async def connect(self, name: str) -> socket.socket:
        """Connect to the leader; raises ConnectionRefusedError if it does not listen."""
        connected = self.leader.names.get(name)
        if connected is None:
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        connected(theirs)
        return ours
