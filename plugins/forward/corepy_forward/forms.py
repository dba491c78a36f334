"""The forms of queries to an upstream, and which of them it supports.

The usual query has the client's question in lower case, its opcode, RD, AD, CD and DO, and corepy's
own EDNS. Clients whose queries agree in all of these share one exchange. A body is a query without
its ID: ten bytes of header, the question, and OPT as the only record.

Whether an upstream supports EDNS and DNS over TCP is learned from the exchanges of clients. It
expires after a while, because servers are upgraded and firewalls change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import Reply
from corepy.dns.constants import FLAG_CD, NOERROR, NXDOMAIN
from corepy.dns.edns import (
    OPT_SIZE,
    OPTION_PADDING,
    UDP_SIZE,
    forwarded_options,
    opt_record,
    option,
)
from corepy.dns.form_error import FormError

if TYPE_CHECKING:
    from corepy.dns import Request

# The flags copied from the client's query: opcode, RD, AD, CD.
_FLAGS: Final = 0x7800 | 0x0100 | 0x0020 | 0x0010
_KEPT_FLAGS: Final = 0x7800 | 0x0100
_COUNTS: Final = b"\0\1\0\0\0\0\0\1"
_HEADERS: Final[dict[int, bytes]] = {}
_OPT: Final = opt_record(UDP_SIZE)
_OPT_DO: Final = opt_record(UDP_SIZE, do=True)

_PADDING_BLOCK: Final = 128
_OPTION_HEADER: Final = 4
_HEADER: Final = 10
USUAL_SIZE: Final = _HEADER + OPT_SIZE
"""Bytes of a body without EDNS options, excluding the question."""

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


def body_of(request: Request, question: bytes) -> bytes:
    """Return the query to send, without its ID; `question` is its question section."""
    flags, edns = request.flags & _FLAGS, request.edns
    header = _HEADERS.get(flags) or _header(flags)
    if edns is None:
        return header + question + _OPT
    if edns.options:
        return header + question + _own_opt(edns.do, edns.options)
    return header + question + (_OPT_DO if edns.do else _OPT)


def body_for_validation(question: bytes, flags: int, options: bytes) -> bytes:
    """Return a query with DO and CD, so that the reply can be validated (RFC 6840 section 5.9).

    `flags` are those of the client's query, of which opcode and RD are kept; `options` its EDNS
    options.
    """
    flags = flags & _KEPT_FLAGS | FLAG_CD
    header = _HEADERS.get(flags) or _header(flags)
    return header + question + (_own_opt(True, options) if options else _OPT_DO)


def _header(flags: int) -> bytes:
    """Return the header of a query without its ID: flags and counts."""
    header = _HEADERS[flags] = flags.to_bytes(2, "big") + _COUNTS
    return header


def _own_opt(do: bool, options: bytes) -> bytes:
    """Return the OPT record to send, with the client's options that a reply may depend on."""
    return opt_record(UDP_SIZE, do, options=forwarded_options(options))


def without_edns(body: bytes, question: bytes) -> bytes:
    """Return the query without EDNS."""
    return body[:8] + b"\0\0" + body[_HEADER : _HEADER + len(question)]


def with_size(body: bytes, question: bytes, size: int) -> bytes:
    """Return the query with another maximum size of UDP replies, in bytes."""
    if not body[9]:
        return body
    at = _HEADER + len(question) + 3
    return body[:at] + size.to_bytes(2, "big") + body[at + 2 :]


def with_option(body: bytes, question: bytes, added: bytes) -> bytes:
    """Return the query with an additional EDNS option; unchanged if it has no EDNS."""
    if not body[9]:
        return body
    at = _HEADER + len(question) + OPT_SIZE
    length = len(body) - at + len(added)
    return b"".join((body[: at - 2], length.to_bytes(2, "big"), body[at:], added))


def padded(body: bytes, question: bytes) -> bytes:
    """Return the query with padding to a multiple of 128 bytes, if it has EDNS (RFC 8467)."""
    size = 2 + len(body) + _OPTION_HEADER
    return with_option(body, question, option(OPTION_PADDING, bytes(-size % _PADDING_BLOCK)))


def client_options(body: bytes, question: bytes) -> bytes:
    """Return the EDNS options of a query."""
    return body[_HEADER + len(question) + OPT_SIZE :]


def needs_edns(body: bytes, question: bytes) -> bool:
    """Whether clients depend on EDNS: they sent DO, or an option that is forwarded."""
    opt = body[_HEADER + len(question) :]
    return len(opt) > OPT_SIZE or (len(opt) == OPT_SIZE and opt[7] & 0x80 != 0)


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

    def learn(self, body: bytes, wire: bytes, now: float) -> None:
        """Process the reply to `body`: an answer to a query with EDNS proves that EDNS works."""
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
