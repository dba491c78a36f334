"""Field kinds for rdata with interdependent fields: gateways, HIP, TKEY and TSIG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.dns.presentation.fields import AAAA, NAME, U8, A, Kind, cut, mnemonic, read_number
from corepy.dns.presentation.record_error import NoTextForm, RecordError
from corepy.dns.presentation.strings import counted, from_base64, from_hex, to_base64, to_hex
from corepy.dns.presentation.words import Words, shown

_Value = TypeVar("_Value")
_NO_GATEWAY: Final = "."


def _as_field(field: str, read: Callable[[Words], _Value], words: Words) -> _Value:
    """Return the result of `read`; set the name of the field in an error."""
    try:
        return read(words)
    except RecordError as error:
        error.field = field
        raise


def _read_none(words: Words) -> bytes:
    text = words.plain()
    if text != _NO_GATEWAY:
        raise RecordError(f'must be "{_NO_GATEWAY}" as its type is 0: {shown(text)}')
    return b""


def _write_none(wire: bytes, at: int) -> tuple[str, int]:
    return _NO_GATEWAY, at


_GATEWAYS: Final = (Kind(_read_none, _write_none), A, AAAA, NAME)
"""Kinds of a gateway by its type (RFC 4025 section 2.3, RFC 8777 section 4.2.3)."""


def _write_gateway(wire: bytes, at: int, form: int) -> tuple[str, int]:
    if form >= len(_GATEWAYS):
        raise NoTextForm("gateway of an unknown type")
    return _GATEWAYS[form].write(wire, at)


def _read_ipsec_gateway(words: Words) -> bytes:
    form = read_number(words, len(_GATEWAYS) - 1)
    algorithm = _as_field("algorithm", U8.read, words)
    return bytes((form,)) + algorithm + _as_field("gateway", _GATEWAYS[form].read, words)


def _write_ipsec_gateway(wire: bytes, at: int) -> tuple[str, int]:
    head, at = cut(wire, at, 2)
    text, at = _write_gateway(wire, at, head[0])
    return f"{head[0]} {head[1]} {text}", at


IPSEC_GATEWAY: Final = Kind(_read_ipsec_gateway, _write_ipsec_gateway)
"""Type of the gateway, algorithm of the key, gateway (RFC 4025 section 2.1)."""


def _read_relay(words: Words) -> bytes:
    discovery = read_number(words, 1)
    form = _as_field("type", _read_relay_type, words)
    return bytes((discovery << 7 | form,)) + _as_field("relay", _GATEWAYS[form].read, words)


def _read_relay_type(words: Words) -> int:
    return read_number(words, len(_GATEWAYS) - 1)


def _write_relay(wire: bytes, at: int) -> tuple[str, int]:
    head, at = cut(wire, at, 1)
    form = head[0] & 0x7F
    text, at = _write_gateway(wire, at, form)
    return f"{head[0] >> 7} {form} {text}", at


RELAY: Final = Kind(_read_relay, _write_relay)
"""Discovery bit, type of the relay, relay (RFC 8777 section 4.2)."""


def _read_host_identity(words: Words) -> bytes:
    algorithm = U8.read(words)
    tag = _as_field("HIT", lambda words: counted(from_hex(words.plain())), words)
    key = _as_field("public key", lambda words: from_base64(words.plain()), words)
    head = tag[:1] + algorithm + len(key).to_bytes(2, "big")
    return head + tag[1:] + key


def _write_host_identity(wire: bytes, at: int) -> tuple[str, int]:
    head, at = cut(wire, at, 4)
    tag, at = cut(wire, at, head[0])
    key, at = cut(wire, at, int.from_bytes(head[2:], "big"))
    if not tag or not key:
        raise NoTextForm("HIP record without HIT or key")
    return f"{head[1]} {to_hex(tag)} {to_base64(key)}", at


HOST_IDENTITY: Final = Kind(_read_host_identity, _write_host_identity)
"""Algorithm, HIT, public key (RFC 8005 section 5)."""


def _read_names(words: Words) -> bytes:
    return b"".join(NAME.read(words) for _ in iter(words.peek, None))


def _write_names(wire: bytes, at: int) -> tuple[str, int]:
    texts = []
    while at < len(wire):
        text, at = NAME.write(wire, at)
        texts.append(text)
    return " ".join(texts), at


NAMES: Final = Kind(_read_names, _write_names)


def _read_sized(words: Words) -> bytes:
    """Read a size and as many bytes in base64; the second word is omitted for size 0."""
    size = read_number(words, c.MAX_SIZE)
    data = from_base64(words.plain()) if size else b""
    if len(data) != size:
        raise RecordError(f"has {len(data)} bytes instead of {size}")
    return size.to_bytes(2, "big") + data


def _write_sized(wire: bytes, at: int) -> tuple[str, int]:
    head, at = cut(wire, at, 2)
    data, at = cut(wire, at, int.from_bytes(head, "big"))
    return f"{len(data)} {to_base64(data)}".rstrip(), at


SIZED: Final = Kind(_read_sized, _write_sized)
"""A size and as many bytes, in dig's format for TSIG and TKEY."""

ERROR: Final = mnemonic(2, c.RCODES, "error")
"""An rcode, by its name (RFC 8945 section 4.2)."""


def eui(size: int) -> Kind:
    """Return the kind of a hardware address, pairs of digits with hyphens (RFC 7043)."""
    length = 3 * size - 1

    def read(words: Words) -> bytes:
        text = words.plain()
        digits = text.replace("-", "")
        if len(text) != length or "-".join(_parted(digits, 2)) != text:
            raise RecordError(f"is not {size} pairs of digits such as 00-1b-...: {shown(text)}")
        return from_hex(digits)

    def write(wire: bytes, at: int) -> tuple[str, int]:
        data, at = cut(wire, at, size)
        return data.hex("-"), at

    return Kind(read, write)


def _parted(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def _read_locator(words: Words) -> bytes:
    """Read four groups of up to four hexadecimal digits (RFC 6742 section 2.1.2)."""
    text = words.plain()
    groups = text.split(":")
    if len(groups) != 4 or not all(1 <= len(group) <= 4 for group in groups):
        raise RecordError(f"is not four groups of hexadecimal digits: {shown(text)}")
    return from_hex("".join(group.rjust(4, "0") for group in groups))


def _write_locator(wire: bytes, at: int) -> tuple[str, int]:
    data, at = cut(wire, at, 8)
    return ":".join(_parted(data.hex(), 4)), at


LOCATOR: Final = Kind(_read_locator, _write_locator)


def _read_tag(words: Words) -> bytes:
    """Read a property tag: letters and digits (RFC 8659 section 4.1)."""
    text = words.plain()
    if not (text.isascii() and text.isalnum()):
        raise RecordError(f"is not letters and digits: {shown(text)}")
    return counted(text.encode("ascii"))


def _write_tag(wire: bytes, at: int) -> tuple[str, int]:
    if at >= len(wire):
        raise FormError("rdata is cut off")
    data, at = cut(wire, at + 1, wire[at])
    if not data.isalnum():
        raise NoTextForm("CAA tag is not letters and digits")
    return data.decode("ascii"), at


TAG: Final = Kind(_read_tag, _write_tag)
