"""Builds the query to an upstream from a client's query.

It has the client's question in lower case, its opcode, RD, AD, CD and DO, and corepy's own EDNS.
Clients whose queries agree in all of these share one exchange. A body is a query without its ID:
ten bytes of header, the question, and OPT as the only record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns.edns import OPT_SIZE, UDP_SIZE, forwarded_options, opt_record

if TYPE_CHECKING:
    from corepy.dns import Request

# The flags copied from the client's query: opcode, RD, AD, CD.
_FLAGS = 0x7800 | 0x0100 | 0x0020 | 0x0010
_COUNTS = b"\0\1\0\0\0\0\0\1"
_HEADERS: dict[int, bytes] = {}
_OPT = opt_record(UDP_SIZE)
_OPT_DO = opt_record(UDP_SIZE, do=True)


def body_of(request: Request, question: bytes) -> bytes:
    """Return the query to send, without its ID; `question` is its question section."""
    flags, edns = request.flags & _FLAGS, request.edns
    header = _HEADERS.get(flags) or _header(flags)
    if edns is None:
        return header + question + _OPT
    if edns.options:
        return header + question + _own_opt(edns.do, edns.options)
    return header + question + (_OPT_DO if edns.do else _OPT)


def _header(flags: int) -> bytes:
    """Return the header of a query without its ID: flags and counts."""
    header = _HEADERS[flags] = flags.to_bytes(2, "big") + _COUNTS
    return header


def _own_opt(do: bool, options: bytes) -> bytes:
    """Return the OPT record to send, with the client's options that a reply may depend on."""
    return opt_record(UDP_SIZE, do, options=forwarded_options(options))


_HEADER = 10
USUAL_SIZE = _HEADER + OPT_SIZE
"""Bytes of a body without EDNS options, excluding the question."""


def without_edns(body: bytes, question: bytes) -> bytes:
    """Return the query without EDNS."""
    return body[:8] + b"\0\0" + body[_HEADER : _HEADER + len(question)]


def with_size(body: bytes, question: bytes, size: int) -> bytes:
    """Return the query with another maximum size of UDP replies, in bytes."""
    if not body[9]:
        return body
    at = _HEADER + len(question) + 3
    return body[:at] + size.to_bytes(2, "big") + body[at + 2 :]


def with_option(body: bytes, question: bytes, option: bytes) -> bytes:
    """Return the query with an additional EDNS option; unchanged if it has no EDNS."""
    if not body[9]:
        return body
    at = _HEADER + len(question) + OPT_SIZE
    length = len(body) - at + len(option)
    return b"".join((body[: at - 2], length.to_bytes(2, "big"), body[at:], option))


def client_options(body: bytes, question: bytes) -> bytes:
    """Return the EDNS options of a query."""
    return body[_HEADER + len(question) + OPT_SIZE :]


def needs_edns(body: bytes, question: bytes) -> bool:
    """Whether clients depend on EDNS: they sent DO, or an option that is forwarded."""
    opt = body[_HEADER + len(question) :]
    return len(opt) > OPT_SIZE or (len(opt) == OPT_SIZE and opt[7] & 0x80 != 0)
