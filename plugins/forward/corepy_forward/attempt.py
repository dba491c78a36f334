"""One query in flight to one upstream, and the interfaces between the objects that handle it.

Pools create exchanges, exchanges create attempts at upstreams, and upstreams pass them to sockets;
replies and failures are called back in the opposite direction. Each module imports only the ones
that it creates objects of. The interfaces of the opposite direction are the protocols in this file:
`Owner` and `UpstreamLike` for sockets and attempts, `PoolLike` and `CrowdLike` for exchanges.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from corepy.plugin import Wakeups
    from corepy.plugin.metrics import Value
    from corepy_forward.forgery import Cookies, Guesses, Proofs
    from corepy_forward.forms import EdnsSupport, TcpSupport
    from corepy_forward.quic_trust import TLSContext
    from corepy_forward.settings import Settings
    from corepy_forward.targets import Target

_BLOCK: Final = 512
_cut: Final = Struct("2s" * _BLOCK).unpack
_NO_COUNTS: Final = bytes(8)

_idents: Final[list[bytes]] = []


def draw_ident() -> bytes:
    """Return a message ID, two bytes of the system's random generator (RFC 5452 section 9.2)."""
    if not _idents:
        _idents.extend(_cut(os.urandom(2 * _BLOCK)))
    return _idents.pop()


class Owner(Protocol):
    """The sender of an attempt, which gets its outcome: an exchange or a health check."""

    body: bytes
    """The query without its ID."""

    question: bytes
    """Its question section, the name in lower case."""

    def replied(self, attempt: Attempt, wire: bytes) -> None:
        """Process the upstream's reply to the question."""

    def failed(self, attempt: Attempt, reason: str) -> None:
        """Handle the failure of an attempt."""

    def late(self, attempt: Attempt) -> None:
        """Handle a reply that takes longer than usual for this upstream."""

    def doubted(self, attempt: Attempt, wire: bytes, lacks: str) -> None:
        """Handle a reply over UDP that lacks the expected "cookie" or "case".

        The socket no longer waits for another reply.
        """

    def guessed(self, attempt: Attempt) -> None:
        """Handle a suspicion that a forger is guessing replies to this attempt."""


class Link(Protocol):
    """The socket or connection of an attempt."""

    @property
    def is_connected(self) -> bool:
        """Whether the connection is established, so that queries are sent at once."""

    @property
    def heard(self) -> float:
        """Monotonic time in seconds of the last received data; 0 if unknown."""

    @property
    def has_answered(self) -> bool:
        """Whether the upstream has sent any data."""

    def forget(self, attempt: Attempt) -> None:
        """Stop waiting for the reply to `attempt`."""


class UpstreamLike(Protocol):
    """An upstream; see `upstream.Upstream` for its methods and attributes."""

    target: Target
    address: str
    settings: Settings
    wakeups: Wakeups
    loop: asyncio.AbstractEventLoop
    context: TLSContext | None
    stream_proto: str
    is_limited: bool
    edns: EdnsSupport
    tcp: TcpSupport
    guesses: Guesses
    proofs: Proofs
    cookies: Cookies

    def ask(self, owner: Owner, body: bytes, over_tcp: bool, now: float) -> Attempt:
        """Send a query and watch its timeouts."""

    def probe(self, owner: Owner, over_tcp: bool) -> Attempt:
        """Send a query without timeouts; raises OSError."""

    def over_tcp(self, attempt: Attempt) -> None:
        """Send the query of an attempt again over TCP."""

    def arrived(self, attempt: Attempt, wire: bytes, now: float) -> None:
        """Process a reply to `attempt`."""

    def prove(self, attempt: Attempt, wire: bytes, now: float) -> None:
        """Accept a reply over UDP if it has the expected cookie and case."""

    def dropped(self, reason: str) -> None:
        """Count a discarded message."""

    def broke(self, attempt: Attempt, reason: str) -> None:
        """Fail an attempt."""

    def cancel(self, attempt: Attempt) -> None:
        """Stop waiting for the reply to `attempt`."""

    def look(self, now: float) -> None:
        """Update `is_limited`."""

    def lost_edns(self, now: float) -> None:
        """Record an answer without EDNS, after no reply or a vague error with EDNS."""

    def refused_edns(self, now: float) -> None:
        """Record an answer without EDNS, after the query was rejected with EDNS."""

    def healthy(self) -> None:
        """Record a successful health check."""

    def unhealthy(self) -> None:
        """Record a failed health check."""

    def connection_counters(self, proto: str) -> tuple[Value, Value]:
        """Return the counters of queries over existing and over new sockets."""


