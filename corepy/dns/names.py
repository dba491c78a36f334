"""Domain names as they lie in a message: uncompressed labels with the final zero, as `bytes`.

Two rules hold this module together. A *wire name* that enters any function here is well formed (it
came from `from_text` or `corepy.dns.wire.read_name`), so nothing is checked twice. Comparing names
is comparing bytes, which is only right for names in lower case: call `lower` once, at the edge, and
keep the result.
"""

from __future__ import annotations

MAX_LABEL = 63
"""Longest label in bytes (RFC 1035 section 2.3.4)."""

MAX_NAME = 255
"""Longest name in bytes, length bytes and the final zero included (RFC 1035 section 2.3.4)."""

ROOT = b"\0"
"""The root's wire name."""

_LONGEST_SHOWN = 80
"""Characters of a wrong name that a message has."""

# What needs no escape: printable ASCII without the characters that mean something in a zone file.
# The set is miekg/dns's (types.go), so that names in logs read like CoreDNS's.
_SPECIAL = b".'@;()\"\\ "
_PLAIN = bytes(c for c in range(0x21, 0x7F) if c not in _SPECIAL)


class InvalidName(ValueError):
    """Text that is no domain name; the message says what is wrong with it."""


def from_text(text: str) -> bytes:
    r"""Return the wire name for presentation form, case kept; the trailing dot may be missing.

    Escapes are `\.` (any character) and `\DDD` (a byte in decimal), RFC 1035 section 5.1.
    Characters outside ASCII become their UTF-8 bytes, as in CoreDNS. Raises InvalidName.
    """
    if text == ".":
        return ROOT
    if "\\" in text:
        labels = _escaped_labels(text)
    else:
        labels = text.removesuffix(".").encode("utf-8", "surrogateescape").split(b".")
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
    """Return text for a message; it may be a whole file that somebody took for a name."""
    return repr(text) if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]!r}..."


def _escaped_labels(text: str) -> list[bytes]:
    raw = text.encode("utf-8", "surrogateescape")
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
    """Return the byte that the escape at i stands for, and the escape's last offset."""
    digits = raw[i + 1 : i + 4]
    if not digits:
        raise InvalidName(f"name ends in a lone backslash: {_shown(text)}")
    if not digits[:1].isdigit():
        return digits[0], i + 1
    if len(digits) < 3 or not digits.isdigit() or int(digits) > 255:
        raise InvalidName(f"bad \\DDD escape in name {_shown(text)}")
    return int(digits), i + 3


def to_text(wire: bytes) -> str:
    """Return presentation form with the trailing dot, escaped as in miekg/dns (msg.go)."""
    text = bytearray(wire)
    i = dots = 0
    while n := wire[i]:
        text[i] = 0x2E
        i += n + 1
        dots += 1
    if not i:
        return "."
    text[i] = 0x2E
    # One pass in C tells the usual name: nothing needs an escape but the dots just put in.
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

    Lowering all bytes at once is right since a length byte is at most 63, and letters begin at 65.
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
    """Return where the name, each parent and the root begin: `wire[offset:]` is that name."""
    offsets = [0]
    i = 0
    while n := wire[i]:
        i += n + 1
        offsets.append(i)
    return offsets


def count_labels(wire: bytes) -> int:
    """Return the number of labels, 0 for the root."""
    count = i = 0
    while n := wire[i]:
        i += n + 1
        count += 1
    return count


def is_subdomain(child: bytes, zone: bytes) -> bool:
    """Tell whether child is zone or lies below it; both in lower case (RFC 9499 section 2)."""
    if not child.endswith(zone):
        return False
    # The bytes agree; what is left to see is that the zone begins at a label and not inside one.
    start = len(child) - len(zone)
    i = 0
    while i < start:
        i += child[i] + 1
    return i == start
