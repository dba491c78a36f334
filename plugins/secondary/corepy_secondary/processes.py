"""What the *secondary* directives of a process share: the zones that they follow, over reloads.

With *multisocket*, each process follows the zones by itself. A notification arrives at one of them,
which passes it on: to the leader, and from there to all others.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakKeyDictionary

from corepy.net.channel import Channel, Refusal

if TYPE_CHECKING:
    import socket

    from corepy.plugin import ProcessGroup
    from corepy_secondary.fetching import Primary
    from corepy_secondary.follower import Follower

NAME: Final = "secondary"


class Notified(Protocol):
    """A handler that follows zones."""

    def notified(self, zone: bytes, address: bytes) -> None:
        """Check a zone, if the handler follows it."""


class Zones:
    """The zones that a process follows."""

    def __init__(self) -> None:
        self._followers: dict[tuple[bytes, tuple[Primary, ...]], Follower] = {}
        self._handlers: list[Notified] = []
        self._channels: set[Channel] = set()
        self._group: ProcessGroup | None = None

    # -- the zones of an earlier generation

    def find(self, origin: bytes, primaries: tuple[Primary, ...]) -> Follower | None:
        """Return the follower of a zone with the same primary servers, None without one."""
        return self._followers.get((origin, primaries))

    def add(self, follower: Follower) -> None:
        """Let a later generation find a follower."""
        self._followers[follower.origin, follower.primaries] = follower

    def remove(self, follower: Follower) -> None:
        """Forget a follower, unless a later one has taken its place."""
        key = follower.origin, follower.primaries
        if self._followers.get(key) is follower:
            del self._followers[key]

    # -- notifications

    async def join(self, handler: Notified, group: ProcessGroup) -> None:
        """Pass the notifications of all processes to a handler."""
        self._handlers.append(handler)
        if group.size == 1 or self._group is not None:
            return
        self._group = group
        if group.is_leader:
            group.listen(NAME, self._connected)
        else:
            with suppress(OSError):  # it follows its zones without notifications then
                self._connected(await group.connect(NAME))

    def leave(self, handler: Notified) -> None:
        """Forget a handler; after the last one, disconnect the processes."""
        self._handlers.remove(handler)
        if self._handlers or self._group is None:
            return
        self._group.stop_listening(NAME, self._connected)
        self._group = None
        for channel in list(self._channels):
            channel.close()

    def tell(self, zone: bytes, address: bytes) -> None:
        """Notify the other processes."""
        self._tell((zone, address), None)

    def _tell(self, notice: tuple[bytes, bytes], source: Channel | None) -> None:
        for channel in self._channels:
            if channel is not source:
                channel.begin(NAME, notice)

    def _connected(self, sock: socket.socket) -> None:
        async def handle(what: str, notice: Any, _: list[int]) -> object:
            if what != NAME:
                raise Refusal(f"unknown request {what!r}")
            self._tell(notice, channel)
            for handler in self._handlers:
                handler.notified(*notice)
            return None

        channel = Channel(sock, handle, lambda: self._channels.discard(channel))
        self._channels.add(channel)


_zones: WeakKeyDictionary[asyncio.AbstractEventLoop, Zones] = WeakKeyDictionary()


def shared_zones() -> Zones:
    """Return the zones of this process (of the running event loop)."""
    loop = asyncio.get_running_loop()
    found = _zones.get(loop)
    if found is None:
        found = _zones[loop] = Zones()
    return found
