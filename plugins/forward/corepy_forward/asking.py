"""How one question is asked: the attempts of an exchange, and in which form each is sent.

The usual form is the query as the client's flags and options make it, with our EDNS, over UDP. The
others are for upstreams that cannot take it, and for replies that leave something to ask.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from corepy.dns.constants import BADVERS, REFUSED, SERVFAIL
from corepy_forward.question import needs_edns, with_size, without_edns

if TYPE_CHECKING:
    from corepy_forward.attempt import Attempt
    from corepy_forward.pool import Pool
    from corepy_forward.upstream import Upstream

LARGE_SIZE: Final = 4096
"""Bytes that a reply over UDP may have where there is no TCP for it; many servers send no more."""


def key_of(body: bytes, for_tcp: bool) -> bytes:
    """Return what tells exchanges apart: those for clients over TCP are others."""
    return b"\xff" + body if for_tcp else body  # no query begins so: it would have QR set


class Detours:
    """What an exchange has tried beyond the usual."""

    __slots__ = ("asked_large", "has_heard", "lost_at", "refused_by", "refused_with")

    def __init__(self) -> None:
        self.asked_large: list[Upstream] = []
        """Upstreams asked over UDP for lack of TCP."""

        self.lost_at: Upstream | None = None
        """It left a query unanswered and was asked again without EDNS."""

        self.refused_by: Upstream | None = None
        """It answered with an error and was asked again without EDNS."""

        self.refused_with = 0
        self.has_heard = False
        """Some upstream has sent something, if nothing of use."""


class Asking:
    """The attempts of one question; see the module. The base of `Exchange`."""

    __slots__ = (
        "_detours",
        "_open",
        "_pool",
        "_tried",
        "body",
        "done",
        "for_tcp",
        "key",
        "over_tcp",
        "question",
        "started",
    )

    def __init__(self, pool: Pool, question: bytes, body: bytes, for_tcp: bool, now: float) -> None:
        """`body` is the query without its ID, `question` its question section in lower case.

        `for_tcp`: the clients asked over TCP, so they have no use for a truncated answer.
        """
        self._pool = pool
        self.question = question
        self.body = body
        self.for_tcp = for_tcp
        self.key = key_of(body, for_tcp)
        self.over_tcp = pool.force_tcp or (for_tcp and not pool.settings.prefer_udp)
        self.started = now
        self.done = False
        self._tried: list[Upstream] = []
        self._open: list[Attempt] = []
        self._detours: Detours | None = None

    @property
    def detours(self) -> Detours:
        """What was tried beyond the usual."""
        if self._detours is None:
            self._detours = Detours()
        return self._detours

    def replied(self, attempt: Attempt, wire: bytes) -> None:
        """Take the upstream's message."""
        raise NotImplementedError

    def failed(self, attempt: Attempt, reason: str) -> None:
        """Learn that nothing will come of this attempt."""
        raise NotImplementedError

    def late(self, attempt: Attempt) -> None:
        """Learn that the reply takes longer than this upstream's usually do."""
        raise NotImplementedError

    def ask(self, upstream: Upstream, now: float) -> None:
        """Start an attempt."""
        tried = self._tried
        tried.append(upstream)
        if upstream.is_limited or self.over_tcp or len(tried) > 1:
            self._ask_otherwise(upstream, now)
        else:
            self._open.append(upstream.ask(self, self.body, False, now))

    def _ask_otherwise(self, upstream: Upstream, now: float) -> None:
        """Start an attempt in the form that suits the upstream and what it was asked before."""
        upstream.is_limited = upstream.edns.is_limited(now)
        times = self._tried.count(upstream)
        if self.over_tcp and upstream.tcp.is_dead(now) and self._ask_large(upstream, now):
            return
        body = self._form(upstream, now)
        if times == 2 and body[9] and self._may_go_without(upstream, now):
            body = without_edns(body, self.question)
            self.detours.lost_at = upstream
        # A second loss in a row at one upstream: perhaps it is UDP that does not get through.
        over_tcp = self.over_tcp or (times > 2 and not upstream.tcp.is_dead(now))
        self._open.append(upstream.ask(self, body, over_tcp, now))

    def _form(self, upstream: Upstream, now: float) -> bytes:
        """Return the query, without EDNS if that is what the upstream needs."""
        edns = upstream.edns
        if edns.is_limited(now) and edns.is_off(now, needs_edns(self.body, self.question)):
            return without_edns(self.body, self.question)
        return self.body

    def _may_go_without(self, upstream: Upstream, now: float) -> bool:
        """Whether EDNS may be left out of a query that was lost with it."""
        return not upstream.edns.works(now) or not needs_edns(self.body, self.question)

    def _ask_large(self, upstream: Upstream, now: float) -> bool:
        """Ask over UDP for as much as it carries, for lack of TCP; False if that is no use."""
        if self._pool.force_tcp or upstream.stream_proto != "tcp":
            return False
        asked = self.detours.asked_large
        if upstream in asked:
            return False
        asked.append(upstream)
        body = with_size(self._form(upstream, now), self.question, LARGE_SIZE)
        self._open.append(upstream.ask(self, body, False, now))
        return True

    def _ask_plainer(self, attempt: Attempt, rcode: int, has_opt: bool) -> bool:
        """Ask without EDNS what was perhaps refused for it; False if the reply is to be believed.

        RFC 6891 section 7. Servers without EDNS answer other errors than FORMERR as well, some with
        the OPT record that they were sent.
        """
        upstream, now = attempt.upstream, time.monotonic()
        if not attempt.body[9]:
            return False
        means_question = has_opt and rcode != BADVERS
        if upstream.edns.works(now) and (means_question or rcode in (SERVFAIL, REFUSED)):
            return False
        detours = self.detours
        detours.refused_by, detours.refused_with = upstream, rcode
        body = without_edns(self.body, self.question)
        self._open.append(upstream.ask(self, body, attempt.proto != "udp", now))
        return True

    def _move(self, attempt: Attempt, now: float) -> None:
        """Ask once more over TCP."""
        attempt.moved = now
        self._open.append(attempt)
        attempt.upstream.over_tcp(attempt)

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
