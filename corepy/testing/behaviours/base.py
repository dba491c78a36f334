"""What a behaviour is: a function from a query to the acts that follow on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Final, NamedTuple

from corepy.testing.message import (
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
"""The right answer to every question, whatever its type."""


class Pause(NamedTuple):
    """Wait for so many seconds."""

    seconds: float


class Elsewhere(NamedTuple):
    """Send this message from another port (over a stream: not at all)."""

    wire: bytes


class Raw(NamedTuple):
    """Put these bytes on the stream, without a length before them (over UDP: not at all)."""

    data: bytes


class End(Enum):
    """The end of a connection."""

    CLOSE = "FIN"
    RESET = "RST"


Act = bytes | Pause | Elsewhere | Raw | End
"""Bytes are a message to send; all acts of one query follow each other."""


@dataclass
class Asked:
    """One query as an upstream has received it.

    `proto` is "udp" or "tcp" (also below TLS), `before` how many queries for the same name came
    before this one, `memory` a dictionary of the upstream's own.
    """

    wire: bytes
    proto: str = "udp"
    before: int = 0
    memory: dict[str, bytes] = field(default_factory=dict)

    @cached_property
    def message(self) -> Message:
        """The query taken apart."""
        return parse(self.wire)

    @property
    def name(self) -> bytes:
        """The name asked for, in wire form."""
        assert self.message.question is not None
        return self.message.question[0]

    @property
    def opt(self) -> Opt | None:
        """Its OPT record."""
        return self.message.opt

    @property
    def options(self) -> dict[int, bytes]:
        """Its EDNS options."""
        return {} if self.opt is None else dict(self.opt.options)

    def records(self, lines: Iterable[str]) -> list[Record]:
        """Return records from lines whose origin is the name asked for."""
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
        """Return a reply as a resolver makes it, to be spoilt: RD and CD are those of the query
        (RFC 1035, RFC 4035 section 3.2.2), OPT is there if the query has one (RFC 6891 section 7).
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
        """Return the bytes of such a reply."""
        return self.message_of(
            *answer,
            authority=authority,
            additional=additional,
            rcode=rcode,
            flags=flags,
            options=options,
        ).pack()

    def good(self) -> bytes:
        """Return the right answer."""
        return self.reply(ADDRESS)

    def bare(self, rcode: str) -> bytes:
        """Return a header and nothing else."""
        return self.reply(rcode=rcode)[:4] + bytes(8)

    def about(self, other: bytes) -> bytes:
        """Return the right answer to another question: that for the name `other`, in wire form."""
        return Asked(
            self.wire[:12] + pack_question(other, 1, 1) + self.wire[self.question_end :]
        ).good()

    @property
    def question_end(self) -> int:
        """Offset behind the question section."""
        return 12 + len(self.name) + 4


Behaviour = Callable[[Asked], Iterable[Act]]

BEHAVIOURS: Final[dict[str, Behaviour]] = {}
"""All of the library, by name."""

WITHOUT_TCP: Final[set[str]] = set()
"""Those whose port for TCP is closed."""


def group(*modules: str) -> set[str]:
    """Return the names of the behaviours in these modules of the library ("edns", "streams")."""
    return {
        name
        for name, function in BEHAVIOURS.items()
        if function.__module__.rpartition(".")[2] in modules
    }


def behaviour(function: Behaviour) -> Behaviour:
    """Add a function to the library, under its own name with hyphens."""
    BEHAVIOURS[function.__name__.replace("_", "-")] = function
    return function


def without_tcp(function: Behaviour) -> Behaviour:
    """Add a function to the library; nobody listens on its TCP port."""
    WITHOUT_TCP.add(function.__name__.replace("_", "-"))
    return behaviour(function)
