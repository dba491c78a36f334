"""Checks the records in files with trust anchors, of all forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns.constants import CLASS_IN, TYPE_DNSKEY, TYPE_DS, type_name
from corepy_forward.validation.anchor import (
    DIGESTS,
    REVOKE_FLAG,
    ZONE_FLAG,
    Configured,
    flags_of,
    key_tag,
)

if TYPE_CHECKING:
    from corepy.dns.presentation import Record

_PROTOCOL: Final = 3


class AnchorError(ValueError):
    """A file has no usable trust anchors; the message contains the reason."""

    def __init__(self, message: str, line: int = 0) -> None:
        """Store the number of the line at fault, 0 if it is unknown."""
        super().__init__(message)
        self.line = line


def checked(record: Record, line: int = 0) -> Configured:
    """Return the anchor that a record is; raises `AnchorError` with `line`."""
    if record.rclass != CLASS_IN:
        raise AnchorError("the class of a trust anchor must be IN", line)
    if record.rtype not in (TYPE_DS, TYPE_DNSKEY):
        name = type_name(record.rtype)
        raise AnchorError(f"a trust anchor is a DS or DNSKEY record, not {name}", line)
    is_ds = record.rtype == TYPE_DS
    problem = _flaw_of_ds(record.rdata) if is_ds else _flaw_of_key(record.rdata)
    if problem:
        raise AnchorError(problem, line)
    return Configured(record.owner.lower(), record.rdata, is_ds)


def _flaw_of_ds(rdata: bytes) -> str:
    hashes = DIGESTS.get(rdata[3])
    size = len(rdata) - 4
    if hashes is not None and size != hashes().digest_size:
        return f"a digest of type {rdata[3]} has {hashes().digest_size} bytes, not {size}"
    return ""


def _flaw_of_key(rdata: bytes) -> str:
    flags = flags_of(rdata)
    if flags & REVOKE_FLAG:
        return f"the key {key_tag(rdata)} is revoked (flags {flags})"
    if not flags & ZONE_FLAG or rdata[2] != _PROTOCOL:
        return f"flags {flags} and protocol {rdata[2]} are not those of a zone's key (257 3)"
    return ""
