"""What happens to datagrams: lost, late, doubled, forged. Over a stream all of these answer well,
unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

from corepy.testing.behaviours.base import Act, Asked, Elsewhere, Pause, behaviour
from corepy.testing.message import Opt, name, pack_opt

_OTHER = name("other.example.")
_FORGED = "@ 60 A 198.51.100.66"


@behaviour
def good(asked: Asked) -> Iterator[Act]:
    """Answer every question with one address."""
    yield asked.good()


@behaviour
def silent(_asked: Asked) -> Iterator[Act]:
    """Never answer, over streams neither."""
    yield from ()


@behaviour
def drops_first(asked: Asked) -> Iterator[Act]:
    """Lose the first datagram for each name."""
    if asked.proto != "udp" or asked.before:
        yield asked.good()


@behaviour
def drops_two(asked: Asked) -> Iterator[Act]:
    """Lose the first two datagrams for each name."""
    if asked.proto != "udp" or asked.before > 1:
        yield asked.good()


@behaviour
def late(asked: Asked) -> Iterator[Act]:
    """Answer after 0.6 seconds, over streams, too."""
    yield Pause(0.6)
    yield asked.good()


@behaviour
def answers_twice(asked: Asked) -> Iterator[Act]:
    """Send every reply twice, as a network that duplicates packets does; over streams, too."""
    yield asked.good()
    yield asked.good()


@behaviour
def from_another_port(asked: Asked) -> Iterator[Act]:
    """Answer from another port than was asked, as a broken NAT does (RFC 5452 section 9.1)."""
    yield asked.good() if asked.proto != "udp" else Elsewhere(asked.good())


@behaviour
def forged_from_another_port(asked: Asked) -> Iterator[Act]:
    """Let a forger with the right ID but another port answer first."""
    yield Elsewhere(asked.reply(_FORGED))
    yield asked.good()


@behaviour
def question_in_another_case(asked: Asked) -> Iterator[Act]:
    """Repeat the question in capitals; over streams, too (RFC 4343)."""
    message = asked.message_of("@ 60 A 192.0.2.1")
    assert message.question is not None
    message.question = (message.question[0].upper(), *message.question[1:])
    yield message.pack()


def _with_other_id(asked: Asked, by: int) -> bytes:
    wire = asked.reply(_FORGED)
    return (int.from_bytes(wire[:2], "big") + by & 0xFFFF).to_bytes(2, "big") + wire[2:]


@behaviour
def wrong_id_first(asked: Asked) -> Iterator[Act]:
    """Send a forged answer with another ID, then the right one; over streams, too."""
    yield _with_other_id(asked, 1)
    yield asked.good()


@behaviour
def only_wrong_ids(asked: Asked) -> Iterator[Act]:
    """Answer under another ID always, over streams, too."""
    yield _with_other_id(asked, 1)


@behaviour
def floods_with_wrong_ids(asked: Asked) -> Iterator[Act]:
    """Send 200 forged answers under a wrong ID for each datagram, and never the right one."""
    if asked.proto == "udp":
        yield from [_with_other_id(asked, 1)] * 200
    else:
        yield asked.good()


@behaviour
def wrong_question_first(asked: Asked) -> Iterator[Act]:
    """Send the answer to another question, then the right one."""
    if asked.proto == "udp":
        yield asked.about(_OTHER)
    yield asked.good()


@behaviour
def only_wrong_questions(asked: Asked) -> Iterator[Act]:
    """Answer another question always, over streams, too."""
    yield asked.about(_OTHER)


@behaviour
def wrong_type_first(asked: Asked) -> Iterator[Act]:
    """Send the answer for type TXT, then the right one."""
    message = asked.message_of(_FORGED)
    message.question = (asked.name, 16, 1)
    if asked.proto == "udp":
        yield message.pack()
    yield asked.good()


@behaviour
def query_back_first(asked: Asked) -> Iterator[Act]:
    """Send the query itself back, then the answer."""
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
    """Send a reply with the opcode UPDATE, then the right one."""
    wire = asked.reply(_FORGED)
    if asked.proto == "udp":
        yield wire[:2] + bytes((wire[2] | 5 << 3,)) + wire[3:]
    yield asked.good()


@behaviour
def no_question(asked: Asked) -> Iterator[Act]:
    """Leave the question out of the reply, over streams, too."""
    message = asked.message_of("@ 60 A 192.0.2.1")
    message.question = None
    yield message.pack(compress=False)


@behaviour
def two_questions(asked: Asked) -> Iterator[Act]:
    """Repeat the question twice, over streams, too."""
    wire, end = asked.good(), asked.question_end
    yield wire[:4] + b"\0\2" + wire[6:end] + wire[12:end] + wire[end:]


@behaviour
def rate_limited(asked: Asked) -> Iterator[Act]:
    """Answer the first datagram for each name with an empty, truncated reply, as BIND's response
    rate limiting does ("slip").
    """
    if asked.proto == "udp" and not asked.before:
        yield asked.reply(flags="qr ra tc")
    else:
        yield asked.good()


@behaviour
def rate_limited_silently(asked: Asked) -> Iterator[Act]:
    """Drop one datagram, answer the next truncated, and so on: rate limiting with "slip 2"."""
    if asked.proto != "udp":
        yield asked.good()
    elif asked.before % 2:
        yield asked.reply(flags="qr ra tc")


@behaviour
def cut_without_tc(asked: Asked) -> Iterator[Act]:
    """Cut datagrams behind the header's promise, without TC, as a broken middlebox does."""
    wire = asked.good()
    yield wire if asked.proto != "udp" else wire[: asked.question_end + 6]


@behaviour
def trailing_bytes(asked: Asked) -> Iterator[Act]:
    """Send four bytes more than the message has, over streams, too."""
    yield asked.good() + b"\0\1\2\3"


@behaviour
def trailing_opt(asked: Asked) -> Iterator[Act]:
    """Put an OPT record behind the last that is counted, over streams, too."""
    message = asked.message_of("@ 60 A 192.0.2.1")
    message.opt = None
    yield message.pack() + pack_opt(Opt())
