"""Passes the copy of the leader on to the other processes of a server (*multisocket*).

Only the leader follows etcd. For each follower it keeps the set of keys whose present state the
follower does not have; at first, these are all. It sends them in portions, each after the follower
has taken the one before, so a slow follower costs no more memory than its set.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.net.channel import Channel, ChannelClosed, Refusal
from corepy.plugin.leader_channel import LeaderChannel

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from corepy.plugin import ProcessGroup
    from corepy_etcd.skydns import Entry
    from corepy_etcd.store import Store

PORTION: Final = 200
"""Keys of one message, which take about a millisecond."""

MOST_REMOVED: Final = 10_000
"""Keys that wait for a follower, besides those of the copy; beyond, it is disconnected."""

_CHANGES: Final = "changes"


class Portion(NamedTuple):
    """A message of the leader."""

    entries: list[tuple[bytes, Entry | None]]
    leases: dict[int, float]
    is_complete: bool
    """Whether the follower has all that the leader has, which is synchronized with etcd."""

    serial: int


class LeaderState(NamedTuple):
    """What the leader knows besides its store."""

    is_synced: bool
    serial: int


class Publisher:
    """Sends the copy to followers, in the leader."""

    def __init__(
        self, group: ProcessGroup, name: str, store: Store, state: Callable[[], LeaderState]
    ) -> None:
        self._group = group
        self._name = name
        self._store = store
        self._state = state
        self._followers: set[_Feed] = set()
        group.listen(name, self._connected)

    def changed(self, key: bytes) -> None:
        """Send the state of a key to all followers, unless one has taken nothing for too long."""
        most = len(self._store.entries) + MOST_REMOVED
        for follower in tuple(self._followers):
            follower.keys[key] = None
            follower.wake.set()
            if len(follower.keys) > most:
                follower.channel.close()

    def lease_checked(self, lease: int) -> None:
        """Send the end of a lease to all followers."""
        for follower in self._followers:
            follower.leases.add(lease)
            follower.wake.set()

    def synced(self) -> None:
        """Tell all followers that the copy is complete."""
        for follower in self._followers:
            follower.wake.set()

    def close(self) -> None:
        """Disconnect all followers."""
        self._group.stop_listening(self._name, self._connected)
        for follower in tuple(self._followers):
            follower.channel.close()

    def _connected(self, sock: socket.socket) -> None:
        def closed() -> None:
            self._followers.discard(feed)
            feed.task.cancel()

        feed = _Feed(sock, closed, self._store, self._state)
        self._followers.add(feed)


class _Feed:
    """What one follower does not have yet."""

    def __init__(
        self,
        sock: socket.socket,
        closed: Callable[[], None],
        store: Store,
        state: Callable[[], LeaderState],
    ) -> None:
        self.keys: dict[bytes, None] = dict.fromkeys(store.entries)
        self.leases: set[int] = set()
        self.wake = asyncio.Event()
        self.channel = Channel(sock, _refuse, closed)
        self._store = store
        self._state = state
        self.task = asyncio.create_task(self._send(), name="send etcd's services")

    async def _send(self) -> None:
        try:
            while True:
                self.wake.clear()
                await self.channel.ask(_CHANGES, self._portion())
                if not self.keys and not self.leases:
                    await self.wake.wait()
        except (ChannelClosed, Refusal):
            pass
        finally:
            self.channel.close()  # the follower connects again, and gets all keys

    def _portion(self) -> Portion:
        keys = list(islice(self.keys, PORTION))
        for key in keys:
            del self.keys[key]
        entries = [(key, self._store.entries.get(key)) for key in keys]
        ends = self._store.leases.ends
        wanted = self.leases | {it.lease for _, it in entries if it is not None}
        self.leases = set()
        is_synced, serial = self._state()
        leases = {lease: ends[lease] for lease in wanted if lease in ends}
        return Portion(entries, leases, is_synced and not self.keys, serial)


class Subscriber:
    """Receives the copy of the leader, in a follower."""

    def __init__(
        self, group: ProcessGroup, name: str, store: Store, complete: Callable[[int], object]
    ) -> None:
        """Call `complete` with the serial whenever the copy is complete."""
        self._store = store
        self._complete = complete
        self._seen: set[bytes] | None = None
        self._channel = LeaderChannel(
            group, name, self._take, opened=self._begin, task="receive etcd's services"
        )

    def close(self) -> None:
        """Receive no more."""
        self._channel.close()

    def _begin(self, _: Channel) -> None:
        """Receive all keys anew; those of before are served meanwhile."""
        self._seen = set()

    async def _take(self, request: str, portion: Any, _: list[int]) -> None:
        if request != _CHANGES:
            raise Refusal(f"unknown request {request!r}")
        for key, entry in portion.entries:
            self._store.replace(key, entry)
        self._store.leases.learn(portion.leases)
        if self._seen is not None:
            self._seen.update(key for key, _ in portion.entries)
        if not portion.is_complete:
            return
        seen, self._seen = self._seen, None
        if seen is not None:
            for key in [key for key in self._store.entries if key not in seen]:
                self._store.remove(key)
        self._complete(portion.serial)


async def _refuse(request: str, _body: Any, _: list[int]) -> None:
    raise Refusal("the leader takes no requests")
