"""One upstream: what is in flight to it, how fast it answers, whether it can be trusted to.

How late a reply is is measured against the upstream itself: smoothed round-trip time and its
variation, as for TCP's retransmission timer (RFC 6298).
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from typing import TYPE_CHECKING

from corepy.dns.constants import rcode_name
from corepy.plugin.metrics import TIME_BUCKETS
from corepy_forward import metrics
from corepy_forward.attempt import Attempt
from corepy_forward.capabilities import EdnsSupport, TcpSupport
from corepy_forward.guesses import Guesses
from corepy_forward.problems import NO_REPLY, explain
from corepy_forward.proofs import Proofs
from corepy_forward.udp import UDPPool
from corepy_forward.watchlist import Watchlist

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from corepy.plugin import Wakeups
    from corepy.plugin.metrics import Distribution, Value
    from corepy_forward.attempt import Owner
    from corepy_forward.settings import Settings
    from corepy_forward.streams import StreamPool
    from corepy_forward.targets import Target

FIRST_PATIENCE = 0.15
"""Seconds after which a reply is late while nothing is known about the upstream."""

LEAST_PATIENCE = 0.03
MOST_PATIENCE = 0.4
SUSPICION = 3
"""Late replies in a row, without any that came, which make an upstream the last to be asked."""

_STREAM_PROTOS = {"dns": "tcp", "tls": "tcp-tls", "https": "https"}
"""What a connection to an upstream is called in logs and metrics, by the transport in TO."""


class Upstream:
    """See the module. `fails` counts failed health checks in a row."""

    def __init__(
        self,
        target: Target,
        settings: Settings,
        wakeups: Wakeups,
        on_change: Callable[[], None],
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`on_change` is called when the upstream becomes, or no longer is, fit to be asked."""
        self.target = target
        self.address = target.address
        self.settings = settings
        self.wakeups = wakeups
        self.loop = asyncio.get_running_loop()
        self.context = context
        self.stream_proto = _STREAM_PROTOS[target.transport]
        self.fails = 0
        self.is_suspect = False
        self.check: Callable[[], None] = lambda: None
        self._on_change = on_change
        self.edns = EdnsSupport()
        self.tcp = TcpSupport()
        self.guesses = Guesses()
        self.proofs = Proofs(settings, target.transport)
        self.cookies = self.proofs.cookies
        self.is_limited = self.proofs.has_random_case
        """Some queries cannot be sent in their usual form: look which, and whether any is left."""

        self._srtt = self._variation = self._measured = -1.0
        self._silent = 0
        self._watched = Watchlist(
            self.loop, FIRST_PATIENCE, settings.read_timeout, self._late, self._expired
        )
        self._durations: list[Distribution | None] = [None] * 16
        self._up = metrics.show_up(self.address)
        self._up.value = 1
        self._streams: StreamPool | None = None
        self._open_udp()

    def _open_udp(self) -> None:
        target, settings = self.target, self.settings
        self._udp = UDPPool(
            self, target.sockaddr, target.family, settings.source_address, settings.expire
        )

    def connection_counters(self, proto: str) -> tuple[Value, Value]:
        """Return the counters of queries over open and over new sockets."""
        labels = metrics.PROXY, self.address, proto
        return metrics.CONN_CACHE_HITS.labels(*labels), metrics.CONN_CACHE_MISSES.labels(*labels)

    @property
    def streams(self) -> StreamPool:
        """The connections to this upstream."""
        if self._streams is None:
            self._streams = self._open_streams()
        return self._streams

    def _open_streams(self) -> StreamPool:
        from corepy_forward.streams import StreamPool

        if self.target.transport == "https":
            from corepy_forward.doh import HTTPStream

            return StreamPool(self, HTTPStream)
        from corepy_forward.stream import Stream

        return StreamPool(self, Stream)

    def is_down(self) -> bool:
        """Whether more health checks failed than are allowed (proxy.go, Down)."""
        return self.fails > self.settings.max_fails > 0

    def look(self, now: float) -> None:
        """Find out whether any queries still cannot be sent in their usual form."""
        self.is_limited = (
            self.proofs.has_random_case or bool(self.guesses) or self.edns.is_limited(now)
        )

    def lost_edns(self, now: float) -> None:
        """Take an answer without EDNS to what had none with EDNS."""
        self.edns.lost(now)
        self.cookies.refused(now)
        self.is_limited = True

    def refused_edns(self, now: float) -> None:
        """Take an answer without EDNS to what was refused with EDNS."""
        self.edns.refused(now)
        self.is_limited = True

    def prove(self, attempt: Attempt, wire: bytes, now: float) -> None:
        """Take a reply over UDP if it has what a forger cannot know."""
        wire, lacks = self.proofs.check(attempt, wire)
        if lacks:
            self.dropped(lacks)
            attempt.owner.doubted(attempt, wire, lacks)
        else:
            self.arrived(attempt, wire, now)

    def ask(self, owner: Owner, body: bytes, over_tcp: bool, now: float) -> Attempt:
        """Send a query and watch over it; the owner hears of the outcome later, never within."""
        if over_tcp or self.context is not None:
            attempt = Attempt(owner, self, body, self.stream_proto, now)
            send = (self._streams or self.streams).send
        else:
            attempt = Attempt(owner, self, body, "udp", now)
            send = self._udp.send
        self._watched.add(attempt)
        try:
            send(attempt)
        except OSError as error:
            self.loop.call_soon(self.broke, attempt, explain(error, "connect"))
        return attempt

    def probe(self, owner: Owner, over_tcp: bool) -> Attempt:
        """Send a query without watching over it; raises OSError."""
        attempt = Attempt(owner, self, owner.body, "udp", time.monotonic())
        if over_tcp or self.context is not None:
            attempt.proto = self.stream_proto
            self.streams.send(attempt)
        else:
            self._udp.send(attempt)
        return attempt

    def over_tcp(self, attempt: Attempt) -> None:
        """Ask once more over TCP; the deadline of the attempt stays."""
        attempt.proto = self.stream_proto
        self._watched.add(attempt)
        self.streams.send(attempt)

    def arrived(self, attempt: Attempt, wire: bytes, now: float) -> None:
        """Take a reply that answers `attempt`."""
        watched = self._watched
        (watched.old if attempt.is_late else watched.young).pop(attempt, None)
        rtt = now - attempt.sent
        if now != self._measured:
            self._measured = now
            self._measure(rtt)
        self._silent = 0
        if self.is_suspect:
            self._trust()
        if now > self.edns.settled_until:
            self.edns.learn(attempt, wire, now)
        rcode = wire[3] & 15
        duration = self._durations[rcode] or self._duration(rcode)
        duration.counts[bisect_left(TIME_BUCKETS, rtt)] += 1
        duration.total += rtt
        attempt.owner.replied(attempt, wire)

    def _measure(self, rtt: float) -> None:
        """Learn from one reply of those that came at the same time."""
        if self._srtt < 0:
            self._srtt, self._variation = rtt, rtt / 2
        else:
            error = rtt - self._srtt
            self._srtt += error / 8
            self._variation += (abs(error) - self._variation) / 4
        patience = self._srtt + 4 * self._variation
        self._watched.patience = min(max(patience, LEAST_PATIENCE), MOST_PATIENCE)

    def _duration(self, rcode: int) -> Distribution:
        labels = metrics.PROXY, self.address, rcode_name(rcode)
        duration = self._durations[rcode] = metrics.REQUEST_DURATION.labels(*labels)
        return duration

    def dropped(self, reason: str) -> None:
        """Count a message that is not taken, by what is wrong with it."""
        metrics.DROPPED.labels(self.address, reason).inc()

    def broke(self, attempt: Attempt, reason: str) -> None:
        """Give an attempt up, and see whether the upstream is still well."""
        self._watched.remove(attempt)
        self.check()
        attempt.owner.failed(attempt, reason)

    def cancel(self, attempt: Attempt) -> None:
        """Wait no more for the reply to `attempt`; its owner is not told."""
        self._watched.remove(attempt)
        if attempt.link is not None:
            attempt.link.forget(attempt)

    def _late(self, late: list[Attempt]) -> None:
        self._silent += len(late)
        if self._silent >= SUSPICION and not self.is_suspect and self.settings.max_fails:
            self._suspect()
        for attempt in late:
            attempt.owner.late(attempt)

    def _expired(self, attempt: Attempt) -> None:
        if attempt.link is not None:
            attempt.link.forget(attempt)
        self.broke(attempt, NO_REPLY)

    def _suspect(self) -> None:
        self.is_suspect = True
        self._on_change()
        self.check()

    def _trust(self) -> None:
        self.is_suspect = False
        self._on_change()

    def healthy(self) -> None:
        """Take a successful health check."""
        self._silent = self.fails = 0
        self.is_suspect = False
        self._up.value = 1
        self._on_change()

    def unhealthy(self) -> None:
        """Take a failed health check."""
        self.fails += 1
        if self.is_down():
            self._up.value = 0
        self._on_change()

    def tidy(self, now: float) -> None:
        """Close what has been idle or open for too long."""
        self._udp.tidy(now)
        self.cookies.tidy(now)
        self.guesses.tidy(now)
        if self._streams is not None:
            self._streams.tidy(now)

    def close(self) -> None:
        """Close all sockets, without telling those that wait; called once."""
        metrics.hide_up(self.address)
        self._watched.close()
        self._udp.close()
        if self._streams is not None:
            self._streams.close()
