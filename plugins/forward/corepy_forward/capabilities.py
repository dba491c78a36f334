"""What an upstream can do, as far as its replies tell: EDNS, and DNS over TCP.

Both are learned from the exchanges of clients, believed for a while and then tried again: servers
are upgraded, firewalls change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import Reply
from corepy.dns.constants import NOERROR, NXDOMAIN
from corepy.dns.errors import FormError

if TYPE_CHECKING:
    from corepy_forward.attempt import Attempt

SETTLED: Final = 900.0
"""Seconds for which it is believed that EDNS works, or that it does not."""

AVOIDED: Final = 60.0
"""Seconds for which questions that do not need EDNS go without it, after one sign against it."""

DOUBTS: Final = 3
"""Losses in a row that outweigh earlier replies with EDNS."""

TCP_DEAD: Final = 60.0
"""Seconds for which an upstream is taken to have no TCP."""

LEAST_TCP_PATIENCE: Final = 0.75
MOST_TCP_PATIENCE: Final = 1.0


class EdnsSupport:
    """Whether an upstream takes queries with EDNS (RFC 6891 section 6.2.2).

    A refusal of EDNS (FORMERR, NOTIMP, BADVERS) that is followed by an answer to the same query
    without it settles the matter. SERVFAIL, REFUSED and silence have other causes as well, so they
    count as a sign only: questions of clients that want DNSSEC go on with EDNS until a second one.
    """

    __slots__ = ("_avoid_until", "_losses", "_off_until", "_works_until", "settled_until")

    def __init__(self) -> None:
        self.settled_until = 0.0
        """Monotonic seconds until when replies are not looked at."""

        self._works_until = self._avoid_until = self._off_until = 0.0
        self._losses = 0

    def works(self, now: float) -> bool:
        """Whether the upstream has answered a query with EDNS, not long ago."""
        return now < self._works_until

    def is_limited(self, now: float) -> bool:
        """Whether some questions go without EDNS."""
        return now < max(self._avoid_until, self._off_until)

    def is_off(self, now: float, needed: bool) -> bool:
        """Whether a query goes without EDNS; `needed` if the client has use for it."""
        return now < self._off_until or (not needed and now < self._avoid_until)

    def learn(self, attempt: Attempt, wire: bytes, now: float) -> None:
        """Take a reply: an answer to a query with EDNS shows that it works."""
        body = attempt.body
        # A bare header shows nothing, and neither does the query sent back.
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
        """Take an answer without EDNS after a refusal with it."""
        self._off_until = now + SETTLED
        self._works_until = self.settled_until = 0.0

    def lost(self, now: float) -> None:
        """Take an answer without EDNS after a loss, or an error that need not mean EDNS."""
        self._losses += 1
        self.settled_until = 0.0
        needed = DOUBTS if self.works(now) else 1
        if self._losses >= needed:
            self._works_until = 0.0
            self._avoid_until = now + AVOIDED
        if self._losses > needed:
            self._off_until = now + SETTLED


class TcpSupport:
    """Whether an upstream answers over TCP, and how long that takes, connecting included."""

    __slots__ = ("_usual", "_variation", "dead_until")

    def __init__(self) -> None:
        self.dead_until = 0.0
        """Monotonic seconds until when TCP is not tried if UDP will do."""

        self._usual = self._variation = -1.0

    def is_dead(self, now: float) -> bool:
        """Whether TCP failed not long ago and nothing has come over it since."""
        return now < self.dead_until

    def failed(self, now: float) -> None:
        """Take a connection that failed, or a query that was left without a reply."""
        self.dead_until = now + TCP_DEAD

    def took(self, seconds: float) -> None:
        """Learn how long a query took, as RFC 6298 does."""
        self.dead_until = 0.0
        if self._usual < 0:
            self._usual, self._variation = seconds, seconds / 2
        else:
            error = seconds - self._usual
            self._usual += error / 8
            self._variation += (abs(error) - self._variation) / 4

    @property
    def patience(self) -> float:
        """Seconds to wait for TCP while the client could have a truncated answer."""
        if self._usual < 0:
            return MOST_TCP_PATIENCE
        usual = self._usual + 4 * self._variation
        return min(max(usual, LEAST_TCP_PATIENCE), MOST_TCP_PATIENCE)
