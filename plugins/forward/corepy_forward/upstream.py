"""One upstream: its queries in flight, its response times, and its health.

A reply is late in comparison with earlier replies of the same upstream: the limit is computed from
the smoothed round-trip time and its variation, like TCP's retransmission timer (RFC 6298).
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from corepy.dns.constants import rcode_name
from corepy.plugin.metrics import TIME_BUCKETS
from corepy_forward import metrics
from corepy_forward.attempt import Attempt
from corepy_forward.failures import NO_REPLY, Watchlist, explain
from corepy_forward.forgery import Guesses, Proofs
from corepy_forward.forms import EdnsSupport, TcpSupport
from corepy_forward.udp import UDPPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.plugin import Wakeups
    from corepy.plugin.metrics import Distribution, Value
    from corepy_forward.attempt import Owner
    from corepy_forward.quic_trust import TLSContext
    from corepy_forward.settings import Settings
    from corepy_forward.streams import Stream, StreamPool
    from corepy_forward.targets import Target

FIRST_PATIENCE: Final = 0.15
"""Seconds after which a reply is late, before the first reply of the upstream."""

LEAST_PATIENCE: Final = 0.03
MOST_PATIENCE: Final = 0.4
SUSPICION: Final = 3
"""Consecutive late queries, without any reply, after which an upstream is asked last."""

_STREAM_PROTOS: Final = {
    "dns": "tcp",
    "tls": "tcp-tls",
    "https": "https",
    "quic": "quic",
    "https3": "https3",
}
"""Names of connections in logs and metrics, by the transport in TO."""


class Upstream:
    """Sends queries to one upstream and tracks its health.

    `fails` counts consecutive failed health checks.
    """

    def __init__(
        self,
        target: Target,
        settings: Settings,
        wakeups: Wakeups,
        on_change: Callable[[], None],
        context: TLSContext | None = None,
    ) -> None:
        """Take the target and the settings; `on_change` is called when the health changes."""
        self.target = target
        self.address = target.address
        self.settings = settings
        self.wakeups = wakeups
        self.loop = asyncio.get_running_loop()
        self.context = context
        self.stream_proto = _STREAM_PROTOS[target.transport]
        self.fails = 0
        self.is_suspect = False
        self.replies = self.failures = 0
        """Queries that were answered, and attempts that failed, since this object was created."""
        self.last_failure: str | None = None
        self.check: Callable[[], None] = lambda: None
        self._on_change = on_change
        self.edns = EdnsSupport()
        self.tcp = TcpSupport()
        self.guesses = Guesses()
        self.proofs = Proofs(settings, target.transport)
        self.cookies = self.proofs.cookies
        self.is_limited = self.proofs.has_random_case
        """Whether some queries may need another form than usual; `look` updates it."""

        self._srtt = self._variation = self._measured = -1.0
        self._silent = 0
        self._watched = Watchlist(
            self.loop, FIRST_PATIENCE, settings.read_timeout, self._late, self._expired
        )
        self._durations: list[Distribution | None] = [None] * 16
        self._up = metrics.show_up(self.address)
        self._up.value = 1.0
        self._streams: StreamPool | None = None
        self._open_udp()

    def _open_udp(self) -> None:
        target, settings = self.target, self.settings
        self._udp = UDPPool(
            self, target.sockaddr, target.family, settings.source_address, settings.expire
        )

    def connection_counters(self, proto: str) -> tuple[Value, Value]:
        """Return the counters of queries over existing and over new sockets."""
        labels = metrics.PROXY, self.address, proto
        return metrics.CONN_CACHE_HITS.labels(*labels), metrics.CONN_CACHE_MISSES.labels(*labels)

    @property
    def streams(self) -> StreamPool:
        """The pool of connections to this upstream, created on first use."""
        if self._streams is None:
            self._streams = self._open_streams()
        return self._streams

    def _open_streams(self) -> StreamPool:
        from corepy_forward.streams import StreamPool

        return StreamPool(self, self._stream_type())

    def _stream_type(self) -> type[Stream]:
        """Return the class of a connection to this upstream."""
        if self.target.transport == "https":
            from corepy_forward.doh import HTTPStream

            return HTTPStream
        if self.target.transport == "quic":
            from corepy_forward.quic import QUICStream

            return QUICStream
        if self.target.transport == "https3":
            from corepy_forward.doh3 import HTTP3Stream

            return HTTP3Stream
        from corepy_forward.streams import Stream

        return Stream

    def is_down(self) -> bool:
        """Whether more than `max_fails` consecutive health checks failed (proxy.go, Down)."""
        return self.fails > self.settings.max_fails > 0

    def status(self) -> dict[str, Any]:
        """Return the state for an operator; see `corepy.plugin.HookSpecs.status`."""
        suspect = "suspect" if self.is_suspect else "up"
        return {
            "address": self.address,
            "protocol": self.stream_proto if self.context is not None else "udp",
            "state": "down" if self.is_down() else suspect,
            "rtt": self._srtt if self._srtt >= 0 else None,
            "queries": self.replies + self.failures,
            "failures": self.failures,
            "in_flight": len(self._watched.young) + len(self._watched.old),
            "failed_checks": self.fails,
            "last_failure": self.last_failure,
        }

    def look(self, now: float) -> None:
        """Update `is_limited`."""
        self.is_limited = (
            self.proofs.has_random_case or bool(self.guesses) or self.edns.is_limited(now)
        )

    def lost_edns(self, now: float) -> None:
        """Record an answer without EDNS, after no reply or a vague error with EDNS."""
        self.edns.lost(now)
        self.cookies.refused(now)
        self.is_limited = True

    def refused_edns(self, now: float) -> None:
        """Record an answer without EDNS, after the query was rejected with EDNS."""
        self.edns.refused(now)
        self.is_limited = True

    def prove(self, attempt: Attempt, wire: bytes, now: float) -> None:
        """Accept a reply over UDP if it has the expected cookie and case, else notify the owner."""
        wire, lacks = self.proofs.check(attempt.body, attempt.owner.question, wire)
        if lacks:
            self.dropped(lacks)
            attempt.owner.doubted(attempt, wire, lacks)
        else:
            self.arrived(attempt, wire, now)

    def ask(self, owner: Owner, body: bytes, over_tcp: bool, now: float) -> Attempt:
        """Send a query and watch its timeouts; the owner is called back later, never from here."""
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
        """Send a query without timeouts; raises OSError."""
        attempt = Attempt(owner, self, owner.body, "udp", monotonic())
        if over_tcp or self.context is not None:
            attempt.proto = self.stream_proto
            self.streams.send(attempt)
        else:
            self._udp.send(attempt)
        return attempt

    def over_tcp(self, attempt: Attempt) -> None:
        """Send the query of an attempt again over TCP; its deadline does not change."""
        attempt.proto = self.stream_proto
        self._watched.add(attempt)
        self.streams.send(attempt)

    def arrived(self, attempt: Attempt, wire: bytes, now: float) -> None:
        """Process a reply to `attempt`: update the statistics and pass it to the owner."""
        watched = self._watched
        if (watched.old if attempt.is_late else watched.young).pop(attempt, False) is None:
            self.replies += 1  # a health check is not watched
        rtt = now - attempt.sent
        if now != self._measured:
            self._measured = now
            self._measure(rtt)
        self._silent = 0
        if self.is_suspect:
            self._trust()
        if now > self.edns.settled_until:
            self.edns.learn(attempt.body, wire, now)
        rcode = wire[3] & 15
        duration = self._durations[rcode] or self._duration(rcode)
        duration.counts[bisect_left(TIME_BUCKETS, rtt)] += 1
        duration.total += rtt
        attempt.owner.replied(attempt, wire)

    def _measure(self, rtt: float) -> None:
        """Update the response time with one of the replies that arrived at the same time."""
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
        """Count a discarded message, by the reason."""
        metrics.DROPPED.labels(self.address, reason).inc()

    def broke(self, attempt: Attempt, reason: str) -> None:
        """Fail an attempt, and start a health check."""
        if self._watched.remove(attempt):
            self._count_failure(reason)
        self.check()
        attempt.owner.failed(attempt, reason)

    def _count_failure(self, reason: str) -> None:
        self.failures += 1
        self.last_failure = reason

    def cancel(self, attempt: Attempt) -> None:
        """Stop waiting for the reply to `attempt` without notifying its owner."""
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
        self._count_failure(NO_REPLY)
        self.broke(attempt, NO_REPLY)

    def _suspect(self) -> None:
        self.is_suspect = True
        self._on_change()
        self.check()

    def _trust(self) -> None:
        self.is_suspect = False
        self._on_change()

    def healthy(self) -> None:
        """Record a successful health check."""
        self._silent = self.fails = 0
        self.is_suspect = False
        self._up.value = 1.0
        self._on_change()

    def unhealthy(self) -> None:
        """Record a failed health check."""
        self.fails += 1
        if self.is_down():
            self._up.value = 0.0
        self._on_change()

    def tidy(self, now: float) -> None:
        """Close idle and aged sockets, renew cookies, and remove expired counts."""
        self._udp.tidy(now)
        self.cookies.tidy(now)
        self.guesses.tidy(now)
        if self._streams is not None:
            self._streams.tidy(now)

    def close(self) -> None:
        """Close all sockets without notifying the pending attempts; called once."""
        metrics.hide_up(self.address)
        self._watched.close()
        self._udp.close()
        if self._streams is not None:
            self._streams.close()
