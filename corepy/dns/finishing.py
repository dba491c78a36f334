"""Converts a reply to the message to send: its ID, size and OPT record depend on the query.

`finish` runs for every query that the packet cache does not answer: the common case must remain one
comparison and one join. Rare cases (too large, odd rcode) belong in `_finish_odd`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns.address import host_port
from corepy.dns.compress import LARGEST, cut, rebuild
from corepy.dns.constants import FLAG_TC, HEADER_SIZE, MIN_SIZE, NOERROR, NOTAUTH, SERVFAIL
from corepy.dns.edns import (
    OPT_SIZE,
    OPTION_EDE,
    OPTION_HEADER_SIZE,
    OPTION_PADDING,
    OPTION_TCP_KEEPALIVE,
    opt_record,
    option,
    parse_options,
    without_option,
)
from corepy.dns.form_error import FormError

if TYPE_CHECKING:
    from corepy.dns.message import Request
    from corepy.dns.reply import Reply

_BYTES: Final = tuple(bytes((i,)) for i in range(256))
_TC_BYTE: Final = FLAG_TC >> 8

# Maximum unfragmented UDP payloads; smaller messages are not compressed (request/request.go,
# Scrub).
_UNFRAGMENTED_IPV4: Final = 1480
_UNFRAGMENTED_IPV6: Final = 1220
_SMALL: Final = 1220

PADDED_SIZE: Final = 468
"""Padded replies have a multiple of this size in bytes (RFC 8467 section 4.1)."""

_QUICK: Final = 4096
"""Result size in bytes up to which rewriting is fast, regardless of the message's size."""


def finish(request: Request, reply: Reply) -> bytes:
    """Return the message to send: with the query's ID, within its size, with OPT if it has one.

    The OPT record is that of CoreDNS's SizeAndDo (request/request.go): version 0, the client's size
    and DO. It contains the reply's own options, and those of the client that
    `RequestContext.echoed_options` lists. A reply that is too large loses records from the end and
    gets TC, as in miekg/dns (msg_truncate.go). `signed` adds the signature of a signed query.
    """
    wire = reply.wire
    edns = request.edns
    if edns is None:
        if len(wire) <= MIN_SIZE and not reply.extended_rcode:
            return request.wire[:2] + wire[2:]
        return _finish_odd(request, reply)
    if reply.options or reply.extended_rcode or edns.options:
        opt = _opt(request, reply, _options(request, reply))
    else:
        opt = edns.reply_opt
    total = len(wire) + len(opt)
    if (total <= MIN_SIZE or (total <= _SMALL and total <= request.size)) and wire[11] != 255:
        return b"".join((request.wire[:2], wire[2:11], _BYTES[wire[11] + 1], wire[12:], opt))
    return _finish_odd(request, reply)


def _finish_odd(request: Request, reply: Reply) -> bytes:
    try:
        return _fit(request, reply)
    except FormError:
        # The chain made an unreadable message; nothing of it can be sent safely.
        error = request.error(SERVFAIL)
        return _assemble(request, error.wire, _opt(request, error, b""))


def _fit(request: Request, reply: Reply) -> bytes:
    wire = reply.wire
    if request.edns is None and reply.extended_rcode:
        # Without OPT, the upper bits cannot be sent; the lower ones alone would be another rcode.
        wire = b"".join((wire[:3], _BYTES[wire[3] & 0xF0 | SERVFAIL], wire[4:]))
    opt = _opt(request, reply, _options(request, reply))
    limit = request.size
    if len(wire) + len(opt) <= limit and not _gains_from_compression(request, wire):
        return _assemble(request, wire, opt)
    opt = _opt(request, reply, reply.options)  # echoed options are dropped before data
    small, whole = _shorten(wire, limit - len(opt), reply)
    if not whole and reply.options:
        # RFC 8914 section 3: extended errors are dropped before data, and TC is set.
        opt = _opt(request, reply, without_option(reply.options, OPTION_EDE))
        small, _ = _shorten(wire, limit - len(opt), reply)
        small = _set_tc(small)
    if len(small) + len(opt) > limit:
        # Not even the question and the options fit together.
        opt = _opt(request, reply, b"")
        small = _set_tc(_shorten(wire, limit - len(opt), reply)[0])
    return _assemble(request, small, opt)


