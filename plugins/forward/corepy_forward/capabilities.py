"""Tracks whether an upstream supports EDNS and DNS over TCP, as far as its replies show.

Both are learned from the exchanges of clients, and expire after a while, because servers are
upgraded and firewalls change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import Reply
from corepy.dns.constants import NOERROR, NXDOMAIN
from corepy.dns.form_error import FormError

if TYPE_CHECKING:
    from corepy_forward.attempt import Attempt

SETTLED: Final = 900.0
"""Seconds for which EDNS counts as working, or as not supported."""

AVOIDED: Final = 60.0
"""Seconds for which queries that do not need EDNS omit it, after one sign that it fails."""

DOUBTS: Final = 3
"""Consecutive losses that outweigh earlier replies with EDNS."""

TCP_DEAD: Final = 60.0
"""Seconds for which an upstream counts as unreachable over TCP."""

LEAST_TCP_PATIENCE: Final = 0.75
MOST_TCP_PATIENCE: Final = 1.0


class EdnsSupport:
    """Tracks whether an upstream accepts queries with EDNS (RFC 6891 section 6.2.2).

    If the upstream rejects EDNS (FORMERR, NOTIMP, BADVERS) and then answers the same query without
    it, EDNS is not supported. SERVFAIL, REFUSED and lost queries have other causes as well, so they
    only count as a sign: queries of clients that need EDNS keep it until the second sign.
    """

    __slots__ = ("_avoid_until", "_losses", "_off_until", "_works_until", "settled_until")

    def __init__(self) -> None:
        self.settled_until = 0.0
        """Monotonic time in seconds until which replies need not be examined."""

        self._works_until = self._avoid_until = self._off_until = 0.0
        self._losses = 0

    def works(self, now: float) -> bool:
        """Whether the upstream answered a query with EDNS recently."""
        return now < self._works_until

    def is_limited(self, now: float) -> bool:
        """Whether some queries are sent without EDNS."""
        return now < max(self._avoid_until, self._off_until)

    def is_off(self, now: float, needed: bool) -> bool:
        """Whether a query is sent without EDNS; `needed` if the client depends on EDNS."""
        return now < self._off_until or (not needed and now < self._avoid_until)

    def learn(self, attempt: Attempt, wire: bytes, now: float) -> None:
        """Process a reply: an answer to a query with EDNS proves that EDNS works."""
        body = attempt.body
        # Neither a bare header nor an echoed query proves anything.
        if not body[9] or not wire[5] or wire[3:] == body[1:]:
            return
        try:
            rcode = Reply.from_wire(wire).rcode
        except FormError:
            return
        if rcode in (NOERROR, NXDOMAIN):
            self._works_until = self.settled_until = now + SETTLED
            self._avoid_until = 0.0
            self._losses = 0

    def refused(self, now: float) -> None:
        """Record that the upstream rejected a query with EDNS and answered it without."""
        self._off_until = now + SETTLED
        self._works_until = self.settled_until = 0.0

    def lost(self, now: float) -> None:
        """Record an answer without EDNS, after no reply or a vague error with EDNS."""
        self._losses += 1
        self.settled_until = 0.0
        needed = DOUBTS if self.works(now) else 1
        if self._losses >= needed:
            self._works_until = 0.0
            self._avoid_until = now + AVOIDED
        if self._losses > needed:
            self._off_until = now + SETTLED


class TcpSupport:
    """Tracks whether an upstream answers over TCP, and its response time including connecting."""

    __slots__ = ("_usual", "_variation", "dead_until")

    def __init__(self) -> None:
        self.dead_until = 0.0
        """Monotonic time in seconds until which TCP is only used if UDP does not suffice."""

        self._usual = self._variation = -1.0

    def is_dead(self, now: float) -> bool:
        """Whether TCP failed recently, and no data arrived over TCP since."""
        return now < self.dead_until

    def failed(self, now: float) -> None:
        """Record a failed connection, or a query over TCP without a reply."""
        self.dead_until = now + TCP_DEAD

    def took(self, seconds: float) -> None:
        """Update the smoothed response time and its variation with a new sample (RFC 6298)."""
        self.dead_until = 0.0
        if self._usual < 0:
            self._usual, self._variation = seconds, seconds / 2
        else:
            error = seconds - self._usual
            self._usual += error / 8
            self._variation += (abs(error) - self._variation) / 4

    @property
    def patience(self) -> float:
        """Seconds to wait for a reply over TCP before the client gets the truncated reply."""
        if self._usual < 0:
            return MOST_TCP_PATIENCE
        usual = self._usual + 4 * self._variation
        return min(max(usual, LEAST_TCP_PATIENCE), MOST_TCP_PATIENCE)
