"""Handles replies that are not final.

They are truncated, bare, malformed, without a cookie or case, or reject EDNS or the cookie.

Each of them starts another query that may bring a better reply. If that fails or takes too long,
clients get the best reply so far.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from corepy.dns import Reply
from corepy.dns.constants import (
    BADVERS,
    HEADER_SIZE,
    NOERROR,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    rcode_name,
)
from corepy_forward.asking import Asking
from corepy_forward.failures import MALFORMED
from corepy_forward.forms import MOST_TCP_PATIENCE, client_options, without_edns

if TYPE_CHECKING:
    from corepy_forward.attempt import Attempt, UpstreamLike

_TC: Final = 0x02


class Salvage(Asking):
    """The part of an exchange that handles replies that are not final."""

    __slots__ = ()

    def _note(self, attempt: Attempt, reason: str) -> None:
        """Record the outcome of an attempt for the log."""
        raise NotImplementedError

    def _end(self) -> None:
        """End the exchange with the current `reply`."""
        raise NotImplementedError

    def doubted(self, attempt: Attempt, wire: bytes, lacks: str) -> None:
        """Ask over TCP to verify a reply; if TCP does not work, accept the reply."""
        if self.done:
            attempt.upstream.cancel(attempt)
            return
        upstream, now = attempt.upstream, monotonic()
        if upstream.tcp.is_dead(now):
            upstream.proofs.lacks(lacks)
            upstream.arrived(attempt, wire, now)
            return
        self.detours.lacked[attempt] = lacks
        self._open.remove(attempt)
        self._move(attempt, now)

    def _waits_for_tcp(self, upstream: UpstreamLike) -> bool:
        """Whether a query to this upstream over TCP is in flight."""
        return any(each.upstream is upstream and each.proto == "tcp" for each in self._open)

    def _truncated(self, attempt: Attempt, reply: Reply) -> None:
        """Ask for the complete answer; keep the truncated one for clients over UDP."""
        upstream, now = attempt.upstream, monotonic()
        self.detours.has_heard = True
        if not self.for_tcp:
            self._keep(attempt, reply)
        if not upstream.tcp.is_dead(now):
            self._move(attempt, now)
            self._hold(attempt, upstream.tcp.patience)
        elif self._ask_large(upstream, now, attempt.number):
            self._hold(attempt, upstream.tcp.patience)
        elif not self.for_tcp:
            self._end()
        else:
            self._move(attempt, now)  # the only remaining way

    def _bare(self, attempt: Attempt, wire: bytes) -> None:
        """Handle a reply that consists of a header only, and does not identify its question.

        An error rcode is kept, since it is better than no reply. It ends the exchange unless
        another upstream can be asked, or the same one over TCP, where the reply cannot be forged.
        """
        rcode, now = wire[3] & 15, monotonic()
        if self._ask_plainer(attempt, rcode, None):
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
        """Repeat the query after a malformed reply, over TCP if the reply came over UDP."""
        attempt.upstream.dropped("malformed")
        self.detours.has_heard = True
        now = monotonic()
        if attempt.proto == "udp" and not attempt.upstream.tcp.is_dead(now):
            if wire[2] & _TC and not self.for_tcp:
                end = HEADER_SIZE + len(self.question)
                self._keep(attempt, Reply(wire[:6] + bytes(6) + wire[12:end]))
                self._hold(attempt, attempt.upstream.tcp.patience)
            self._move(attempt, now)
        else:
            self._open.append(attempt)
            self.failed(attempt, MALFORMED)

    def _ask_plainer(self, attempt: Attempt, rcode: int, reply: Reply | None) -> bool:
        """Repeat a query without EDNS if EDNS may be the cause of the error (RFC 6891 section 7).

        Return False if the reply is accepted. Servers without EDNS answer with other errors than
        FORMERR as well, some with a copy of the OPT record. `reply` is None if it had no OPT
        record.
        """
        upstream, now = attempt.upstream, monotonic()
        if not attempt.body[9]:
            return False
        works = upstream.edns.works(now)
        is_vague = rcode in (SERVFAIL, REFUSED)
        if is_vague:
            knows_options = reply is not None and reply.options != b""
            believed = works or knows_options or client_options(self.body, self.question) != b""
        else:
            believed = works and reply is not None and rcode != BADVERS
        if believed:
            return False
        detours, over_tcp = self.detours, attempt.proto != "udp"
        if len(attempt.body) > len(self.body) and not works and not is_vague:
            # The upstream may only not support the cookie.
            detours.without_cookie = upstream
            plainer = self._send(upstream, self.body, over_tcp, now, with_cookie=False)
        else:
            detours.refused_by, detours.refused_with = upstream, rcode
            body = without_edns(self.body, self.question)
            plainer = self._send(upstream, body, over_tcp, now)
        plainer.number = attempt.number
        return True

    def _ask_with_cookie(self, attempt: Attempt) -> None:
        """Repeat a query after BADCOOKIE: with the new cookie, then over TCP, then without cookie.

        RFC 7873 section 5.3 ends with TCP, but some upstreams reject every cookie there, too.
        """
        upstream, now = attempt.upstream, monotonic()
        if attempt.proto != "udp":
            self.detours.without_cookie = upstream
            self._send(upstream, self.body, False, now, with_cookie=False)
        elif self.detours.had_bad_cookie:
            self._move(attempt, now)
        else:
            self.detours.had_bad_cookie = True
            self._send(upstream, self.body, False, now)

    def _keep(self, attempt: Attempt, reply: Reply) -> None:
        """Keep a reply, for the case that no better one arrives."""
        self.reply, self.upstream = reply, attempt.upstream
        if self._pool.is_observed:
            self.answered = attempt

    def _hold(self, attempt: Attempt, seconds: float) -> None:
        """Let clients wait for a better reply than the one kept, for up to `seconds`."""
        self._pool.loop.call_later(seconds, self._release, attempt)

    def _release(self, attempt: Attempt) -> None:
        """End the wait for a better reply, unless data still arrives over TCP."""
        if self.done:
            return
        if attempt.proto == "tcp" and attempt in self._open:
            now, upstream = monotonic(), attempt.upstream
            heard = 0.0 if attempt.link is None else attempt.link.heard
            if heard > now - MOST_TCP_PATIENCE and heard > self.detours.moved.get(attempt, 0.0):
                self._hold(attempt, upstream.tcp.patience)  # the data may be part of this reply
                return
            upstream.tcp.failed(now)
        if not self.for_tcp or self.reply is not None:
            self._end()
