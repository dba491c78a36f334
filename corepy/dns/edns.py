"""EDNS: the OPT record, its options, extended DNS errors (RFC 6891, RFC 8914).

An `Edns` is never modified, because the common ones are shared between requests; use `replace`.
Options are kept in wire format, because most are only forwarded or dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from struct import Struct, error
from typing import Final

from corepy.dns.form_error import FormError

OPTION_HEADER_SIZE: Final = 4
"""Bytes of the code and the length of an option."""

OPTION_LLQ: Final = 1
OPTION_UL: Final = 2
OPTION_NSID: Final = 3
OPTION_DAU: Final = 5
OPTION_DHU: Final = 6
OPTION_N3U: Final = 7
OPTION_SUBNET: Final = 8
OPTION_EXPIRE: Final = 9
OPTION_COOKIE: Final = 10
OPTION_TCP_KEEPALIVE: Final = 11
OPTION_PADDING: Final = 12
OPTION_KEY_TAG: Final = 14
OPTION_EDE: Final = 15

HOP_BY_HOP: Final = frozenset((OPTION_NSID, OPTION_COOKIE, OPTION_TCP_KEEPALIVE, OPTION_PADDING))
"""Options between two neighbours (RFC 5001 section 2.1, RFC 7873, RFC 7828, RFC 7830)."""

_WITHOUT_EFFECT: Final = frozenset((OPTION_DAU, OPTION_DHU, OPTION_N3U, OPTION_KEY_TAG, OPTION_EDE))
"""Options of a query that do not affect the reply.

These are a validator's algorithms and trust anchors (RFC 6975, RFC 8145), and extended errors,
which are defined only in replies (RFC 8914).
"""

_NOT_FORWARDED: Final = HOP_BY_HOP | _WITHOUT_EFFECT

# Info codes of extended DNS errors, RFC 8914 section 4.
EDE_OTHER: Final = 0
EDE_UNSUPPORTED_DNSKEY_ALGORITHM: Final = 1
EDE_UNSUPPORTED_DS_DIGEST_TYPE: Final = 2
EDE_STALE_ANSWER: Final = 3
EDE_FORGED_ANSWER: Final = 4
EDE_DNSSEC_INDETERMINATE: Final = 5
EDE_DNSSEC_BOGUS: Final = 6
EDE_SIGNATURE_EXPIRED: Final = 7
EDE_SIGNATURE_NOT_YET_VALID: Final = 8
EDE_DNSKEY_MISSING: Final = 9
EDE_RRSIGS_MISSING: Final = 10
EDE_NO_ZONE_KEY_BIT_SET: Final = 11
EDE_NSEC_MISSING: Final = 12
EDE_CACHED_ERROR: Final = 13
EDE_NOT_READY: Final = 14
EDE_BLOCKED: Final = 15
EDE_CENSORED: Final = 16
EDE_FILTERED: Final = 17
EDE_PROHIBITED: Final = 18
EDE_STALE_NXDOMAIN_ANSWER: Final = 19
EDE_NOT_AUTHORITATIVE: Final = 20
EDE_NOT_SUPPORTED: Final = 21
EDE_NO_REACHABLE_AUTHORITY: Final = 22
EDE_NETWORK_ERROR: Final = 23
EDE_INVALID_DATA: Final = 24

UDP_SIZE: Final = 1232
"""Default UDP size in bytes to advertise, which fits any path unfragmented (DNS flag day 2020)."""

OPT_SIZE: Final = 11
"""Size of an OPT record without options in bytes."""

MAX_OPTIONS: Final = 64
"""Maximum options in one OPT record; a TCP message can contain 16 000 empty ones."""

_DO: Final = 0x8000
# Owner (root), type, class, then the three parts of the TTL, rdlength.
_OPT: Final = Struct("!BHHBBHH")
_pack_opt: Final = _OPT.pack
_unpack_opt: Final = _OPT.unpack_from
_unpack_option: Final = Struct("!HH").unpack_from
_pack_option: Final = Struct("!HH").pack


class Edns:
    """An OPT record: `options` is its rdata, `reply_opt` the OPT record for a plain reply."""

    __slots__ = ("do", "extended_rcode", "options", "reply_opt", "udp_size", "version")

    def __init__(
        self,
        udp_size: int = UDP_SIZE,
        do: bool = False,
        options: bytes = b"",
        version: int = 0,
        extended_rcode: int = 0,
    ) -> None:
        self.udp_size = udp_size
        self.do = do
        self.options = options
        self.version = version
        self.extended_rcode = extended_rcode
        # CoreDNS echoes the client's size instead of its own (request/request.go, SizeAndDo).
        self.reply_opt = _pack_opt(0, 41, udp_size, 0, 0, _DO if do else 0, 0)

    def replace(
        self, *, udp_size: int | None = None, do: bool | None = None, options: bytes | None = None
    ) -> Edns:
        """Return a copy of version 0 with the given fields changed."""
        return Edns(
            self.udp_size if udp_size is None else udp_size,
            self.do if do is None else do,
            self.options if options is None else options,
        )

    def record(self) -> bytes:
        """Return the OPT record in wire format."""
        return opt_record(self.udp_size, self.do, self.extended_rcode, self.options, self.version)


def opt_record(
    udp_size: int = UDP_SIZE,
    do: bool = False,
    extended_rcode: int = 0,
    options: bytes = b"",
    version: int = 0,
) -> bytes:
    """Return an OPT record; extended_rcode is the rcode's upper 8 bits (RFC 6891 section 6.1.2)."""
    flags = _DO if do else 0
    return _pack_opt(0, 41, udp_size, extended_rcode, version, flags, len(options)) + options


