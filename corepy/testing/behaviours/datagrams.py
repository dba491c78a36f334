"""Behaviours with lost, late, duplicated and forged datagrams.

Over a stream they answer correctly, unless the docstring of the behaviour mentions streams.
"""

from __future__ import annotations

from collections.abc import Iterator

from corepy.testing.behaviours.base import Act, Asked, Elsewhere, Pause, behaviour
from corepy.testing.wire_message import Opt, name, pack_opt

_OTHER = name("other.example.")
_FORGED = "@ 60 A 198.51.100.66"


@behaviour
def good(asked: Asked) -> Iterator[Act]:
    """Answer every question with one address."""
    yield asked.good()


@behaviour
def silent(_asked: Asked) -> Iterator[Act]:
    """Never answer, not over streams either."""
    yield from ()


@behaviour
def drops_first(asked: Asked) -> Iterator[Act]:
    """Drop the first datagram for each name."""
    if asked.proto != "udp" or asked.before:
        yield asked.good()


@behaviour
def drops_two(asked: Asked) -> Iterator[Act]:
    """Drop the first two datagrams for each name."""
    if asked.proto != "udp" or asked.before > 1:
        yield asked.good()


@behaviour
def late(asked: Asked) -> Iterator[Act]:
    """Answer after 0.6 seconds; over streams, too."""
    yield Pause(0.6)
    yield asked.good()


@behaviour
def answers_twice(asked: Asked) -> Iterator[Act]:
    """Send every reply twice, as a network that duplicates packets does; over streams, too."""
    yield asked.good()
    yield asked.good()


@behaviour
def from_another_port(asked: Asked) -> Iterator[Act]:
    """Answer from another port than the query's, as a broken NAT does (RFC 5452 section 9.1)."""
    yield asked.good() if asked.proto != "udp" else Elsewhere(asked.good())


@behaviour
def forged_from_another_port(asked: Asked) -> Iterator[Act]:
    """Send a forged answer with the correct ID from another port before the correct answer."""
    yield Elsewhere(asked.reply(_FORGED))
    yield asked.good()


@behaviour
def question_in_another_case(asked: Asked) -> Iterator[Act]:
    """Copy the question in upper case; over streams, too (RFC 4343)."""
    message = asked.message_of("@ 60 A 192.0.2.1")
    assert message.question is not None
    message.question = (message.question[0].upper(), *message.question[1:])
    yield message.pack()


def _with_other_id(asked: Asked, by: int) -> bytes:
    wire = asked.reply(_FORGED)
    return (int.from_bytes(wire[:2], "big") + by & 0xFFFF).to_bytes(2, "big") + wire[2:]


@behaviour
def wrong_id_first(asked: Asked) -> Iterator[Act]:
    """Send a forged answer with a wrong ID, then the correct one; over streams, too."""
    yield _with_other_id(asked, 1)
    yield asked.good()


@behaviour
def only_wrong_ids(asked: Asked) -> Iterator[Act]:
    """Answer with a wrong ID only; over streams, too."""
    yield _with_other_id(asked, 1)


@behaviour
def floods_with_wrong_ids(asked: Asked) -> Iterator[Act]:
    """Send 200 forged answers with a wrong ID for each datagram, and never the correct one."""
    if asked.proto == "udp":
        yield from [_with_other_id(asked, 1)] * 200
    else:
        yield asked.good()


@behaviour
def wrong_question_first(asked: Asked) -> Iterator[Act]:
    """Send the answer to another question, then the correct one."""
    if asked.proto == "udp":
        yield asked.about(_OTHER)
    yield asked.good()


@behaviour
def only_wrong_questions(asked: Asked) -> Iterator[Act]:
    """Answer another question only; over streams, too."""
    yield asked.about(_OTHER)


@behaviour
def wrong_type_first(asked: Asked) -> Iterator[Act]:
    """Send an answer to a question of type TXT, then the correct one."""
    message = asked.message_of(_FORGED)
    message.question = (asked.name, 16, 1)
    if asked.proto == "udp":
        yield message.pack()
    yield asked.good()


@behaviour
def query_back_first(asked: Asked) -> Iterator[Act]:
    """Echo the query, then send the answer."""
    if asked.proto == "udp":
        yield asked.wire
    yield asked.good()


@behaviour
def scraps_first(asked: Asked) -> Iterator[Act]:
    """Send an empty datagram, one byte and half a header, then the answer."""
    if asked.proto == "udp":
        yield from (b"", asked.wire[:1], asked.wire[:6])
    yield asked.good()


@behaviour
def another_opcode_first(asked: Asked) -> Iterator[Act]:
    """Send a reply with the opcode UPDATE, then the correct one."""
    wire = asked.reply(_FORGED)
    if asked.proto == "udp":
        yield wire[:2] + bytes((wire[2] | 5 << 3,)) + wire[3:]
    yield asked.good()


@behaviour
def no_question(asked: Asked) -> Iterator[Act]:
    """Omit the question from the reply; over streams, too."""
    message = asked.message_of("@ 60 A 192.0.2.1")
    message.question = None
    yield message.pack(compress=False)


@behaviour
def two_questions(asked: Asked) -> Iterator[Act]:
    """Include the question twice; over streams, too."""
    wire, end = asked.good(), asked.question_end
    yield wire[:4] + b"\0\2" + wire[6:end] + wire[12:end] + wire[end:]


@behaviour
def rate_limited(asked: Asked) -> Iterator[Act]:
    """Answer the first datagram for each name with an empty reply with TC.

    BIND's response rate limiting does so ("slip").
    """
    if asked.proto == "udp" and not asked.before:
        yield asked.reply(flags="qr ra tc")
    else:
        yield asked.good()


@behaviour
def rate_limited_silently(asked: Asked) -> Iterator[Act]:
    """Drop a datagram and answer the next with TC, alternately: rate limiting with "slip 2"."""
    if asked.proto != "udp":
        yield asked.good()
    elif asked.before % 2:
        yield asked.reply(flags="qr ra tc")


@behaviour
def cut_without_tc(asked: Asked) -> Iterator[Act]:
    """Cut datagrams in the answer section without setting TC, as a broken middlebox does."""
    wire = asked.good()
    yield wire if asked.proto != "udp" else wire[: asked.question_end + 6]


@behaviour
def trailing_bytes(asked: Asked) -> Iterator[Act]:
    """Append four bytes to the message; over streams, too."""
    yield asked.good() + b"\0\1\2\3"


@behaviour
def trailing_opt(asked: Asked) -> Iterator[Act]:
    """Append an OPT record that the header does not count; over streams, too."""
    message = asked.message_of("@ 60 A 192.0.2.1")
    message.opt = None
    yield message.pack() + pack_opt(Opt())
