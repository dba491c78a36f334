"""Removes IPv6 addresses from messages: AAAA records, and hints in HTTPS and SVCB records."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.rdata import plain_sections
from corepy.dns.reply_like import reply_like
from corepy.dns.wire import skip_name, walk

if TYPE_CHECKING:
    from corepy.dns import Reply, Request

_SERVICES: Final = frozenset((c.TYPE_HTTPS, c.TYPE_SVCB))
_AFFECTED: Final = frozenset((c.TYPE_AAAA, *_SERVICES))

_MANDATORY: Final = 0
_IPV6HINT: Final = 6
"""Keys of service parameters (RFC 9460 section 14.3.2)."""

_FIXED: Final = 10
"""Bytes of a record between its owner and its rdata."""

_PRIORITY: Final = 2
"""Bytes of the rdata of HTTPS and SVCB records before the target."""

_pack_length = Struct("!H").pack
_unpack_param = Struct("!HH").unpack_from


def filtered(request: Request, reply: Reply) -> bytes | None:
    """Return the message of a reply without IPv6 addresses; None if it has none. Raises FormError.

    Signatures of the record sets that change are removed, and AD is cleared: the rest of such a set
    is not authentic. A record whose parameters are malformed stays as it is.
    """
    if not any(rtype in _AFFECTED for _, rtype, *_ in walk(reply.wire)):
        return None
    sections = plain_sections(reply.wire)
    answer, authority, additional = (_without_ipv6(records) for records in sections)
    if (answer, authority, additional) == sections:
        return None
    return reply_like(request, reply, answer, authority, additional).wire


def _without_ipv6(records: list[bytes]) -> list[bytes]:
    """Return the records of a section without AAAA records, hints, and signatures of either."""
    kept: list[bytes] = []
    changed: set[tuple[bytes, int]] = set()
    for record in records:
        end = skip_name(record, 0)
        rtype = _type_at(record, end)
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


def _signs(record: bytes, changed: set[tuple[bytes, int]]) -> bool:
    """Return whether a record is the signature of a set that has changed."""
    end = skip_name(record, 0)
    if _type_at(record, end) != c.TYPE_RRSIG:
        return False
    return (record[:end].lower(), _type_at(record, end + _FIXED)) in changed


def _type_at(record: bytes, at: int) -> int:
    return int.from_bytes(record[at : at + 2], "big")


def without_hint(rdata: bytes) -> bytes | None:
    """Return the rdata of an HTTPS or SVCB record without ipv6hint, None if it has none.

    The key is removed from `mandatory` as well, whose keys a record must have (RFC 9460 section 8).
    The rdata is uncompressed. If its parameters are malformed, the result is None.
    """
    try:
        start = skip_name(rdata, _PRIORITY)
        params = _read_params(rdata, start)
    except FormError:
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
