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

    The records are bytes from `corepy.dns.records.rr`.
    """
    portion: list[bytes] = []
    size = 0
    for record in records:
        if portion and size + len(record) > full:
            yield request.reply(answer=portion, authoritative=True)
            portion, size = [], 0
        portion.append(record)
        size += len(record)
    if portion:
        yield request.reply(answer=portion, authoritative=True)
