"""Asks the upstreams one question, for all clients that send it in the meantime.

The first attempt goes to the upstream that the policy chooses. If it is late, fails, or gets an
unusable reply, the next attempt starts, with another upstream if there is one; the reply to a late
attempt is still accepted. The first good reply ends the exchange. Without one, the exchange ends
when all attempts have failed, or when the time budget is used up. The budget is shorter than the
timeout of stub resolvers, so that clients receive the reason of the failure.

An exchange runs in callbacks; the plugin chain of each client waits for its own `Pending`.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from corepy.dns import Reply
from corepy.dns.constants import (
    BADCOOKIE,
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
from corepy.dns.edns import EDE_NETWORK_ERROR, end_to_end
from corepy.dns.form_error import FormError
from corepy_forward import metrics
from corepy_forward.asking import MOST_QUERIES
from corepy_forward.failures import NO_COOKIE_SENT, NO_REPLY, go_error, is_of_reply
from corepy_forward.forgery import is_kept
from corepy_forward.forms import client_options, needs_edns
from corepy_forward.salvage import Salvage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy_forward.attempt import Attempt

BUDGET: Final = 4.0
"""Maximum seconds for one question; the timeout of glibc and others is 5."""

BUDGET_DOWN: Final = 1.9
"""The same while the last health checks of all upstreams failed."""

RESEND: Final = 0.8
"""Seconds after which a query is repeated to the same upstream.