class CrowdLike(Protocol):
    """The concurrent exchanges of one question; see `limits.Crowd`."""

    def queries_at(self, upstream: UpstreamLike, unusualness: int = 0) -> int:
        """Return the number of queries in flight to an upstream with at least this unusualness."""


class PoolLike(Protocol):
    """The upstreams of a `forward` line, as its exchanges use them; see `pool.Pool`."""

    settings: Settings
    loop: asyncio.AbstractEventLoop
    force_tcp: bool
    final_rcodes: frozenset[int]
    max_attempts: int
    is_observed: bool
    """Whether exchanges keep their attempts for an `AttemptObserver`."""

    @property
    def upstreams(self) -> Sequence[UpstreamLike]:
        """The upstreams in use, in the order of the Corefile."""

    @property
    def flights(self) -> dict[object, Any]:
        """The exchanges in flight, by `Asking.key`."""

    def another(
        self,
        tried: Sequence[UpstreamLike],
        *,
        new_only: bool,
        is_full: Callable[[UpstreamLike], bool],
    ) -> UpstreamLike | None:
        """Return the upstream to ask after those in `tried`."""

    def may_hedge(self) -> bool:
        """Count a second query, and return whether it is within the limit."""

    def watch_time(self) -> None:
        """Start the timer that ends exchanges in time."""

    def leave(self, crowd: Any, exchange: Any) -> None:
        """Remove an `Exchange` that has ended from its `Crowd`."""


class Attempt:
    """One query in flight to one upstream."""

    __slots__ = (
        "body",
        "ident",
        "is_late",
        "link",
        "mismatched",
        "number",
        "owner",
        "proto",
        "redials",
        "sent",
        "upstream",
    )

    def __init__(
        self, owner: Owner, upstream: UpstreamLike, body: bytes, proto: str, sent: float
    ) -> None:
        """Take the query without its ID, and the monotonic time `sent` in seconds."""
        self.owner = owner
        self.upstream = upstream
        self.body = body
        self.proto = proto
        self.sent = sent
        self.is_late = False
        self.redials = self.mismatched = 0
        """Number of lost connections; number of messages with its ID but another question."""

        self.number = 1
        """The number of the attempt in its exchange; queries that follow on its reply share it."""

        self.ident: bytes
        self.link: Link | None = None


def answers(wire: bytes, attempt: Attempt) -> bool:
    """Whether `wire`, whose ID is correct, is a response to the question of the attempt.

    RFC 5452 section 9.1. The name is compared case-insensitively, type and class exactly.
    """
    question = attempt.owner.question
    if len(wire) < 12 or wire[2] & 0xF8 != 0x80 | attempt.body[0] & 0x78 or wire[4:6] != b"\0\1":
        return False
    if wire.startswith(question, 12):
        return True
    end = 12 + len(question)
    return wire[12 : end - 4].lower() == question[:-4] and wire[end - 4 : end] == question[-4:]


def is_bare(wire: bytes, attempt: Attempt) -> bool:
    """Whether `wire` is a response that consists of a header only.

    Some servers send it to queries that they cannot parse or reject (RFC 6891 section 7 mentions it
    for servers without EDNS). Only its ID identifies the query.
    """
    return (
        len(wire) == 12
        and wire[2] & 0xF8 == 0x80 | attempt.body[0] & 0x78
        and wire[4:] == _NO_COUNTS
    )
