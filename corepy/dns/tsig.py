"""TSIG records (RFC 8945): reads and removes that of a query; `tsig_mac` computes the signatures.

Runs only for queries with more than a question and an OPT record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct, error
from typing import Final

from corepy.dns.constants import CLASS_ANY, TYPE_TSIG
from corepy.dns.form_error import FormError
from corepy.dns.names import from_text, to_text
from corepy.dns.wire import ADDITIONAL, counts, read_name, walk

BADSIG: Final = 16
BADKEY: Final = 17
BADTIME: Final = 18
BADTRUNC: Final = 22
"""TSIG errors (RFC 8945 section 3), the values of `TSIG.error`."""

HMAC_SHA256: Final = from_text("hmac-sha256.")
"""The algorithm of a key for which none is stated (RFC 8945 section 6 recommends it)."""

_LENGTHS: Final = Struct("!HIHH")  # time signed (16 + 32 bits), fudge, MAC size
_AFTER_MAC: Final = Struct("!HHH")  # original ID, error, other length


@dataclass(frozen=True, slots=True)
class TSIGKey:
    """A key that signs the queries of this server to another one."""

    name: bytes
    """In wire form and lower case."""

    secret: bytes = field(repr=False)
    algorithm: bytes = HMAC_SHA256
    """The name of the algorithm, likewise."""


@dataclass(frozen=True, slots=True)
class TSIG:
    """The TSIG record of a query, and whether it is valid; see `Identity.tsig`."""

    key_name: bytes
    """The name of the key, in wire form and lower case."""

    algorithm: bytes
    """The name of the algorithm, likewise."""

    time_signed: int
    """The client's time of day in seconds since 1970."""

    fudge: int
    """Seconds by which the clocks may differ."""

    mac: bytes
    original_id: int
    stated_error: int
    """The error field of the record, 0 in a query."""

    other: bytes

    message: bytes = field(repr=False)
    """The message that the client signed: with the original ID, without the record."""

    error: int | None = None
    """0 if the signature is valid, else the TSIG error; None before it was verified."""

    @property
    def key(self) -> str:
        """The name of the key in presentation form."""
        return to_text(self.key_name)

    @property
    def is_valid(self) -> bool:
        """Whether the query was signed with a key of this listener, at about the present time."""
        return self.error == 0


def split_tsig(wire: bytes) -> tuple[bytes, TSIG | None]:
    """Return a message without its TSIG record, and the record; None if it has none.

    The message must be readable, and end with its last record. Raises FormError for more than one
    TSIG record, one that is not the last record, and one that is malformed (RFC 8945 section 5.1).
    """
    numbers = counts(wire)
    last = sum(numbers[1:])
    for number, record in enumerate(walk(wire), 1):
        section, rtype, rclass, ttl, rdata, length, owner, _ = record
        if rtype != TYPE_TSIG:
            continue
        if number != last or section != ADDITIONAL:
            raise FormError("a TSIG record is not the last record of the message")
        if rclass != CLASS_ANY or wire[ttl : ttl + 4] != b"\0\0\0\0":
            raise FormError("a TSIG record has another class than ANY, or a TTL")
        rest = b"".join((wire[2:10], (numbers[3] - 1).to_bytes(2, "big"), wire[12:owner]))
        name = read_name(wire, owner)[0].lower()
        return wire[:2] + rest, _read(wire, rdata, rdata + length, name, rest)
    return wire, None


def _read(wire: bytes, at: int, end: int, name: bytes, signed: bytes) -> TSIG:
    """Return the record with the rdata from `at` to `end`; `signed` is the message without ID."""
    algorithm, at = read_name(wire, at)
    try:
        high, low, fudge, size = _LENGTHS.unpack_from(wire, at)
        at += _LENGTHS.size
        mac = wire[at : at + size]
        original_id, stated_error, other_size = _AFTER_MAC.unpack_from(wire, at + size)
    except error:
        raise FormError("a TSIG record is cut off") from None
    at += size + _AFTER_MAC.size
    if at + other_size != end:
        raise FormError("a TSIG record has the wrong length")
    message = original_id.to_bytes(2, "big") + signed
    time_signed = high << 32 | low
    return TSIG(
        name,
        algorithm.lower(),
        time_signed,
        fudge,
        mac,
        original_id,
        stated_error,
        wire[at:end],
        message,
    )
