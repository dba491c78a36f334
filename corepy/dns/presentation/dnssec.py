"""Field kinds of DNSSEC: types, algorithms, times, hashes, type bitmaps (RFC 4034)."""

from __future__ import annotations

import base64
import binascii
import calendar
import re
import time
from typing import Final

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.presentation.fields import U8, U16, Kind, cut, mnemonic, read_number
from corepy.dns.presentation.record_error import NoTextForm, RecordError
from corepy.dns.presentation.strings import BASE64, counted, cut_counted, from_hex, to_hex
from corepy.dns.presentation.words import Words, shown

ALGORITHMS: Final = {
    "RSAMD5": 1, "DH": 2, "DSA": 3, "ECC": 4, "RSASHA1": 5, "DSA-NSEC3-SHA1": 6,
    "RSASHA1-NSEC3-SHA1": 7, "RSASHA256": 8, "RSASHA512": 10, "ECC-GOST": 12,
    "ECDSAP256SHA256": 13, "ECDSAP384SHA384": 14, "ED25519": 15, "ED448": 16, "INDIRECT": 252,
    "PRIVATEDNS": 253, "PRIVATEOID": 254,
    # Aliases in dnspython, BIND and knot.
    "DSANSEC3SHA1": 6, "RSASHA1NSEC3SHA1": 7, "ECCGOST": 12, "NSEC3DSA": 6, "NSEC3RSASHA1": 7,
}  # fmt: skip
"""The mnemonics of RFC 4034 appendix A.1 and its updates, spelled as in miekg/dns."""

_CERT_TYPES: Final = {
    "PKIX": 1, "SPKI": 2, "PGP": 3, "IPKIX": 4, "ISPKI": 5, "IPGP": 6, "ACPKIX": 7, "IACPKIX": 8,
    "URI": 253, "OID": 254, "IPIX": 4,
}  # fmt: skip
_KEY_PROTOCOLS: Final = {"NONE": 0, "TLS": 1, "EMAIL": 2, "DNSSEC": 3, "IPSEC": 4, "ALL": 255}

_ALGORITHM: Final = mnemonic(1, ALGORITHMS, "DNSSEC algorithm")
NAMED_ALGORITHM: Final = _ALGORITHM
"""An algorithm that is written as its mnemonic (CERT: RFC 4398 section 2.2)."""

ALGORITHM: Final = Kind(_ALGORITHM.read, U8.write)
"""An algorithm that is written as a number, as in dig and miekg/dns."""

CERT_TYPE: Final = mnemonic(2, _CERT_TYPES, "certificate type")
KEY_PROTOCOL: Final = Kind(mnemonic(1, _KEY_PROTOCOLS, "protocol").read, U8.write)

_NO_KEY: Final = 0xC000
"""Both bits set in a KEY record's flags: the record has no key (RFC 2535 section 3.1.2)."""


def read_type(text: str) -> int:
    """Return a record type's number."""
    try:
        return c.type_number(text)
    except ValueError:
        raise RecordError(f"is not a record type: {shown(text)}") from None


def write_type(number: int) -> str:
    """Return a record type's name in the form that `read_type` reads.

    The names of the numbers 0 and 65535 are only for the log.
    """
    name = c.type_name(number)
    return name if name.isupper() else f"TYPE{number}"


def _read_type(words: Words) -> bytes:
    return read_type(words.plain()).to_bytes(2, "big")


def _write_type(wire: bytes, at: int) -> tuple[str, int]:
    data, at = cut(wire, at, 2)
    return write_type(int.from_bytes(data, "big")), at


TYPE: Final = Kind(_read_type, _write_type)

_DATE: Final = re.compile(r"[0-9]{14}", re.ASCII)
_DATE_FORM: Final = "%Y%m%d%H%M%S"
_MOST_TIME: Final = 0xFFFFFFFF


def _read_time(words: Words) -> bytes:
    """Read a date or seconds, distinguished by the number of digits (RFC 4034 section 3.2)."""
    text = words.plain()
    if not _DATE.fullmatch(text):
        words.at -= 1
        return read_number(words, _MOST_TIME).to_bytes(4, "big")
    try:
        seconds = calendar.timegm(time.strptime(text, _DATE_FORM))
    except ValueError:
        raise RecordError(f"is not a date of the form YYYYMMDDHHmmSS: {shown(text)}") from None
    if seconds < 0:
        raise RecordError(f"is a date before 1970: {shown(text)}")
    # Serial numbers wrap to zero in 2106 (RFC 4034 section 3.1.5).
    return (seconds & _MOST_TIME).to_bytes(4, "big")


def _write_time(wire: bytes, at: int) -> tuple[str, int]:
    data, at = cut(wire, at, 4)
    return time.strftime(_DATE_FORM, time.gmtime(int.from_bytes(data, "big"))), at


TIME: Final = Kind(_read_time, _write_time)


def _read_salt(words: Words) -> bytes:
    text = words.plain()
    return b"\0" if text == "-" else counted(from_hex(text))


def _write_salt(wire: bytes, at: int) -> tuple[str, int]:
    data, at = cut_counted(wire, at)
    return to_hex(data) or "-", at


SALT: Final = Kind(_read_salt, _write_salt)
"""RFC 5155 section 3.3."""


