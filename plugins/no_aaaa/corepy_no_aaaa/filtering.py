"""Removes IPv6 addresses from messages: AAAA records, and hints in HTTPS and SVCB records."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.compress import rebuild
from corepy.dns.form_error import FormError
from corepy.dns.rdata import plain_records
from corepy.dns.wire import ADDITIONAL, ANSWER, AUTHORITY, walk

if TYPE_CHECKING:
    from corepy.dns import Request

_SERVICES: Final = frozenset((c.TYPE_HTTPS, c.TYPE_SVCB))
_AFFECTED: Final = frozenset((c.TYPE_AAAA, *_SERVICES))
_SECTIONS: Final = (ANSWER, AUTHORITY, ADDITIONAL)

_ONE: Final = b"\0\1"
_MANDATORY: Final = 0
_IPV6HINT: Final = 6
"""Keys of service parameters (RFC 9460 section 14.3.2)."""

_AD: Final = 0x20
_FIXED: Final = 10
"""Bytes of a record between its owner and its rdata."""

_unpack_fixed = Struct("!HHIH").unpack_from
_pack_length = Struct("!H").pack
_unpack_param = Struct("!HH").unpack_from
_pack_counts = Struct("!HHH").pack


def filtered(request: Request, wire: bytes) -> bytes | None:
    """Return a reply without IPv6 addresses; None if it has none. Raises FormError.

    Signatures of the record sets that change are removed, and AD is cleared: the rest of such a set
    is not authentic. A record whose parameters are malformed stays as it is.
    """
    if wire[4:6] != _ONE or not any(rtype in _AFFECTED for _, rtype, *_ in walk(wire)):
        return None
    is_changed = False
    counts: list[int] = []
    kept: list[bytes] = []
    for section in _SECTIONS:
        before = list(plain_records(wire, section))
        after = _without_ipv6(before)
        is_changed |= after != before
        counts.append(len(after))
        kept += after
    if not is_changed:
        return None
    head = b"".join((wire[:3], bytes((wire[3] & ~_AD,)), wire[4:6], _pack_counts(*counts)))
    plain = b"".join((head, wire[c.HEADER_SIZE : request.question_end], *kept))
    return plain if len(plain) <= c.MIN_SIZE else rebuild(plain)


def _without_ipv6(records: list[bytes]) -> list[bytes]:
    """Return the records of a section without AAAA records, hints, and signatures of either."""
    kept: list[bytes] = []
    changed: set[tuple[bytes, int]] = set()
    for record in records:
        end = _owner_end(record)
        rtype = _unpack_fixed(record, end)[0]
        if rtype == c.TYPE_AAAA:
            changed.add((record[:end].lower(), rtype))
            continue
        if rtype in _SERVICES:
            rdata = without_hint(record[end + _FIXED :])
            if rdata is not None:
                changed.add((record[:end].lower(), rtype))
                kept.append(record[: end + 8] + _pack_length(len(rdata)) + rdata)
                continue
        kept.append(record)
    if not changed:
        return kept
    return [record for record in kept if not _signs(record, changed)]


def _owner_end(record: bytes) -> int:
    end = 0
    while record[end]:
        end += record[end] + 1
    return end + 1


def _signs(record: bytes, changed: set[tuple[bytes, int]]) -> bool:
    """Return whether a record is the signature of a set that has changed."""
    end = _owner_end(record)
    if _unpack_fixed(record, end)[0] != c.TYPE_RRSIG:
        return False
    covered = int.from_bytes(record[end + _FIXED : end + _FIXED + 2], "big")
    return (record[:end].lower(), covered) in changed


def without_hint(rdata: bytes) -> bytes | None:
    """Return the rdata of an HTTPS or SVCB record without ipv6hint, None if it has none.

    The key is removed from `mandatory` as well, whose keys a record must have (RFC 9460 section 8).
    The rdata is uncompressed. If its parameters are malformed, the result is None.
    """
    try:
        start = 2 + _owner_end(rdata[2:])
        params = _read_params(rdata, start)
    except (FormError, IndexError):
        return None
    if all(key != _IPV6HINT for key, _ in params):
        return None
    parts = [rdata[:start]]
    for key, value in params:
        if key == _MANDATORY:
            value = _without_key(value)
            if not value:
                continue
        if key != _IPV6HINT:
            parts += (_pack_length(key), _pack_length(len(value)), value)
    return b"".join(parts)


def _read_params(rdata: bytes, at: int) -> list[tuple[int, bytes]]:
    """Return the parameters as (key, value); raises FormError."""
    params: list[tuple[int, bytes]] = []
    while at < len(rdata):
        if at + 4 > len(rdata):
            raise FormError("service parameter is cut off")
        key, length = _unpack_param(rdata, at)
        at += 4
        if at + length > len(rdata):
            raise FormError("service parameter is cut off")
        params.append((key, rdata[at : at + length]))
        at += length
    return params


def _without_key(mandatory: bytes) -> bytes:
    keys = [mandatory[at : at + 2] for at in range(0, len(mandatory), 2)]
    return b"".join(key for key in keys if key != _pack_length(_IPV6HINT))
