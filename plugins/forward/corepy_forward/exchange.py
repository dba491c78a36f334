"""One question on its way to the upstreams, for all clients that ask it meanwhile.

The first attempt goes to the upstream that the policy chooses. When it is late, fails, or brings a
reply that does not count, the next one starts, on another upstream where there is one; an attempt
that was late is still listened to. The first good reply ends the exchange. Without one it ends when
all attempts have failed, or when the budget is used up: that is before a stub resolver would give
up, so that the client learns why.

Everything happens in callbacks; the clients' chains wait for one `Pending` each.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from corepy.dns import Reply
from corepy.dns.constants import FORMERR, HEADER_SIZE, NOTIMP, rcode_name
from corepy.dns.edns import EDE_NETWORK_ERROR, EDE_NO_REACHABLE_AUTHORITY, OPT_SIZE
from corepy.dns.errors import FormError
from corepy_forward import metrics
from corepy_forward.problems import NO_REPLY, go_error
from corepy_forward.transitive import end_to_end

if TYPE_CHECKING:
    from corepy.plugin import Pending
    from corepy_forward.attempt import Attempt
    from corepy_forward.pool import Pool
    from corepy_forward.upstream import Upstream

BUDGET = 4.0
"""Seconds for one question, whatever happens: glibc and others give up after 5."""

BUDGET_DOWN = 1.9
"""The same while health checks find no upstream well."""

RESEND = 0.8
"""Seconds after which a query is sent once more to an upstream that has it already: a datagram may
be lost, but more likely the answer takes its time, and asking twice costs the upstream twice.
"""

_TC = 0x02
_MAX_NOTES = 8


class Exchange:
    """See the module. `reply` is the result; None if there is none, then `reason` says why."""

    __slots__ = (
        "_failovers",
        "_notes",
        "_open",
        "_over_tcp",
        "_pool",
        "_tried",
        "body",
        "done",
        "ede",
        "question",
        "reason",
        "reply",
        "started",
        "upstream",
        "waiters",
    )

    def __init__(
        self, pool: Pool, question: bytes, body: bytes, over_tcp: bool, now: float
    ) -> None:
        """`body` is the query without its ID, `question` its question section in lower case."""
        self._pool = pool
        self.question = question
        self.body = body
        self._over_tcp = over_tcp
        self.started = now
        self.waiters: list[Pending] = []
        self.done = False
        self.reply: Reply | None = None
        self.upstream: Upstream | None = None
        self.reason = ""
        self.ede = EDE_NO_REACHABLE_AUTHORITY
        self._tried: list[Upstream] = []
        self._open = 0
        self._failovers = 0
        self._notes: tuple[str, ...] = ()

    def ask(self, upstream: Upstream, now: float) -> None:
        """Start an attempt."""
        tried = self._tried
        tried.append(upstream)
        self._open += 1
        body = self.plain_body() if upstream.plain_until > now else self.body
        # A second loss in a row at one upstream: perhaps it is UDP that does not get through.
        over_tcp = self._over_tcp or (len(tried) > 2 and tried.count(upstream) > 2)
        upstream.ask(self, body, over_tcp, now)

    def plain_body(self) -> bytes:
        """Return the query without EDNS."""
        return self.body[:8] + b"\0\0" + self.body[10 : 10 + len(self.question)]

    def replied(self, attempt: Attempt, wire: bytes) -> None:
        """End with this reply if it counts."""
        self._open -= 1
        if self.done:
            return
        try:
            if len(wire) > HEADER_SIZE:
                reply = Reply.from_answer(wire, HEADER_SIZE + len(self.question))
            else:
                reply = Reply.from_wire(wire)
        except FormError:
            self._malformed(attempt)
            return
        if reply.options:
            reply.options = end_to_end(reply.options, self._asked_options())
        if (
            wire[2] & _TC or wire[3] & 15 not in self._pool.final_rcodes or reply.extended_rcode
        ) and self._is_odd(attempt, wire, reply):
            return
        self.upstream = attempt.upstream
        self.reply = reply
        if attempt.body is not self.body and reply.rcode not in (FORMERR, NOTIMP):
            attempt.upstream.refuses_edns()
        self._end()

    def _asked_options(self) -> bytes:
        """Return the EDNS options of the clients, which the query carries."""
        return self.body[10 + len(self.question) + OPT_SIZE :]

    def _is_odd(self, attempt: Attempt, wire: bytes, reply: Reply) -> bool:
        """Start what follows a reply that may not be final; False if it is final after all."""
        if reply.tc and attempt.proto == "udp":
            self._keep(attempt, reply)
            self._open += 1
            attempt.upstream.over_tcp(attempt)
            return True
        rcode = reply.rcode
        if rcode in (FORMERR, NOTIMP) and self._refuses_edns(attempt, wire):
            return True
        if rcode in self._pool.settings.failover_rcodes:
            self._failovers += 1
            if self._failovers < len(self._pool.upstreams):
                self._keep(attempt, reply)
                self._note(attempt, f"answered {rcode_name(rcode)}")
                return self._retry(time.monotonic(), new_only=True) or self._open > 0
        return False

    def _keep(self, attempt: Attempt, reply: Reply) -> None:
        """Keep a reply that is better than none."""
        self.reply, self.upstream = reply, attempt.upstream

    def _refuses_edns(self, attempt: Attempt, wire: bytes) -> bool:
        """Ask again without EDNS what an upstream that does not know it has refused (RFC 6891
        section 7).
        """
        if attempt.body[9] == 0 or (len(wire) > 12 and wire[10:12] != b"\0\0"):
            return False  # it was asked without, or has sent OPT and means the question
        self._open += 1
        over_tcp = attempt.proto != "udp"
        attempt.upstream.ask(self, self.plain_body(), over_tcp, time.monotonic())
        return True

    def _malformed(self, attempt: Attempt) -> None:
        """Ask again for a reply that cannot be read, over TCP if it was UDP that cut it."""
        attempt.upstream.dropped("malformed")
        if attempt.proto == "udp":
            self._open += 1
            attempt.upstream.over_tcp(attempt)
        else:
            self._open += 1
            self.failed(attempt, "malformed reply")

    def failed(self, attempt: Attempt, reason: str) -> None:
        """Go on without this attempt."""
        self._open -= 1
        if self.done:
            return
        if reason != NO_REPLY:
            self.ede = EDE_NETWORK_ERROR
        self._note(attempt, reason)
        self._retry(time.monotonic())
        if self._open == 0:
            self._end()

    def late(self, attempt: Attempt) -> None:
        """Ask another upstream as well; without one, the same again, if queries can be lost."""
        if self.done:
            return
        pool = self._pool
        if any(upstream not in self._tried for upstream in pool.upstreams):
            self._hedge(attempt)
        elif attempt.proto == "udp":
            pool.loop.call_at(attempt.sent + RESEND, self._hedge, attempt)

    def _hedge(self, attempt: Attempt) -> None:
        if not self.done and self._pool.may_hedge() and self._retry(time.monotonic()):
            metrics.HEDGED.labels(attempt.upstream.address).inc()

    def _retry(self, now: float, *, new_only: bool = False) -> bool:
        """Start another attempt, unless there were enough."""
        pool = self._pool
        pool.watch_time()
        if self.done or len(self._tried) >= pool.max_attempts:
            return False
        upstream = pool.another(self._tried, new_only=new_only)
        if upstream is None:
            return False
        self.ask(upstream, now)
        return True

    def out_of_time(self, now: float) -> None:
        """End without another reply."""
        proto = "tcp" if self._over_tcp else "udp"
        detail = f"gave up after {now - self.started:.2f}s"
        self._notes += (go_error(self._tried[-1].address, proto, NO_REPLY, detail),)
        self._end()

    def _note(self, attempt: Attempt, reason: str) -> None:
        if len(self._notes) < _MAX_NOTES:
            number, most = len(self._notes) + 1, self._pool.max_attempts
            elapsed = time.monotonic() - attempt.sent
            detail = f"attempt {number} of {most}, {elapsed:.3f}s"
            self._notes += (go_error(attempt.upstream.address, attempt.proto, reason, detail),)

    def fail(self, reason: str) -> None:
        """End without having asked anybody."""
        self._notes += (reason,)
        self._end()

    def _end(self) -> None:
        self.done = True
        if self.reply is None:
            self.reason = "; ".join(self._notes)
        self._pool.flights.pop(self.body, None)
        for waiter in self.waiters:
            waiter.wake()