A datagram may be lost, but more likely the upstream is slow, and a repetition doubles its work.
"""

GRACE: Final = 0.4
"""Seconds to wait for an answer with EDNS, if the client needs it, after one without."""

_TC: Final = 0x02
_MAX_NOTES: Final = 8
_REFUSALS: Final = frozenset((FORMERR, NOTIMP, BADVERS))
_MAYBE_REFUSALS: Final = _REFUSALS | {SERVFAIL, REFUSED}


class Exchange(Salvage):
    """Asks one question; `reply` is the result, or None, with the `reason` for the log."""

    __slots__ = ()

    @property
    def reason(self) -> str:
        """The reason of the failure, for the log."""
        return "; ".join(self._notes)

    @property
    def _notes(self) -> tuple[str, ...]:
        return () if self._detours is None else self._detours.notes

    @property
    def ede(self) -> int:
        """The code of the extended error for clients that get SERVFAIL (RFC 8914)."""
        return self.detours.ede

    @property
    def ede_text(self) -> str:
        """The text of the extended error."""
        if self._detours is not None and self._detours.has_heard:
            return "no upstream sent a usable answer"
        return "no upstream answered"

    def replied(self, attempt: Attempt, wire: bytes) -> None:
        """End the exchange with this reply if it is final."""
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
        if reply.options or self._detours is not None:
            self._take_options(attempt, wire, reply)
        if (
            wire[2] & _TC
            or wire[3] & 15 not in self._pool.final_rcodes
            or reply.extended_rcode
            or (not wire[7] and len(wire) == len(attempt.body) + 2)
        ) and self._is_odd(attempt, wire, reply):
            return
        if self._detours is not None and self._is_provisional(attempt, reply):
            return
        self.upstream = attempt.upstream
        if self._pool.is_observed:
            self.answered = attempt
        self.reply = reply
        self._end()

    def _take_options(self, attempt: Attempt, wire: bytes, reply: Reply) -> None:
        """Process the hop-by-hop options of a reply, and keep only those for the client.

        A reply over TCP shows whether the upstream sends the cookie or case at all that a reply
        over UDP lacked.
        """
        upstream = attempt.upstream
        lacked = None if self._detours is None else self._detours.lacked.get(attempt)
        has_cookie = upstream.proofs.given(reply.options)
        if (lacked == "cookie" and not has_cookie) or (
            lacked == "case" and not is_kept(wire, attempt.body, self.question)
        ):
            upstream.proofs.lacks(lacked)
        if reply.options:
            asked = client_options(self.body, self.question)
            reply.options = end_to_end(reply.options, asked)

    def _is_odd(self, attempt: Attempt, wire: bytes, reply: Reply) -> bool:
        """Handle a reply that may not be final; return False if it is final."""
        if reply.tc and attempt.proto == "udp":
            self._truncated(attempt, reply)
            return True
        rcode = reply.rcode
        if rcode == BADCOOKIE:
            self._bad_cookie(attempt)
            return True
        with_opt = None if reply.wire is wire else reply
        if rcode in _MAYBE_REFUSALS and self._ask_plainer(attempt, rcode, with_opt):
            self._keep(attempt, reply)
            return True
        if wire[3:] == attempt.body[1:] and self._ask_plainer(attempt, FORMERR, None):
            return True  # the upstream echoed the query
        if rcode in self._pool.settings.failover_rcodes:
            self.detours.failed_over.add(attempt.upstream)
            if not self.detours.failed_over.issuperset(self._pool.upstreams):
                self._keep(attempt, reply)
                self._note(attempt, f"answered {rcode_name(rcode)}")
                return self._retry(monotonic(), new_only=True) or bool(self._open)
        return False

    def _bad_cookie(self, attempt: Attempt) -> None:
        """Repeat the query after BADCOOKIE, which is never sent to clients.

        It concerns only the cookies between this server and the upstream.
        """
        if len(attempt.body) > len(self.body):
            self._ask_with_cookie(attempt)
        else:
            self._open.append(attempt)
            self.failed(attempt, NO_COOKIE_SENT)

    def _is_provisional(self, attempt: Attempt, reply: Reply) -> bool:
        """Record the capabilities that a reply shows; return True if a better one may follow."""
        upstream, now, detours = attempt.upstream, monotonic(), self.detours
        moved = detours.moved.get(attempt)
        if moved is not None and attempt.proto == "tcp":
            upstream.tcp.took(now - moved)
        if upstream in detours.asked_large and self._waits_for_tcp(upstream):
            upstream.tcp.failed(now)
        if reply.rcode not in (NOERROR, NXDOMAIN):
            return False
        if attempt.body[9]:
            if detours.without_cookie is upstream and len(attempt.body) == len(self.body):
                upstream.cookies.refused(now)
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

    def failed(self, attempt: Attempt, reason: str) -> None:
        """Start another attempt after a failure; end the exchange if none is in flight."""
        if self.done:
            return
        self._open.remove(attempt)
        if reason != NO_REPLY:
            self.detours.ede = EDE_NETWORK_ERROR
        if is_of_reply(reason):
            self.detours.has_heard = True
        self._note(attempt, reason)
        now = monotonic()
        detours = self.detours
        if attempt in detours.lacked:
            attempt.upstream.proofs.lacks(detours.lacked[attempt])
        if attempt.proto == "tcp" and attempt.link is not None and not attempt.link.has_answered:
            attempt.upstream.tcp.failed(now)
            if (self.over_tcp or attempt in detours.moved) and self._ask_large(
                attempt.upstream, now, attempt.number
            ):
                return
        self._retry(now)
        if not self._open:
            self._end()

    def late(self, attempt: Attempt) -> None:
        """Ask another upstream as well; if all were asked, repeat the query after a while."""
        if self.done:
            return
        pool = self._pool
        if any(upstream not in self._tried for upstream in pool.upstreams):
            self._hedge(attempt)
        elif attempt.proto == "udp" or (self.over_tcp and attempt.proto == "tcp"):
            is_first = len(self._tried) <= len(pool.upstreams)
            begun = self.started if is_first else attempt.sent
            pool.loop.call_at(begun + RESEND, self._resend, attempt)

    def _hedge(self, attempt: Attempt) -> None:
        if self._pool.may_hedge() and self._retry(monotonic()):
            metrics.HEDGED.labels(attempt.upstream.address).inc()

    def _resend(self, attempt: Attempt) -> None:
        """Repeat a query that may be lost: a datagram, or one that the server does not support."""
        if self.done or attempt not in self._open:
            return
        choices = self._pool.upstreams if attempt.proto == "udp" else (attempt.upstream,)
        if all(map(self.is_full, choices)):
            self._pool.loop.call_later(GRACE, self._resend, attempt)  # wait for others to end
            return
        if attempt.proto == "udp":
            self._hedge(attempt)
            return
        now, upstream = monotonic(), attempt.upstream
        if (
            attempt.link is not None
            and attempt.link.heard > max(now - GRACE, attempt.sent)
            and now < self.started + 2 * RESEND
        ):
            self._pool.loop.call_later(GRACE, self._resend, attempt)  # the reply may arrive soon
            return
        is_connected = attempt.link is not None and attempt.link.is_connected
        if is_connected and attempt.body[9] and not upstream.edns.works(now):
            self._hedge(attempt)
        elif self._pool.may_hedge() and self._ask_large(upstream, now, attempt.number):
            metrics.HEDGED.labels(upstream.address).inc()

    def out_of_time(self, now: float) -> None:
        """End the exchange because its time is used up, with the kept reply if there is one."""
        detail = f"gave up after {now - self.started:.2f}s"
        if self._tried:
            proto = "tcp" if self.over_tcp else "udp"
            note = go_error(self._tried[-1].address, proto, NO_REPLY, detail)
        else:
            note = f"{detail} of waiting for {MOST_QUERIES} other queries for this name: {NO_REPLY}"
        self.detours.notes += (note,)
        self._end()

    def _note(self, attempt: Attempt, reason: str) -> None:
        if len(self._notes) < _MAX_NOTES:
            number, now = attempt.number, monotonic()
            most = max(number, self._pool.max_attempts)  # upstreams may have been removed
            detail = f"attempt {number} of {most}, {now - attempt.sent:.3f}s"
            if attempt.mismatched:
                detail += f", replies to another question dropped: {attempt.mismatched}"
            note = go_error(attempt.upstream.address, attempt.proto, reason, detail)
            self.detours.notes += (note,)
            self.detours.failures += ((attempt, now, reason),)

    def fail(self, reason: str) -> None:
        """End the exchange without asking an upstream."""
        self.detours.notes += (reason,)
        self._end()

    def outcomes(self, now: float) -> Iterator[tuple[Attempt, float, str]]:
        """Yield the attempts with the times of their ends and the reasons of failures.

        Those that are still in flight end at the monotonic time `now`; so does the answered one,
        whose reason is "". At most the first eight failures are known.
        The pool must be observed.
        """
        failures = () if self._detours is None else self._detours.failures
        yield from failures
        failed = {attempt for attempt, _, _ in failures}
        if self.answered is not None and self.answered not in failed:
            yield self.answered, now, ""
        for attempt in self._open:
            if attempt is not self.answered:
                yield attempt, now, NO_REPLY

    def cancel(self) -> None:
        """Stop waiting for replies over UDP."""
        for attempt in self._open:
            if attempt.proto == "udp":
                attempt.upstream.cancel(attempt)

    def _end(self) -> None:
        self.done = True
        self._pool.flights.pop(self.key, None)
        if self.crowd is not None:
            self._pool.leave(self.crowd, self)
        for waiter in self.waiters:
            waiter.wake()