def _read_hash(words: Words) -> bytes:
    text = words.plain()
    padding = "=" * (-len(text) % 8)
    try:
        data = base64.b32hexdecode(text + padding, casefold=True)
    except (binascii.Error, ValueError):
        raise RecordError(f"is not base32hex: {shown(text)}") from None
    if _to_base32hex(data) != text.upper():  # bits after the last byte: a digit is missing
        raise RecordError(f"is not a whole number of bytes in base32hex: {shown(text)}")
    return counted(data)


def _to_base32hex(data: bytes) -> str:
    return base64.b32hexencode(data).decode("ascii").rstrip("=")


def _write_hash(wire: bytes, at: int) -> tuple[str, int]:
    data, at = cut_counted(wire, at)
    if not data:
        raise FormError("empty hash")
    return _to_base32hex(data), at


HASHED_OWNER: Final = Kind(_read_hash, _write_hash)
"""RFC 5155 section 3.3: base32hex without padding."""

_WINDOW: Final = 256
_LONGEST_BITMAP: Final = 32


def _read_types(words: Words) -> bytes:
    """Read the bitmaps of RFC 4034 section 4.1.2."""
    windows: dict[int, int] = {}
    for number in sorted({_read_bit(words) for _ in iter(words.peek, None)}):
        window, bit = divmod(number, _WINDOW)
        windows[window] = windows.get(window, 0) | 1 << (_WINDOW - 1 - bit)
    pieces = []
    for window, bits in windows.items():
        bitmap = bits.to_bytes(_LONGEST_BITMAP, "big").rstrip(b"\0")
        pieces.append(bytes((window, len(bitmap))) + bitmap)
    return b"".join(pieces)


def _read_bit(words: Words) -> int:
    number = read_type(words.plain())
    if not number:
        raise RecordError("cannot be 0")
    return number


def _write_types(wire: bytes, at: int) -> tuple[str, int]:
    texts: list[str] = []
    before = -1
    while at < len(wire):
        head, at = cut(wire, at, 2)
        bitmap, at = cut(wire, at, head[1])
        if head[0] <= before or not 0 < len(bitmap) <= _LONGEST_BITMAP or not bitmap[-1]:
            raise FormError("type bitmaps are not in the form of RFC 4034 section 4.1.2")
        before = head[0]
        texts += _types_of(bitmap, before * _WINDOW)
    return " ".join(texts), at


def _types_of(bitmap: bytes, first: int) -> list[str]:
    bits = "".join(f"{byte:08b}" for byte in bitmap)
    numbers = [first + bit for bit, mark in enumerate(bits) if mark == "1"]
    if numbers[0] == 0:
        raise FormError("type bitmap holds type 0")
    return [write_type(number) for number in numbers]


TYPES: Final = Kind(_read_types, _write_types)


def _read_old_types(words: Words) -> bytes:
    """Read the single bitmap of NXT, for the types up to 127 (RFC 2535 section 5.2)."""
    bits = 0
    while words.peek() is not None:
        number = _read_bit(words)
        if number > 127:
            raise RecordError(f"cannot be above 127: {number}")
        bits |= 1 << (127 - number)
    return bits.to_bytes(16, "big").rstrip(b"\0")


def _write_old_types(wire: bytes, at: int) -> tuple[str, int]:
    bitmap = wire[at:]
    if not bitmap:
        return "", at
    if len(bitmap) > 16 or not bitmap[-1] or bitmap[0] & 0x80:
        raise NoTextForm("type bitmap is not in the form of RFC 2535 section 5.2")
    return " ".join(_types_of(bitmap, 0)), len(wire)


OLD_TYPES: Final = Kind(_read_old_types, _write_old_types)

_KEY_FLAGS: Final = {
    "NOAUTH": 0x8000, "NOCONF": 0x4000, "NOKEY": _NO_KEY, "EXTEND": 0x1000, "USER": 0,
    "ZONE": 0x100, "HOST": 0x200, "NTYP3": 0x300,
} | {f"FLAG{bit}": 0x8000 >> bit for bit in (2, 4, 5, 8, 9, 10, 11)} | {
    f"SIG{number}": number for number in range(16)
}  # fmt: skip


def _read_key_flags(words: Words) -> bytes:
    """Read a number, or mnemonics separated by "|" (RFC 2535 section 7.1)."""
    text = words.plain()
    if text[:1].isdigit():
        words.at -= 1
        return U16.read(words)
    return _key_flags(text).to_bytes(2, "big")


def _key_flags(text: str) -> int:
    if text.isdigit():
        return int(text)
    flags = 0
    for name in text.upper().split("|"):
        if name not in _KEY_FLAGS:
            raise RecordError(f"has an unknown flag: {shown(name)}")
        flags |= _KEY_FLAGS[name]
    return flags


KEY_FLAGS: Final = Kind(_read_key_flags, U16.write)


def _read_key(words: Words) -> bytes:
    """Read the key; it may be missing only if the flags, three words before, are NOKEY."""
    if words.peek() is None and _key_flags(words.earlier(3)) & _NO_KEY == _NO_KEY:
        return b""
    return BASE64.read(words)


def _write_key(wire: bytes, at: int) -> tuple[str, int]:
    """Write the key; it may be missing only if the flags are NOKEY."""
    has_none = int.from_bytes(wire[:2], "big") & _NO_KEY == _NO_KEY
    if at == len(wire) and has_none:
        return "", at
    return BASE64.write(wire, at)


KEY: Final = Kind(_read_key, _write_key)
"""The key of a KEY record."""
