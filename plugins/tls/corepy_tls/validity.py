"""The time of validity that a certificate states, without a library that decodes certificates."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from typing import Final, NamedTuple

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_FORMATS: Final = {_UTC_TIME: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
"""The formats of RFC 5280 section 4.1.2.5, by tag; `%y` has the same centuries for 1969 to 2049."""

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


class Validity(NamedTuple):
    """Seconds since 1970 between which a certificate is valid."""

    begin: float
    end: float

    def problem(self) -> str:
        """Return why clients refuse the certificate now, such as "expired on ..."; else ""."""
        now = time.time()  # time of day: the certificate states it
        if now > self.end:
            return f"expired on {shown(self.end)}"
        return f"is not valid before {shown(self.begin)}" if now < self.begin else ""


def shown(seconds: float) -> str:
    """Return a time such as "2026-11-30 09:51 UTC"."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def validity(chain: bytes) -> Validity | None:
    """Return the validity of the first certificate in PEM form; None if it cannot be decoded."""
    try:
        text = chain.decode("ascii", "replace")
        begin = text.index(_BEGIN)
        end = text.index(_END, begin) + len(_END)
        return _of_der(ssl.PEM_cert_to_DER_cert(text[begin:end]))
    except (ValueError, IndexError, KeyError, OverflowError):
        return None


def _of_der(der: bytes) -> Validity:
    """Return the validity in a certificate (RFC 5280 section 4.1); raises ValueError and others."""
    fields = _content(_content(der, _SEQUENCE), _SEQUENCE)
    if fields[0] == _VERSION:
        fields = _after(fields)
    for _ in ("serial number", "signature", "issuer"):
        fields = _after(fields)
    times = _content(fields, _SEQUENCE)
    return Validity(_time(times), _time(_after(times)))


def _time(der: bytes) -> float:
    text = _content(der, der[0]).decode("ascii")
    return datetime.strptime(text, _FORMATS[der[0]]).replace(tzinfo=UTC).timestamp()


def _content(der: bytes, tag: int) -> bytes:
    start, end = _bounds(der)
    if der[0] != tag:
        raise ValueError(f"tag {der[0]}, not {tag}")
    return der[start:end]


def _after(der: bytes) -> bytes:
    return der[_bounds(der)[1] :]


def _bounds(der: bytes) -> tuple[int, int]:
    """Return where the content of the first element begins and ends (X.690 section 8.1.3)."""
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if start + length > len(der):
        raise ValueError("the element is cut off")
    return start, start + length
