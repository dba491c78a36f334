"""Sends the attempts of an exchange, and chooses the form of each query.

The usual form has the client's flags and options and corepy's EDNS, and is sent over UDP. Other
forms are for upstreams that do not support it, and for replies that require another query.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from corepy.dns.edns import EDE_NO_REACHABLE_AUTHORITY
from corepy_forward.forgery import with_random_case
from corepy_forward.forms import (
    USUAL_SIZE,
    needs_edns,
    with_option,
    with_size,
    without_edns,
)

if TYPE_CHECKING:
    from corepy.dns import Reply
    from corepy.plugin import Pending
    from corepy_forward.attempt import Attempt, CrowdLike, PoolLike, UpstreamLike

_RD: Final = 0x01
_CD: Final = 0x10

MOST_QUERIES: Final = 4
"""Maximum number of queries in flight to one upstream for one name, type and class."""

MOST_UNUSUAL: Final = (MOST_QUERIES, 3, 2)
"""Maximum number of these whose `Asking.unusualness` is at least the index."""

LARGE_SIZE: Final = 4096
"""Bytes of a reply over UDP to allow if TCP does not work; many servers send at most this."""


class Detours:
    """The state of an exchange for queries in other forms than the usual one."""

    __slots__ = (
        "asked_large",
        "ede",
        "failed_over",
        "failures",
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
        self.asked_large: list[UpstreamLike] = []
        """Upstreams asked for a large reply over UDP because TCP does not work."""

        self.lost_at: UpstreamLike | None = None
        """The upstream that was asked again without EDNS after no reply."""

        self.refused_by: UpstreamLike | None = None
        """The upstream that was asked again without EDNS after an error, `refused_with`."""

        self.refused_with = 0
        self.without_cookie: UpstreamLike | None = None
        """The upstream that was asked again without a cookie after an error."""

        self.had_bad_cookie = False
        self.has_heard = False
        """Whether any upstream has sent a reply, even an unusable one."""

        self.moved: dict[Attempt, float] = {}
        """Monotonic times in seconds at which attempts moved from UDP to TCP."""

        self.lacked: dict[Attempt, str] = {}
        """The "cookie" or "case" that a reply over UDP lacked, for attempts that moved for it."""

        self.ede = EDE_NO_REACHABLE_AUTHORITY
        self.failed_over: set[UpstreamLike] = set()
        """The upstreams that replied with one of the rcodes of the option `failover`."""

        self.notes: tuple[str, ...] = ()
        """The outcomes of the attempts, for the log."""

        self.failures: tuple[tuple[Attempt, float, str], ...] = ()
        """The attempts in `notes`, with the monotonic times of their ends and the reasons."""


class Asking:
    """Sends the attempts of one exchange; the base of `Exchange`.

    It has the slots of all derived classes, and one `__init__` sets them: each forwarded query
    creates an exchange, and a call through `super` costs as much as setting ten slots.
    """

    __slots__ = (
        "_detours",
        "_open",
        "_pool",
        "_tried",
        "answered",
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

    def __init__(
        self, pool: PoolLike, question: bytes, body: bytes, for_tcp: bool, now: float
    ) -> None:
        """Take the query.

        `body` is the query without its ID, `question` its question section in lower case.
        `for_tcp`: the clients use TCP, so they need a complete reply.
        """
        self._pool = pool
        self.question = question
        self.body = body
        self.for_tcp = for_tcp
        self.key: object = question
        """The key in `Pool.flights`."""

        self.crowd: CrowdLike | None = None
        self.over_tcp = pool.force_tcp or (for_tcp and not pool.settings.prefer_udp)
        self.started = now
        self.done = False
        self.waiters: list[Pending] = []
        self.reply: Reply | None = None
        self.upstream: UpstreamLike | None = None
        """The upstream that sent `reply`."""

        self.answered: Attempt | None = None
        """The attempt that got `reply`, if the pool is observed.

        It refers to the exchange, and only the garbage collector frees such a cycle.
        """

        self._tried: list[UpstreamLike] = []
        self._open: list[Attempt] = []
        self._detours: Detours | None = None

    @property
    def detours(self) -> Detours:
        """The state for queries in other forms, created on first use."""
        if self._detours is None:
            self._detours = Detours()
        return self._detours

    @property
    def unusualness(self) -> int:
        """Difference to a query of a stub resolver, which every upstream answers.

        0: none; 1: with DO or CD; 2: with EDNS options of a client, or without RD.
        """
        body = self.body
        if len(body) - len(self.question) != USUAL_SIZE or not body[0] & _RD:
            return 2
        return int(body[1] & _CD != 0 or needs_edns(body, self.question))

    def queries_at(self, upstream: UpstreamLike, unusualness: int = 0) -> int:
        """Return the number of this exchange's queries in flight to an upstream.

        It is 0 if the exchange is less unusual than `unusualness`.
        """
        if unusualness and self.unusualness < unusualness:
            return 0
        return sum(each.upstream is upstream for each in self._open)

    def is_full(self, upstream: UpstreamLike) -> bool:
        """Whether the maximum number of queries for the question is in flight to an upstream."""
        counted: CrowdLike = self if self.crowd is None else self.crowd
        if counted.queries_at(upstream) >= MOST_QUERIES:
            return True
        level = self.unusualness
        return any(
            counted.queries_at(upstream, each) >= MOST_UNUSUAL[each] for each in range(1, level + 1)
        )

    def replied(self, attempt: Attempt, wire: bytes) -> None:
        """Process the upstream's reply."""
        raise NotImplementedError

    def failed(self, attempt: Attempt, reason: str) -> None:
        """Handle the failure of an attempt."""
        raise NotImplementedError

    def late(self, attempt: Attempt) -> None:
        """Handle a reply that takes longer than usual for this upstream."""
        raise NotImplementedError

    def doubted(self, attempt: Attempt, wire: bytes, lacks: str) -> None:
        """Handle a reply over UDP that lacks the expected "cookie" or "case"."""
        raise NotImplementedError

    def guessed(self, attempt: Attempt) -> None:
        """Ask over TCP if it works, because a forger may be guessing replies to this attempt."""
        upstream, now = attempt.upstream, monotonic()
        upstream.is_limited = True
        if self.done or attempt not in self._open or upstream.tcp.is_dead(now):
            return
        if attempt.link is not None:
            attempt.link.forget(attempt)
        self._open.remove(attempt)
        self._move(attempt, now)

    def ask(self, upstream: UpstreamLike, now: float) -> None:
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

    def ask_elsewhere(self, avoided: UpstreamLike, now: float) -> bool:
        """Start the first attempt, with another upstream than `avoided` if there is one.

        Return False if the settings allow only one attempt.
        """
        self._tried.append(avoided)
        return self._retry(now)

    def _ask_otherwise(self, upstream: UpstreamLike, now: float) -> None:
        """Start an attempt in a form that depends on the upstream and on earlier attempts."""
        upstream.look(now)
        times, is_dead = self._tried.count(upstream), upstream.tcp.is_dead(now)
        if self.over_tcp and is_dead and self._ask_large(upstream, now, len(self._tried)):
            return
        body = self._form(upstream, now)
        if times == 2 and body[9] and self._may_go_without(upstream, now):
            body = without_edns(body, self.question)
            self.detours.lost_at = upstream
        # After a second loss in a row at one upstream, UDP may be blocked.
        distrusts_udp = times > 2 or upstream.guesses.are_many(self.question, now)
        self._send(upstream, body, self.over_tcp or (distrusts_udp and not is_dead), now)

    def _send(
        self,
        upstream: UpstreamLike,
        body: bytes,
        over_tcp: bool,
        now: float,
        with_cookie: bool = True,
    ) -> Attempt:
        """Send a query; over UDP with a cookie, and in random case if that is configured."""
        if not over_tcp:
            if with_cookie and upstream.cookies.option:
                body = with_option(body, self.question, upstream.cookies.option)
            if upstream.proofs.mixes_case(now):
                body = with_random_case(body, self.question)
        attempt = upstream.ask(self, body, over_tcp, now)
        attempt.number = len(self._tried)
        self._open.append(attempt)
        return attempt

    def _form(self, upstream: UpstreamLike, now: float) -> bytes:
        """Return the query, without EDNS if the upstream does not support it."""
        edns = upstream.edns
        if edns.is_limited(now) and edns.is_off(now, needs_edns(self.body, self.question)):
            return without_edns(self.body, self.question)
        return self.body

    def _may_go_without(self, upstream: UpstreamLike, now: float) -> bool:
        """Whether a query that was lost with EDNS may be repeated without it."""
        if upstream.cookies.is_expected:
            return False
        return not upstream.edns.works(now) or not needs_edns(self.body, self.question)

    def _ask_large(self, upstream: UpstreamLike, now: float, number: int) -> bool:
        """Ask over UDP for a reply of up to `LARGE_SIZE`, because TCP does not work.

        Return False if that is not possible, or was tried. `number` is the number of the attempt
        for which TCP was to be used.
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

    def _move(self, attempt: Attempt, now: float) -> None:
        """Send the query of an attempt again over TCP."""
        self.detours.moved[attempt] = now
        self._open.append(attempt)
        attempt.upstream.over_tcp(attempt)

    def _retry(self, now: float, *, new_only: bool = False) -> bool:
        """Start another attempt, unless the maximum is reached; return whether one was started."""
        pool = self._pool
        pool.watch_time()
        if self.done or len(self._tried) >= pool.max_attempts:
            return False
        upstream = pool.another(self._tried, new_only=new_only, is_full=self.is_full)
        if upstream is None:
            return False
        self.ask(upstream, now)
        return True
