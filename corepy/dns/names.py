"""Domain names in wire format: uncompressed labels with the final zero, as `bytes`.

A *wire name* passed to any function here must be well formed (from `from_text` or
`corepy.dns.wire.read_name`); it is not checked again. Names are compared as bytes, which is correct
only for lower case. Call `lower` once, on input, and keep the result.
"""

from __future__ import annotations

from typing import Final

MAX_LABEL: Final = 63
"""Maximum length of a label in bytes (RFC 1035 section 2.3.4)."""

MAX_NAME: Final = 255
"""Maximum length of a name in bytes, with length bytes and final zero (RFC 1035 section 2.3.4)."""

ROOT: Final = b"\0"
"""The root's wire name."""

_LONGEST_SHOWN: Final = 80
"""Characters of an invalid name quoted in a message."""

# Bytes without an escape: printable ASCII except the special characters of zone files. The set is
# that of miekg/dns (types.go), so that names in logs match CoreDNS's.
_SPECIAL: Final = b".'@;()\"\\ "
_PLAIN: Final = bytes(c for c in range(0x21, 0x7F) if c not in _SPECIAL)


class InvalidName(ValueError):
    """The text is not a domain name; the message contains the reason."""


def from_text(text: str) -> bytes:
    r"""Return the wire name of a presentation form, in its case; the trailing dot is optional.

    Escapes are `\.` (any character) and `\DDD` (a byte in decimal), RFC 1035 section 5.1.
    Characters outside ASCII become their UTF-8 bytes, as in CoreDNS. Raise InvalidName.
    """
    if text == ".":
        return ROOT
    labels = _escaped_labels(text) if "\\" in text else _encoded(text.removesuffix(".")).split(b".")
    wire = bytearray()
    for label in labels:
        if not label:
            raise InvalidName(f"empty label in name {_shown(text)}")
        if len(label) > MAX_LABEL:
            raise InvalidName(f"label longer than {MAX_LABEL} bytes in name {_shown(text)}")
        wire.append(len(label))
        wire += label
    wire.append(0)
    if len(wire) > MAX_NAME:
        raise InvalidName(f"name longer than {MAX_NAME} bytes: {_shown(text)}")
    return bytes(wire)


def _shown(text: str) -> str:
    """Return text in quotes for a message, shortened: it may be very long."""
    return repr(text) if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]!r}..."


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # JSON may contain it
        raise InvalidName(f"half of a surrogate pair in name {_shown(text)}") from None


def _escaped_labels(text: str) -> list[bytes]:
    raw = _encoded(text)
    labels = [bytearray()]
    i, end = 0, len(raw)
    while i < end:
        c = raw[i]
        if c == 0x2E:
            labels.append(bytearray())
        elif c == 0x5C:
            byte, i = _unescape(raw, i, text)
            labels[-1].append(byte)
        else:
            labels[-1].append(c)
        i += 1
    if len(labels) > 1 and not labels[-1]:
        labels.pop()
    return [bytes(label) for label in labels]


def _unescape(raw: bytes, i: int, text: str) -> tuple[int, int]:
    """Return the byte of the escape at i, and the offset of the escape's last byte."""
    digits = raw[i + 1 : i + 4]
    if not digits:
        raise InvalidName(f"name ends in a lone backslash: {_shown(text)}")
    if not digits[:1].isdigit():
        return digits[0], i + 1
    if len(digits) < 3 or not digits.isdigit() or int(digits) > 255:
        raise InvalidName(f"bad \\DDD escape in name {_shown(text)}")
    return int(digits), i + 3


def to_text(wire: bytes) -> str:
    """Return the presentation form with the trailing dot, escaped as in miekg/dns (msg.go)."""
    text = bytearray(wire)
    i = dots = 0
    while n := wire[i]:
        text[i] = 0x2E
        i += n + 1
        dots += 1
    if not i:
        return "."
    text[i] = 0x2E
    # One pass in C detects the usual name: only the dots just inserted are special.
    if len(text.translate(None, _PLAIN)) == dots + 1:
        return text[1:].decode("ascii")
    return "".join(_escape(label) + "." for label in labels_of(wire))


def _escape(label: bytes) -> str:
    out = []
    for c in label:
        if c in _SPECIAL:
            out.append("\\" + chr(c))
        elif 0x20 < c < 0x7F:
            out.append(chr(c))
        else:
            out.append(f"\\{c:03d}")
    return "".join(out)


def lower(wire: bytes) -> bytes:
    """Return the name in lower case (RFC 4343: ASCII letters only).

    All bytes can be converted at once: a length byte is at most 63, and letters begin at 65.
    """
    return wire.lower()


def labels_of(wire: bytes) -> list[bytes]:
    """Return the labels from left to right, without the root's empty one."""
    labels = []
    i = 0
    while n := wire[i]:
        i += 1
        labels.append(wire[i : i + n])
        i += n
    return labels


def parent_offsets(wire: bytes) -> list[int]:
    """Return the offsets of the name, each parent and the root: `wire[offset:]` is that name."""
    offsets = [0]
    i = 0
    while n := wire[i]:
        i += n + 1
        offsets.append(i)
    return offsets


def is_subdomain(child: bytes, zone: bytes) -> bool:
    """Return whether child is zone or below it; both in lower case (RFC 9499 section 2)."""
    if not child.endswith(zone):
        return False
    # The bytes match; the zone must also begin at a label boundary.
    start = len(child) - len(zone)
    i = 0
    while i < start:
        i += child[i] + 1
    return i == start
