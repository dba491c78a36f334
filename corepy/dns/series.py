"""The messages of a reply that consists of several, such as a zone transfer.

A handler returns `Request.reply_series(messages)`. The messages are made one at a time, while the
client reads those before (`corepy.dns.reply.ReplySeries`). `messages_of` makes them of records, and
`finish_message` is the one function through which each of them passes before it is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns.constants import MAX_SIZE
from corepy.dns.edns import OPT_SIZE
from corepy.dns.finishing import finish, signed
from corepy.dns.form_error import FormError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corepy.dns.message import Request
    from corepy.dns.reply import Reply

FULL: Final = 63_000
"""Bytes of records after which `messages_of` begins another message (plugin/transfer).

They leave room for header, question, OPT and TSIG in a message of 65,535 bytes.
"""


_QUESTION: Final = b"\xc0\x0c"


def finish_message(request: Request, message: Reply) -> bytes:
    """Return one message of a series as it is sent, valid as a reply to `request`.

    As in CoreDNS, each message has the ID and the question of the query, and an OPT record if the
    query has one. RFC 5936 section 2.2 requires the question in the first message only, and the OPT
    record in none. The messages of a signed query are signed one after another. None is truncated:
    raises FormError if a message is too large.
    """
    size, signer = len(message.wire), request.identity.signer
    if request.edns is not None:
        size += OPT_SIZE + len(message.options)
    if signer is not None:
        size += signer.reserved
    if size > MAX_SIZE:
        raise FormError(f"a message of the series has {size} bytes; {MAX_SIZE} can be sent")
    return signed(request, finish(request, message))


def messages_of(request: Request, records: Iterable[bytes], full: int = FULL) -> Iterator[Reply]:
    """Yield authoritative replies with all `records` in order, about `full` bytes in each.

    The records are bytes from `corepy.dns.records.rr`. Owners below the name of the question are
    compressed.
    """
    packer = MessagePacker(request, full)
    for record in records:
        message = packer.add(record)
        if message is not None:
            yield message
    message = packer.take()
    if message is not None:
        yield message


class MessagePacker:
    """Puts records into the messages of a series; `messages_of` for records that come later."""

    __slots__ = ("_full", "_portion", "_qname", "_request", "_size")

    def __init__(self, request: Request, full: int = FULL) -> None:
        """Make replies to `request` with about `full` bytes of records in each."""
        self._request = request
        self._full = full
        self._qname = request.question[:-4]
        self._portion: list[bytes] = []
        self._size = 0

    def add(self, record: bytes) -> Reply | None:
        """Take a record; return the message with those before it if there is no room for it."""
        record = _with_pointer(record, self._qname)
        message = None
        if self._portion and self._size + len(record) > self._full:
            message = self.take()
        self._portion.append(record)
        self._size += len(record)
        return message

    def take(self) -> Reply | None:
        """Return a message with the records that were added since the last one, None without."""
        portion, self._portion, self._size = self._portion, [], 0
        return self._request.reply(answer=portion, authoritative=True) if portion else None


def _with_pointer(record: bytes, qname: bytes) -> bytes:
    """Return a record whose owner ends in a pointer to the question, if it is below `qname`."""
    at = record.find(qname)
    if at <= 0 or len(qname) == 1:  # `Request.reply` compresses an owner that is equal
        return record
    here = 0
    while here < at:  # the bytes of the name could also be within a label, or in the rdata
        length = record[here]
        if not length:
            return record
        here += length + 1
    if here > at:
        return record
    return b"".join((record[:at], _QUESTION, record[at + len(qname) :]))
