"""Behaviours with replies that parsers must reject, over UDP and streams alike (RFC 9267)."""

from __future__ import annotations

from collections.abc import Iterator

from corepy.testing.behaviours.base import ADDRESS, Act, Asked, behaviour
from corepy.testing.wire_message import pack_question


def _with_owner(asked: Asked, owner: bytes) -> bytes:
    """Return an answer with one record whose owner consists of the bytes `owner`."""
    message = asked.message_of()
    message.opt = None
    head = message.pack()
    address = asked.good()[asked.question_end + 2 :][:14]
    return head[:7] + b"\1" + head[8:] + owner + address


@behaviour
def pointer_to_itself(asked: Asked) -> Iterator[Act]:
    """Send a record whose owner is a pointer to itself (RFC 9267 section 2)."""
    yield _with_owner(asked, (0xC000 | asked.question_end).to_bytes(2, "big"))


@behaviour
def pointers_in_a_circle(asked: Asked) -> Iterator[Act]:
    """Send a record whose owner is a label and a pointer to that label."""
    yield _with_owner(asked, b"\1a" + (0xC000 | asked.question_end).to_bytes(2, "big"))


@behaviour
def pointer_forward(asked: Asked) -> Iterator[Act]:
    """Send a record whose owner is a pointer to the bytes after it."""
    yield _with_owner(asked, (0xC000 | asked.question_end + 2).to_bytes(2, "big"))


@behaviour
def pointer_into_the_header(asked: Asked) -> Iterator[Act]:
    """Send a record whose owner is a pointer to the ID of the message."""
    yield _with_owner(asked, b"\xc0\0")


@behaviour
def unknown_label_type(asked: Asked) -> Iterator[Act]:
    """Send a record whose owner starts with a label of type 01 (RFC 6891 section 5)."""
    yield _with_owner(asked, b"\x41\0")


@behaviour
def more_records_counted_than_there(asked: Asked) -> Iterator[Act]:
    """Count two answer records in the header, but send one."""
    message = asked.message_of(ADDRESS)
    message.opt = None
    wire = message.pack()
    yield wire[:7] + b"\2" + wire[8:]


@behaviour
def address_of_three_bytes(asked: Asked) -> Iterator[Act]:
    """Send an A record that is a byte too short."""
    message = asked.message_of("@ 60 TYPE1 \\# c00002")
    yield message.pack()


@behaviour
def question_of_another_class(asked: Asked) -> Iterator[Act]:
    """Answer the question for class CH, over streams, too."""
    wire, end = asked.good(), asked.question_end
    yield wire[:12] + pack_question(asked.name, 1, 3) + wire[end:]
