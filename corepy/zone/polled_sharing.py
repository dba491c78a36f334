"""Passes the copies of the leader on to the other processes of a server (*multisocket*).

Only the leader lists hosted zones, because an API limits the requests of an account. A follower
names the zones that it serves. The leader sends it each new version in portions of records, each
after the follower has taken the one before, and the outcome of every list.
"""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from corepy.net.channel import Channel, ChannelClosed, Refusal
from corepy.plugin import in_thread
from corepy.plugin.leader_channel import LeaderChannel
from corepy.zone.polled_api import Outcome, PolledZone, ZoneIntake

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from corepy.plugin import ProcessGroup
    from corepy.zone.polled_copy import PolledCopy
    from corepy.zone.zone import Zone

PORTION: Final = 500
"""Records of one message, which take about a millisecond."""

_FOLLOW: Final = "follow"
_RECORDS: Final = "records"
_OUTCOME: Final = "outcome"


class Publisher:
    """Sends the copies to followers, in the leader."""

    def __init__(
        self, group: ProcessGroup, name: str, find: Callable[[PolledZone], PolledCopy | None]
    ) -> None:
        """`find` returns the copy of a zone, None if this process has none."""
        self._group = group
        self._name = name
        self._find = find
        self._feeds: set[_Feed] = set()
        group.listen(name, self._connected)

    def listed(self, zone: PolledZone) -> None:
        """Send the outcome of a list to the followers of a zone."""
        for feed in self._feeds:
            feed.listed(zone)

    def close(self) -> None:
        """Disconnect all followers."""
        self._group.stop_listening(self._name, self._connected)
        for feed in tuple(self._feeds):
            feed.channel.close()

    def _connected(self, sock: socket.socket) -> None:
        def closed() -> None:
            self._feeds.discard(feed)
            feed.task.cancel()

        feed = _Feed(sock, closed, self._find)
        self._feeds.add(feed)


class _Feed:
    """One follower: the zones that it serves, and those whose outcome it does not have."""

    def __init__(
        self,
        sock: socket.socket,
        closed: Callable[[], None],
        find: Callable[[PolledZone], PolledCopy | None],
    ) -> None:
        self.channel = Channel(sock, self._asked, closed)
        self._find = find
        self._sent: dict[PolledZone, Zone | None] = {}
        """The version that the follower has, by zone."""
        self._due: dict[PolledZone, None] = {}
        self._wake = asyncio.Event()
        self.task = asyncio.create_task(self._send(), name="send hosted zones")

    async def _asked(self, request: str, zone: Any, _: list[int]) -> None:
        if request != _FOLLOW:
            raise Refusal(f"unknown request {request!r}")
        self._sent[zone] = None
        self.listed(zone)

    def listed(self, zone: PolledZone) -> None:
        """Send the outcome of a list soon, if the follower serves the zone."""
        if zone in self._sent:
            self._due[zone] = None
            self._wake.set()

    async def _send(self) -> None:
        try:
            while True:
                self._wake.clear()
                while self._due:
                    zone = next(iter(self._due))
                    del self._due[zone]
                    await self._send_outcome(zone)
                await self._wake.wait()
        except (ChannelClosed, Refusal):
            pass
        finally:
            self.channel.close()  # the follower connects again, and gets all zones

    async def _send_outcome(self, zone: PolledZone) -> None:
        copy = self._find(zone)
        if copy is None or not copy.tried.is_set():
            return
        version = copy.current
        is_new = version is not None and version is not self._sent[zone]
        if version is not None and is_new:
            records = iter(version)
            while portion := [tuple(it) for it in islice(records, PORTION)]:
                await self.channel.ask(_RECORDS, (zone, portion))
        self._sent[zone] = version
        outcome = Outcome(zone, is_new, copy.problem, copy.is_missing, copy.ignored, copy.age)
        await self.channel.ask(_OUTCOME, outcome)


class Subscriber:
    """Receives the copies of the leader, in a follower."""

    def __init__(
        self,
        group: ProcessGroup,
        name: str,
        receive: Callable[[Outcome, ZoneIntake | None], Awaitable[None]],
    ) -> None:
        """Call `receive` with each outcome, and with the records of a new version."""
        self._receive = receive
        self._zones: dict[PolledZone, None] = {}
        self._intakes: dict[PolledZone, ZoneIntake] = {}
        self._channel = LeaderChannel(
            group, name, self._take, opened=self._begin, task="receive hosted zones"
        )

    def follow(self, zone: PolledZone) -> None:
        """Receive a zone from now on."""
        self._zones[zone] = None
        self._channel.begin(_FOLLOW, zone)

    def leave(self, zone: PolledZone) -> None:
        """Ignore what is received of a zone."""
        self._zones.pop(zone, None)

    def close(self) -> None:
        """Receive no more."""
        self._channel.close()

    def _begin(self, channel: Channel) -> None:
        """Ask for all zones anew; what was received is served meanwhile."""
        self._intakes.clear()
        for zone in self._zones:
            channel.begin(_FOLLOW, zone)

    async def _take(self, request: str, body: Any, _: list[int]) -> None:
        if request == _RECORDS:
            zone, records = body
            intake = self._intakes.setdefault(zone, ZoneIntake(zone))
            await in_thread(partial(_add_all, intake, records))
        elif request == _OUTCOME:
            received = self._intakes.pop(body.zone, None)
            if body.zone in self._zones:
                await self._receive(body, received if body.is_new else None)
        else:
            raise Refusal(f"unknown request {request!r}")


def _add_all(intake: ZoneIntake, records: list[tuple[bytes, int, int, int, bytes]]) -> None:
    for owner, ttl, _, rtype, rdata in records:
        intake.add(owner, ttl, rtype, rdata)