def read_opt(msg: bytes, offset: int) -> Edns:
    """Return the OPT record at offset; raise FormError.

    Options are checked only in version 0. Another version may define another format, and gets
    BADVERS regardless of its content (RFC 6891 section 6.1.3).
    """
    try:
        owner, rtype, udp_size, extended, version, flags, length = _unpack_opt(msg, offset)
    except error:
        raise FormError("OPT record is cut off") from None
    if owner or rtype != 41:
        raise FormError("owner of the OPT record is not the root")
    start = offset + OPT_SIZE
    options = bytes(msg[start : start + length])
    if len(options) != length:
        raise FormError("OPT record is cut off")
    if options and not version:
        check_options(options)
    return Edns(udp_size, flags >= _DO, options, version, extended)


@lru_cache(maxsize=256)
def read_short(wire: bytes) -> Edns | None:
    """Parse eleven bytes that are an OPT record without options, or an empty record at the root.

    Return None for the latter. Few different values occur, so results are shared. Raise FormError.
    """
    if wire[0] or wire[9] or wire[10]:
        raise FormError("record is cut off")
    return read_opt(wire, 0) if wire[1:3] == b"\0\x29" else None


def parse_options(rdata: bytes) -> list[tuple[int, bytes]]:
    """Return the options in an OPT record's rdata as (code, data); raise FormError."""
    options = []
    offset, end = 0, len(rdata)
    while offset < end:
        try:
            code, length = _unpack_option(rdata, offset)
        except error:
            raise FormError("EDNS option is cut off") from None
        offset += 4
        data = rdata[offset : offset + length]
        if len(data) != length:
            raise FormError("EDNS option is cut off")
        options.append((code, data))
        offset += length
        if len(options) > MAX_OPTIONS:
            raise FormError("too many EDNS options")
    return options


def check_options(rdata: bytes) -> None:
    """Raise FormError for options that miekg/dns would not unpack (edns.go)."""
    for code, data in parse_options(rdata):
        check = _CHECKS.get(code)
        if check is not None and not check(data):
            raise FormError(f"malformed EDNS option {code}")


def _subnet_is_sane(data: bytes) -> bool:
    """Check a client subnet (RFC 7871 section 6); dig opts out with family 0 and no prefix."""
    if len(data) < 4:
        return False
    family = data[0] << 8 | data[1]
    bits = {0: 0, 1: 32, 2: 128}.get(family)
    return bits is not None and data[2] <= bits and (not family or data[3] <= bits)


_CHECKS: Final[dict[int, Callable[[bytes], bool]]] = {
    OPTION_LLQ: lambda data: len(data) >= 18,
    OPTION_UL: lambda data: len(data) in (4, 8),
    OPTION_SUBNET: _subnet_is_sane,
    OPTION_EXPIRE: lambda data: not data or len(data) >= 4,
    OPTION_TCP_KEEPALIVE: lambda data: len(data) in (0, 2),
    OPTION_EDE: lambda data: len(data) >= 2,
}


def option(code: int, data: bytes = b"") -> bytes:
    """Return one option in wire format."""
    return _pack_option(code, len(data)) + data


def ede(info_code: int, text: str = "") -> bytes:
    """Return an extended DNS error option: an `EDE_` code and a text (RFC 8914 section 2)."""
    return option(OPTION_EDE, info_code.to_bytes(2, "big") + text.encode())


def forwarded_options(options: bytes) -> bytes:
    """Return the client's options that are forwarded, because a reply may depend on them.

    These are client subnet and all unknown options. Raise FormError.
    """
    kept = [
        option(code, data) for code, data in parse_options(options) if code not in _NOT_FORWARDED
    ]
    return b"".join(kept)


def end_to_end(options: bytes, asked: bytes) -> bytes:
    """Return the options of a reply for a client whose query had the options `asked`.

    Cookies, keepalive, padding and the server identifier are hop-by-hop (RFC 7873, RFC 7828,
    RFC 7830, RFC 5001 section 2.1). Of the other options, a client gets those whose code was in its
    query, and extended errors (RFC 8914), which need no request. Other options may describe the
    upstream, such as a reporting channel (RFC 9567). The result is empty if the options are
    malformed.
    """
    try:
        wanted = {OPTION_EDE, *(code for code, _ in parse_options(asked))} - HOP_BY_HOP
        kept = [option(code, data) for code, data in parse_options(options) if code in wanted]
    except FormError:
        return b""
    return b"".join(kept)


def is_uniform(options: bytes) -> bool:
    """Return whether many queries have the same `options`, and a reply depends on no other value.

    That is padding with zeros (RFC 7830) and an empty edns-tcp-keepalive (RFC 7828). Raise
    FormError.
    """
    return all(
        (code == OPTION_PADDING and not data.strip(b"\0"))
        or (code == OPTION_TCP_KEEPALIVE and not data)
        for code, data in parse_options(options)
    )


def without_option(options: bytes, code: int) -> bytes:
    """Return an OPT record's rdata without the options of that code; raise FormError."""
    kept = [option(other, data) for other, data in parse_options(options) if other != code]
    return b"".join(kept)
