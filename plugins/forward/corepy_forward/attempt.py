"""One message on its way to one upstream, and who wants to hear how it went."""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from corepy_forward.upstream import Upstream

_BLOCK = 512
_cut = Struct("2s" * _BLOCK).unpack
_NO_COUNTS = bytes(8)

_idents: list[bytes] = []


def draw_ident() -> bytes:
    """Return a message ID, two bytes of the system's random generator (RFC 5452 section 9.2)."""
    if not _idents:
        _idents.extend(_cut(os.urandom(2 * _BLOCK)))
    return _idents.pop()


class Owner(Protocol):
    """The one that asks: an exchange for clients, or a health check."""

    body: bytes
    """The query without its ID."""

    question: bytes
    """Its question section, the name in lower case."""

    def replied(self, attempt: Attempt, wire: bytes) -> None:
        """Take the upstream's message, which answers the question."""

    def failed(self, attempt: Attempt, reason: str) -> None:
        """Learn that nothing will come of this attempt."""

    def late(self, attempt: Attempt) -> None:
        """Learn that the reply takes longer than this upstream's usually do."""

    def doubted(self, attempt: Attempt, wire: bytes, lacks: str) -> None:
        """Take a reply over UDP that lacks the "cookie" or "case" that the upstream usually sends;
        no other is waited for.
        """

    def guessed(self, attempt: Attempt) -> None:
        """Learn that somebody may be guessing replies to this attempt."""


class Link(Protocol):
    """The socket or connection that an attempt waits at."""

    @property
    def is_connected(self) -> bool:
        """Whether queries have been sent, not only kept for when the connection stands."""

    @property
    def heard(self) -> float:
        """When something came last, monotonic seconds, if that is known."""

    @property
    def has_answered(self) -> bool:
        """Whether anything has come from the upstream."""

    def forget(self, attempt: Attempt) -> None:
        """Stop waiting for the reply to `attempt`."""


class Attempt:
    """See the module."""

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
        self, owner: Owner, upstream: Upstream, body: bytes, proto: str, sent: float
    ) -> None:
        """`sent` is the monotonic time in seconds."""
        self.owner = owner
        self.upstream = upstream
        self.body = body
        self.proto = proto
        self.sent = sent
        self.is_late = False
        self.redials = self.mismatched = 0
        """How often its connection was lost; messages with its ID that answered another question.
        """

        self.number = 1
        """Which attempt of its exchange it is. What is asked because of its reply has the same."""

        self.ident: bytes
        self.link: Link | None = None


def answers(wire: bytes, attempt: Attempt) -> bool:
    """Whether `wire`, whose ID is right, is a response to the question that was asked.

    RFC 5452 section 9.1. The name is compared without regard to case, type and class exactly.
    """
    question = attempt.owner.question
    if len(wire) < 12 or wire[2] & 0xF8 != 0x80 | attempt.body[0] & 0x78 or wire[4:6] != b"\0\1":
        return False
    if wire.startswith(question, 12):
        return True
    end = 12 + len(question)
    return wire[12 : end - 4].lower() == question[:-4] and wire[end - 4 : end] == question[-4:]


def is_bare(wire: bytes, attempt: Attempt) -> bool:
    """Whether `wire` is a response that is nothing but a header.

    Some servers answer so what they do not understand, or do not want to (RFC 6891 section 7 knows
    it of servers without EDNS). It says which query it means by its ID alone.
    """
    return (
        len(wire) == 12
        and wire[2] & 0xF8 == 0x80 | attempt.body[0] & 0x78
        and wire[4:] == _NO_COUNTS
    )
