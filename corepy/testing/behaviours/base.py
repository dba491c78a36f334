"""The interface of behaviours: functions that map a query to the acts of the upstream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Final, NamedTuple

from corepy.testing.wire_message import (
    DO,
    FLAGS,
    RCODES,
    Message,
    Opt,
    Options,
    Record,
    pack_question,
    parse,
    record,
)

ADDRESS: Final = "@ 60 A 192.0.2.1"
"""The correct answer to every question, regardless of its type."""


class Pause(NamedTuple):
    """Wait for this number of seconds."""

    seconds: float


class Elsewhere(NamedTuple):
    """Send this message from another port; ignored over a stream."""

    wire: bytes


class Raw(NamedTuple):
    """Write these bytes to the stream without a length prefix; ignored over UDP."""

    data: bytes


class End(Enum):
    """The end of a connection."""

    CLOSE = "FIN"
    RESET = "RST"


Act = bytes | Pause | Elsewhere | Raw | End
"""One act of an upstream; bytes are a message to send. The acts of a query run in sequence."""


@dataclass
class Asked:
    """One query as received by an upstream.

    `proto` is "udp" or "tcp" (also for TLS), `before` the number of earlier queries for the same
    name, `memory` a dictionary that the upstream keeps between queries.
    """

    wire: bytes
    proto: str = "udp"
    before: int = 0
    memory: dict[str, bytes] = field(default_factory=dict)

    @cached_property
    def message(self) -> Message:
        """The parsed query."""
        return parse(self.wire)

    @property
    def name(self) -> bytes:
        """The QNAME, in wire form."""
        assert self.message.question is not None
        return self.message.question[0]

    @property
    def opt(self) -> Opt | None:
        """The OPT record of the query; None without one."""
        return self.message.opt

    @property
    def options(self) -> dict[int, bytes]:
        """The EDNS options of the query, by code."""
        return {} if self.opt is None else dict(self.opt.options)

    def records(self, lines: Iterable[str]) -> list[Record]:
        """Return the records of zone-file lines whose origin is the QNAME."""
        return [record(line, self.name) for line in lines]

    def message_of(
        self,
        *answer: str,
        authority: Iterable[str] = (),
        additional: Iterable[str] = (),
        rcode: str = "NOERROR",
        flags: str = "qr ra",
        options: Options = (),
    ) -> Message:
        """Return a correct reply of a resolver, which the caller may then corrupt.

        RD and CD are copied from the query (RFC 1035, RFC 4035 section 3.2.2); the reply has an OPT
        record if the query has one (RFC 6891 section 7).
        """
        query = self.message
        copied = query.flags & (FLAGS["rd"] | FLAGS["cd"])
        opt = Opt(flags=query.opt.flags & DO, options=options) if query.opt is not None else None
        return Message(
            query.ident,
            sum(FLAGS[flag] for flag in flags.split()) | copied,
            query.opcode,
            RCODES[rcode],
            query.question,
            self.records(answer),
            self.records(authority),
            self.records(additional),
            opt,
        )

    def reply(
        self,
        *answer: str,
        authority: Iterable[str] = (),
        additional: Iterable[str] = (),
        rcode: str = "NOERROR",
        flags: str = "qr ra",
        options: Options = (),
    ) -> bytes:
        """Return the bytes of `message_of`."""
        return self.message_of(
            *answer,
            authority=authority,
            additional=additional,
            rcode=rcode,
            flags=flags,
            options=options,
        ).pack()

    def good(self) -> bytes:
        """Return the correct answer."""
        return self.reply(ADDRESS)

    def bare(self, rcode: str) -> bytes:
        """Return a reply that consists of a header with `rcode` only."""
        return self.reply(rcode=rcode)[:4] + bytes(8)

    def about(self, other: bytes) -> bytes:
        """Return the correct answer to another question: `other`, in wire form, type A."""
        return Asked(
            self.wire[:12] + pack_question(other, 1, 1) + self.wire[self.question_end :]
        ).good()

    @property
    def question_end(self) -> int:
        """Offset of the first byte after the question section."""
        return 12 + len(self.name) + 4


Behaviour = Callable[[Asked], Iterable[Act]]

BEHAVIOURS: Final[dict[str, Behaviour]] = {}
"""All behaviours of the library, by name."""

WITHOUT_TCP: Final[set[str]] = set()
"""Names of the behaviours whose TCP port is closed."""


def group(*modules: str) -> set[str]:
    """Return the names of the behaviours defined in these modules ("edns", "streams")."""
    return {
        name
        for name, function in BEHAVIOURS.items()
        if function.__module__.rpartition(".")[2] in modules
    }


def behaviour(function: Behaviour) -> Behaviour:
    """Add a function to the library; its name is the function's, with hyphens."""
    BEHAVIOURS[function.__name__.replace("_", "-")] = function
    return function


def without_tcp(function: Behaviour) -> Behaviour:
    """Add a function to the library, with a closed TCP port."""
    WITHOUT_TCP.add(function.__name__.replace("_", "-"))
    return behaviour(function)