def _gains_from_compression(request: Request, wire: bytes) -> bool:
    """Return whether compression might save a datagram from fragmentation."""
    if not _SMALL < len(wire) <= LARGEST or request.context.protocol != "udp":
        return False
    limit = _UNFRAGMENTED_IPV6 if ":" in host_port(request.peer)[0] else _UNFRAGMENTED_IPV4
    # A pointer to the question indicates that the message is already compressed.
    return len(wire) > limit and b"\xc0\x0c" not in wire


def _shorten(wire: bytes, limit: int, reply: Reply) -> tuple[bytes, bool]:
    """Return the message in at most limit bytes, and whether it still has all records.

    It is compressed unless both message and limit are large. The records of `wire` must have the
    offsets of `reply`.
    """
    if len(wire) <= LARGEST or limit <= _QUICK:
        small = rebuild(wire, limit)
    else:
        small = cut(wire, limit, reply.ttl_offsets)
    return small, small[4:12] == wire[4:12]


def _set_tc(wire: bytes) -> bytes:
    return b"".join((wire[:2], _BYTES[wire[2] | _TC_BYTE], wire[3:]))


def _opt(request: Request, reply: Reply, options: bytes) -> bytes:
    edns = request.edns
    if edns is None:
        return b""
    return opt_record(edns.udp_size, edns.do, reply.extended_rcode, options)


def _options(request: Request, reply: Reply) -> bytes:
    """Return the options of a reply: its own, and those that answer the client's.

    The latter are echoed options whose codes the reply does not have, the idle timeout of the
    connection, and padding. They are left out if they do not fit beside the data and the signature.
    """
    edns, own = request.edns, reply.options
    if edns is None or not edns.options or edns.version:  # options of other versions are unchecked
        return own
    context, sent = request.context, parse_options(edns.options)
    codes = context.echoed_options
    if own:
        codes = codes.difference(code for code, _ in parse_options(own))
    answers, is_padded = [own], False
    for code, data in sent:
        if code == OPTION_PADDING and context.pads_replies:
            is_padded = True
        elif code == OPTION_TCP_KEEPALIVE and context.idle_timeout:
            answers.append(option(code, context.idle_timeout.to_bytes(2, "big")))
        elif code in codes:
            answers.append(option(code, data))
    options = b"".join(answers)
    signer = request.identity.signer
    size = len(reply.wire) + OPT_SIZE + len(options) + (0 if signer is None else signer.reserved)
    if size > request.size:
        return own
    return options + _padding(size, request.size) if is_padded else options


def _padding(size: int, largest: int) -> bytes:
    """Return the option that pads a message of `size` bytes to the next multiple of `PADDED_SIZE`.

    The result has at most `largest` bytes; it is empty if there is no room for an option.
    """
    size += OPTION_HEADER_SIZE
    if size > largest:
        return b""
    padded = min(-(-size // PADDED_SIZE) * PADDED_SIZE, largest)
    return option(OPTION_PADDING, bytes(padded - size))


def signed(request: Request, message: bytes) -> bytes:
    """Return a finished message with the signature of its query, if the query was signed.

    The signature is the last record. A message without room for it is replaced by one with only the
    question, OPT and TC (RFC 8945 section 5.3), which has no signature if even that is too large: a
    stranger may state a key with a long name. A series of messages is passed in the order of
    sending.
    """
    signer = request.identity.signer
    if signer is None or not signer.applies_to(message):
        return message
    if len(message) + signer.reserved > request.size:
        is_refusal = message[3] & 15 == NOTAUTH
        empty = request.error(NOTAUTH if is_refusal else NOERROR)
        message = _assemble(request, _set_tc(empty.wire), _opt(request, empty, b""))
        if len(message) + signer.reserved > request.size:
            return message
    return signer.sign(message)


def _assemble(request: Request, wire: bytes, opt: bytes) -> bytes:
    if not opt:
        return request.wire[:2] + wire[2:]
    additional = (wire[10] << 8 | wire[11]) + 1
    head = wire[2:10] + additional.to_bytes(2, "big")
    return b"".join((request.wire[:2], head, wire[HEADER_SIZE:], opt))
