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
from typing import TYPE_CHECKING, Final

from corepy.dns import Reply
from corepy.dns.constants import (
    BADVERS,
    FORMERR,
    HEADER_SIZE,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    rcode_name,
)
from corepy.dns.edns import EDE_NETWORK_ERROR, EDE_NO_REACHABLE_AUTHORITY
from corepy.dns.errors import FormError
from corepy_forward import metrics
from corepy_forward.asking import Asking
from corepy_forward.problems import NO_REPLY, go_error
from corepy_forward.question import client_options, needs_edns
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
"""Seconds after which a question is asked once more of an upstream that has it already: a datagram
may be lost, but more likely the answer takes its time, and asking twice costs the upstream twice.
"""

GRACE: Final = 0.4
"""Seconds that an answer with EDNS has, for a client that needs it, once there is one without."""

_TC = 0x02
_MAX_NOTES = 8
_REFUSALS: Final = frozenset((FORMERR, NOTIMP, BADVERS))
_MAYBE_REFUSALS: Final = _REFUSALS | {SERVFAIL, REFUSED}


class Exchange(Asking):
    """See the module. `reply` is the result; None if there is none, then `reason` says why."""

    __slots__ = ("_failovers", "_notes", "ede", "reason", "reply", "upstream", "waiters")

    def __init__(self, pool: Pool, question: bytes, body: bytes, for_tcp: bool, now: float) -> None:
        super().__init__(pool, question, body, for_tcp, now)
        self.waiters: list[Pending] = []
        self.reply: Reply | None = None
        self.upstream: Upstream | None = None
        self.reason = ""
        self.ede = EDE_NO_REACHABLE_AUTHORITY
        self._failovers = 0
        self._notes: tuple[str, ...] = ()

    @property
    def ede_text(self) -> str:
        """What clients are told when there is no reply."""
        if self._detours is not None and self._detours.has_heard:
            return "no upstream sent a usable answer"
        return "no upstream answered"

    def replied(self, attempt: Attempt, wire: bytes) -> None:
        """End with this reply if it counts."""
        if self.done:
            return
        self._open.remove(attempt)
        if not wire[5]:
            self._bare(attempt, wire)
            return
        try:
            reply = Reply.from_answer(wire, HEADER_SIZE + len(self.question))
        except FormError:
            self._malformed(attempt, wire)
            return
        if reply.options:
            asked = client_options(self.body, self.question)
            reply.options = end_to_end(reply.options, asked)
        if (
            wire[2] & _TC
            or wire[3] & 15 not in self._pool.final_rcodes
            or reply.extended_rcode
            or len(wire) == len(attempt.body) + 2
        ) and self._is_odd(attempt, wire, reply):
            return
        if (self._detours is not None or attempt.moved) and self._is_provisional(attempt, reply):
            return
        self.upstream = attempt.upstream
        self.reply = reply
        self._end()

    def _is_odd(self, attempt: Attempt, wire: bytes, reply: Reply) -> bool:
        """Start what follows a reply that may not be final; False if it is final after all."""
        if reply.tc and attempt.proto == "udp":
            self._truncated(attempt, reply)
            return True
        rcode = reply.rcode
        if rcode in _MAYBE_REFUSALS and self._ask_plainer(attempt, rcode, reply.wire != wire):
            self._keep(attempt, reply)
            return True
        if wire[3:] == attempt.body[1:] and self._ask_plainer(attempt, FORMERR, has_opt=False):
            return True  # the query itself, sent back
        if rcode in self._pool.settings.failover_rcodes:
            self._failovers += 1
            if self._failovers < len(self._pool.upstreams):
                self._keep(attempt, reply)
                self._note(attempt, f"answered {rcode_name(rcode)}")
                return self._retry(time.monotonic(), new_only=True) or bool(self._open)
        return False

    def _is_provisional(self, attempt: Attempt, reply: Reply) -> bool:
        """Learn from a reply what the upstream can do; True if a better one may come."""
        upstream, now, detours = attempt.upstream, time.monotonic(), self.detours
        if attempt.moved and attempt.proto == "tcp":
            upstream.tcp.took(now - attempt.moved)
        if upstream in detours.asked_large and self._waits_for_tcp(upstream):
            upstream.tcp.failed(now)
        if attempt.body[9] or reply.rcode not in (NOERROR, NXDOMAIN):
            return False
        if detours.refused_by is upstream and detours.refused_with in _REFUSALS:
            upstream.refused_edns(now)
        elif detours.refused_by is upstream:
            upstream.lost_edns(now)
        elif detours.lost_at is upstream:
            upstream.lost_edns(now)
            if needs_edns(self.body, self.question) and not upstream.edns.is_off(now, needed=True):
                self._keep(attempt, reply)
                self._hold(attempt, GRACE)
                return True
        return False

    def _waits_for_tcp(self, upstream: Upstream) -> bool:
        """Whether there is no reply yet over TCP."""
        return any(each.upstream is upstream and each.proto == "tcp" for each in self._open)

    def _truncated(self, attempt: Attempt, reply: Reply) -> None:
        """Ask for the whole answer; the truncated one is for clients that can ask over TCP."""
        upstream, now = attempt.upstream, time.monotonic()
        self.detours.has_heard = True
        if not self.for_tcp:
            self._keep(attempt, reply)
        if not upstream.tcp.is_dead(now):
            self._move(attempt, now)
            self._hold(attempt, upstream.tcp.patience)
        elif self._ask_large(upstream, now):
            self._hold(attempt, upstream.tcp.patience)
        elif not self.for_tcp:
            self._end()
        else:
            self._move(attempt, now)  # nothing else is left

    def _bare(self, attempt: Attempt, wire: bytes) -> None:
        """Deal with a reply that is nothing but a header: it does not say what it answers.

        An error is better than none and ends the matter unless another upstream can be asked, or
        the same one over TCP, where nobody else can have sent it.
        """
        rcode, now = wire[3] & 15, time.monotonic()
        if self._ask_plainer(attempt, rcode, has_opt=False):
            return
        self.detours.has_heard = True
        self._note(attempt, f"answered {rcode_name(rcode)} in a bare header")
        if rcode not in (NOERROR, NXDOMAIN):
            header = wire[2:4] + b"\0\1" + bytes(6)
            self._keep(attempt, Reply(b"\0\0" + header + self.question))
        if self._retry(now, new_only=True):
            return
        upstream = attempt.upstream
        if attempt.proto == "udp" and not upstream.tcp.is_dead(now):
            self._move(attempt, now)
            self._hold(attempt, upstream.tcp.patience)
        elif not self._open:
            self._end()

    def _malformed(self, attempt: Attempt, wire: bytes) -> None:
        """Ask again for a reply that cannot be read, over TCP if it was UDP that cut it."""
        attempt.upstream.dropped("malformed")
        self.detours.has_heard = True
        now = time.monotonic()
        if attempt.proto == "udp" and not attempt.upstream.tcp.is_dead(now):
            if wire[2] & _TC and not self.for_tcp:
                end = HEADER_SIZE + len(self.question)
                self._keep(attempt, Reply(wire[:6] + bytes(6) + wire[12:end]))
                self._hold(attempt, attempt.upstream.tcp.patience)
            self._move(attempt, now)
        else:
            self._open.append(attempt)
            self.failed(attempt, "malformed reply")

    def _keep(self, attempt: Attempt, reply: Reply) -> None:
        """Keep a reply that is better than none."""
        self.reply, self.upstream = reply, attempt.upstream

    def _hold(self, attempt: Attempt, seconds: float) -> None:
        """Let clients wait for something better than what is kept, but no longer than that."""
        self._pool.loop.call_later(seconds, self._release, attempt)

    def _release(self, attempt: Attempt) -> None:
        """Give up waiting for something better."""
        if self.done:
            return
        if attempt.proto == "tcp" and attempt in self._open:
            attempt.upstream.tcp.failed(time.monotonic())
        if not self.for_tcp or self.reply is not None:
            self._end()

    def failed(self, attempt: Attempt, reason: str) -> None:
        """Go on without this attempt."""
        if self.done:
            return
        self._open.remove(attempt)
        if reason != NO_REPLY:
            self.ede = EDE_NETWORK_ERROR
        self._note(attempt, reason)
        now = time.monotonic()
        if attempt.proto == "tcp" and attempt.link is not None and not attempt.link.has_answered:
            attempt.upstream.tcp.failed(now)
            if self._ask_large(attempt.upstream, now):
                return
        self._retry(now)
        if not self._open:
            self._end()

    def late(self, attempt: Attempt) -> None:
        """Ask another upstream as well; without one, the same again after a while."""
        if self.done:
            return
        pool = self._pool
        if any(upstream not in self._tried for upstream in pool.upstreams):
            self._hedge(attempt)
        elif attempt.proto in ("udp", "tcp") and not attempt.moved:
            pool.loop.call_at(self.started + RESEND, self._resend, attempt)

    def _hedge(self, attempt: Attempt) -> None:
        if self._pool.may_hedge() and self._retry(time.monotonic()):
            metrics.HEDGED.labels(attempt.upstream.address).inc()

    def _resend(self, attempt: Attempt) -> None:
        """Ask again what can be lost: a datagram, or a query to a server that cannot take it."""
        if self.done or attempt not in self._open:
            return
        if attempt.proto == "udp":
            self._hedge(attempt)
            return
        now, upstream = time.monotonic(), attempt.upstream
        is_connected = attempt.link is not None and attempt.link.is_connected
        if is_connected and attempt.body[9] and not upstream.edns.works(now):
            self._hedge(attempt)
        elif self._pool.may_hedge() and self._ask_large(upstream, now):
            metrics.HEDGED.labels(upstream.address).inc()

    def out_of_time(self, now: float) -> None:
        """End without another reply."""
        proto = "tcp" if self.over_tcp else "udp"
        detail = f"gave up after {now - self.started:.2f}s"
        self._notes += (go_error(self._tried[-1].address, proto, NO_REPLY, detail),)
        self._end()

    def _note(self, attempt: Attempt, reason: str) -> None:
        if len(self._notes) < _MAX_NOTES:
            number, most = len(self._notes) + 1, self._pool.max_attempts
            elapsed = time.monotonic() - attempt.sent
            detail = f"attempt {number} of {most}, {elapsed:.3f}s"
            if attempt.mismatched:
                detail += f", replies to another question dropped: {attempt.mismatched}"
            self._notes += (go_error(attempt.upstream.address, attempt.proto, reason, detail),)

    def fail(self, reason: str) -> None:
        """End without having asked anybody."""
        self._notes += (reason,)
        self._end()

    def _end(self) -> None:
        self.done = True
        if self.reply is None:
            self.reason = "; ".join(self._notes)
        self._pool.flights.pop(self.key, None)
        for waiter in self.waiters:
            waiter.wake()
