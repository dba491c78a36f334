"""How one question is asked: the attempts of an exchange, and in which form each is sent.

The usual form is the query as the client's flags and options make it, with our EDNS, over UDP. The
others are for upstreams that cannot take it, and for replies that leave something to ask.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from corepy.dns.constants import BADVERS, REFUSED, SERVFAIL
from corepy.dns.edns import EDE_NO_REACHABLE_AUTHORITY
from corepy_forward.crowd import MOST_QUERIES, MOST_UNUSUAL
from corepy_forward.lettercase import with_random_case
from corepy_forward.question import (
    USUAL_SIZE,
    client_options,
    needs_edns,
    with_option,
    with_size,
    without_edns,
)

if TYPE_CHECKING:
    from corepy.dns import Reply
    from corepy.plugin import Pending
    from corepy_forward.attempt import Attempt
    from corepy_forward.crowd import Crowd
    from corepy_forward.pool import Pool
    from corepy_forward.upstream import Upstream

_RD: Final = 0x01
_CD: Final = 0x10

LARGE_SIZE: Final = 4096
"""Bytes that a reply over UDP may have where there is no TCP for it; many servers send no more."""


class Detours:
    """What an exchange has tried beyond the usual."""

    __slots__ = (
        "asked_large",
        "ede",
        "failovers",
        "had_bad_cookie",
        "has_heard",
        "lacked",
        "lost_at",
        "moved",
        "notes",
        "refused_by",
        "refused_with",
        "without_cookie",
    )

    def __init__(self) -> None:
        self.asked_large: list[Upstream] = []
        """Upstreams asked over UDP for lack of TCP."""

        self.lost_at: Upstream | None = None
        """It left a query unanswered and was asked again without EDNS."""

        self.refused_by: Upstream | None = None
        """It answered with an error and was asked again without EDNS."""

        self.refused_with = 0
        self.without_cookie: Upstream | None = None
        """It answered with an error and was asked again without a cookie."""

        self.had_bad_cookie = False
        self.has_heard = False
        """Some upstream has sent something, if nothing of use."""

        self.moved: dict[Attempt, float] = {}
        """When attempts went from UDP to TCP, monotonic seconds."""

        self.lacked: dict[Attempt, str] = {}
        """What a reply over UDP lacked, "cookie" or "case", because of which that was."""

        self.ede = EDE_NO_REACHABLE_AUTHORITY
        self.failovers = 0
        """Replies because of which another upstream was to be asked."""

        self.notes: tuple[str, ...] = ()
        """What became of the attempts, for the log."""


class Asking:
    """The attempts of one question; see the module. The base of `Exchange`.

    The slots of all its classes are here and filled by one function: a call by way of `super` costs
    as much as ten slots, and every query that is forwarded makes an exchange.
    """

    __slots__ = (
        "_detours",
        "_open",
        "_pool",
        "_tried",
        "body",
        "crowd",
        "done",
        "for_tcp",
        "key",
        "over_tcp",
        "question",
        "reply",
        "started",
        "upstream",
        "waiters",
    )

    def __init__(self, pool: Pool, question: bytes, body: bytes, for_tcp: bool, now: float) -> None:
        """`body` is the query without its ID, `question` its question section in lower case.

        `for_tcp`: the clients asked over TCP, so they have no use for a truncated answer.
        """
        self._pool = pool
        self.question = question
        self.body = body
        self.for_tcp = for_tcp
        self.key: object = question
        """What it is found by in `Pool.flights`."""

        self.crowd: Crowd | None = None
        self.over_tcp = pool.force_tcp or (for_tcp and not pool.settings.prefer_udp)
        self.started = now
        self.done = False
        self.waiters: list[Pending] = []
        self.reply: Reply | None = None
        self.upstream: Upstream | None = None
        """The one that sent the reply."""

        self._tried: list[Upstream] = []
        self._open: list[Attempt] = []
        self._detours: Detours | None = None

    @property
    def detours(self) -> Detours:
        """What was tried beyond the usual."""
        if self._detours is None:
            self._detours = Detours()
        return self._detours

    @property
    def unusualness(self) -> int:
        """How far the query is from that of a stub resolver, which every upstream answers.

        0: as it is; 1: with DO or CD; 2: with EDNS options of a client, or without RD.
        """
        body = self.body
        if len(body) - len(self.question) != USUAL_SIZE or not body[0] & _RD:
            return 2
        return int(body[1] & _CD != 0 or needs_edns(body, self.question))

    def queries_at(self, upstream: Upstream, unusualness: int = 0) -> int:
        """Return how many queries of this exchange, if as unusual, are in flight to an upstream."""
        if unusualness and self.unusualness < unusualness:
            return 0
        return sum(each.upstream is upstream for each in self._open)

    def is_full(self, upstream: Upstream) -> bool:
        """Whether as many queries for the question are in flight to an upstream as may be."""
        counted = self if self.crowd is None else self.crowd
        if counted.queries_at(upstream) >= MOST_QUERIES:
            return True
        level = self.unusualness
        return any(
            counted.queries_at(upstream, each) >= MOST_UNUSUAL[each] for each in range(1, level + 1)
        )

    def replied(self, attempt: Attempt, wire: bytes) -> None:
        """Take the upstream's message."""
        raise NotImplementedError

    def failed(self, attempt: Attempt, reason: str) -> None:
        """Learn that nothing will come of this attempt."""
        raise NotImplementedError

    def late(self, attempt: Attempt) -> None:
        """Learn that the reply takes longer than this upstream's usually do."""
        raise NotImplementedError

    def doubted(self, attempt: Attempt, wire: bytes, lacks: str) -> None:
        """Take a reply over UDP that lacks what the upstream usually sends."""
        raise NotImplementedError

    def guessed(self, attempt: Attempt) -> None:
        """Ask over TCP, if there is TCP: somebody may be guessing replies to this attempt."""
        upstream, now = attempt.upstream, time.monotonic()
        upstream.is_limited = True
        if self.done or attempt not in self._open or upstream.tcp.is_dead(now):
            return
        if attempt.link is not None:
            attempt.link.forget(attempt)
        self._open.remove(attempt)
        self._move(attempt, now)

    def ask(self, upstream: Upstream, now: float) -> None:
        """Start an attempt."""
        tried, body = self._tried, self.body
        if (
            tried
            or upstream.is_limited
            or self.over_tcp
            or len(body) - len(self.question) != USUAL_SIZE
        ):
            tried.append(upstream)
            self._ask_otherwise(upstream, now)
            return
        tried.append(upstream)
        self._open.append(upstream.ask(self, body[:-2] + upstream.cookies.tail, False, now))

    def _ask_otherwise(self, upstream: Upstream, now: float) -> None:
        """Start an attempt in the form that suits the upstream and what it was asked before."""
        upstream.look(now)
        times, is_dead = self._tried.count(upstream), upstream.tcp.is_dead(now)
        if self.over_tcp and is_dead and self._ask_large(upstream, now, len(self._tried)):
            return
        body = self._form(upstream, now)
        if times == 2 and body[9] and self._may_go_without(upstream, now):
            body = without_edns(body, self.question)
            self.detours.lost_at = upstream
        # A second loss in a row at one upstream: perhaps it is UDP that does not get through.
        distrusts_udp = times > 2 or upstream.guesses.are_many(self.question, now)
        self._send(upstream, body, self.over_tcp or (distrusts_udp and not is_dead), now)

    def _send(
        self, upstream: Upstream, body: bytes, over_tcp: bool, now: float, with_cookie: bool = True
    ) -> Attempt:
        """Send a query; over UDP with a cookie, and with its name in random case if that is set."""
        if not over_tcp:
            if with_cookie and upstream.cookies.option:
                body = with_option(body, self.question, upstream.cookies.option)
            if upstream.proofs.mixes_case(now):
                body = with_random_case(body, self.question)
        attempt = upstream.ask(self, body, over_tcp, now)
        attempt.number = len(self._tried)
        self._open.append(attempt)
        return attempt

    def _form(self, upstream: Upstream, now: float) -> bytes:
        """Return the query, without EDNS if that is what the upstream needs."""
        edns = upstream.edns
        if edns.is_limited(now) and edns.is_off(now, needs_edns(self.body, self.question)):
            return without_edns(self.body, self.question)
        return self.body

    def _may_go_without(self, upstream: Upstream, now: float) -> bool:
        """Whether EDNS may be left out of a query that was lost with it."""
        if upstream.cookies.is_expected:
            return False
        return not upstream.edns.works(now) or not needs_edns(self.body, self.question)

    def _ask_large(self, upstream: Upstream, now: float, number: int) -> bool:
        """Ask over UDP for as much as it carries, for lack of TCP; False if that is no use.

        `number` is that of the attempt which this belongs to.
        """
        if self._pool.force_tcp or upstream.stream_proto != "tcp":
            return False
        asked = self.detours.asked_large
        if upstream in asked or self.is_full(upstream):
            return False
        asked.append(upstream)
        body = with_size(self._form(upstream, now), self.question, LARGE_SIZE)
        self._send(upstream, body, False, now).number = number
        return True

    def _ask_plainer(self, attempt: Attempt, rcode: int, reply: Reply | None) -> bool:
        """Ask without EDNS what was perhaps refused for it; False if the reply is to be believed.

        RFC 6891 section 7. Servers without EDNS answer other errors than FORMERR as well, some with
        the OPT record that they were sent. `reply` is None if it had no OPT record.
        """
        upstream, now = attempt.upstream, time.monotonic()
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
            # Perhaps it is only the cookie that it does not know.
            detours.without_cookie = upstream
            plainer = self._send(upstream, self.body, over_tcp, now, with_cookie=False)
        else:
            detours.refused_by, detours.refused_with = upstream, rcode
            body = without_edns(self.body, self.question)
            plainer = self._send(upstream, body, over_tcp, now)
        plainer.number = attempt.number
        return True

    def _ask_with_cookie(self, attempt: Attempt) -> None:
        """Ask again with the cookie that came with BADCOOKIE, then over TCP, at last without any.

        RFC 7873 section 5.3 ends with TCP; some upstreams refuse every cookie there, too.
        """
        upstream, now = attempt.upstream, time.monotonic()
        if attempt.proto != "udp":
            self.detours.without_cookie = upstream
            self._send(upstream, self.body, False, now, with_cookie=False)
        elif self.detours.had_bad_cookie:
            self._move(attempt, now)
        else:
            self.detours.had_bad_cookie = True
            self._send(upstream, self.body, False, now)

    def _move(self, attempt: Attempt, now: float) -> None:
        """Ask once more over TCP."""
        self.detours.moved[attempt] = now
        self._open.append(attempt)
        attempt.upstream.over_tcp(attempt)

    def _retry(self, now: float, *, new_only: bool = False) -> bool:
        """Start another attempt, unless there were enough."""
        pool = self._pool
        pool.watch_time()
        if self.done or len(self._tried) >= pool.max_attempts:
            return False
        upstream = pool.another(self._tried, new_only=new_only, is_full=self.is_full)
        if upstream is None:
            return False
        self.ask(upstream, now)
        return True
