"""The parameters of SVCB and HTTPS records (RFC 9460 section 2.1 and appendix A; RFC 9461)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final, NamedTuple

from corepy.dns.form_error import FormError
from corepy.dns.presentation.fields import AAAA, U16, A, Kind, cut
from corepy.dns.presentation.record_error import NoTextForm, RecordError
from corepy.dns.presentation.strings import (
    counted,
    cut_counted,
    from_base64,
    octets,
    quoted,
    to_base64,
)
from corepy.dns.presentation.words import Word, Words, shown

MANDATORY: Final = 0
ALPN: Final = 1
NO_DEFAULT_ALPN: Final = 2
PORT: Final = 3
IPV4HINT: Final = 4
ECH: Final = 5
IPV6HINT: Final = 6
DOHPATH: Final = 7
OHTTP: Final = 8
INVALID: Final = 65535

_KEYS: Final = {
    "mandatory": MANDATORY, "alpn": ALPN, "no-default-alpn": NO_DEFAULT_ALPN, "port": PORT,
    "ipv4hint": IPV4HINT, "ech": ECH, "ipv6hint": IPV6HINT, "dohpath": DOHPATH, "ohttp": OHTTP,
}  # fmt: skip
_NAMES: Final = {number: name for name, number in _KEYS.items()}
_GENERIC: Final = "key"
_MOST_KEY_DIGITS: Final = 5


class _Value(NamedTuple):
    """Reads the value of a key, or validates and writes it (raising FormError)."""

    read: Callable[[bytes], bytes]
    write: Callable[[bytes], bytes]


def key_name(number: int) -> str:
    """Return the name of a key, or `key` and its number (RFC 9460 section 2.1)."""
    return _NAMES.get(number) or f"{_GENERIC}{number}"


def _key_number(name: str) -> int:
    number = _KEYS.get(name)
    if number is not None:
        return number
    digits = name.removeprefix(_GENERIC)
    if digits == name or not (digits.isascii() and digits.isdigit()):
        hint = ", keys are in lower case" if name.lower() in _KEYS else ""
        raise RecordError(f"has an unknown key: {shown(name)}{hint}")
    number = int(digits) if len(digits) <= _MOST_KEY_DIGITS else INVALID
    if number >= INVALID or str(number) != digits:
        raise RecordError(f"has a key other than key0 to key65534: {shown(name)}")
    return number


def _one(value: bytes, kind: Kind) -> bytes:
    """Read a value, or an item of a list, with the kind of a field."""
    return kind.read(Words([value.decode("latin-1")]))


def _items(value: bytes) -> list[bytes]:
    r"""Split a list at its commas; `\,` and `\\` are escapes (RFC 9460 appendix A.1)."""
    items = [bytearray()]
    escaped = False
    for byte in value:
        if escaped:
            if byte not in b",\\":
                raise RecordError(r"has a list with a backslash before neither \ nor a comma")
            items[-1].append(byte)
            escaped = False
        elif byte == 0x5C:
            escaped = True
        elif byte == 0x2C:
            items.append(bytearray())
        else:
            items[-1].append(byte)
    if escaped:
        raise RecordError("has a list that ends in a lone backslash")
    return [bytes(item) for item in items]


def _joined(items: list[bytes]) -> bytes:
    return b",".join(item.replace(b"\\", b"\\\\").replace(b",", b"\\,") for item in items)


def _read_alpn(value: bytes) -> bytes:
    items = _items(value)
    if b"" in items:
        raise RecordError("has an empty protocol")
    return b"".join(map(counted, items))


def _write_alpn(value: bytes) -> bytes:
    items = protocols_of(value)
    if not items or b"" in items:
        raise FormError("alpn holds an empty protocol")
    return _joined(items)


def _read_mandatory(value: bytes) -> bytes:
    numbers = [_key_number(name) for name in value.decode("latin-1").split(",")]
    if len(set(numbers)) != len(numbers):
        raise RecordError("lists a key twice")
    return b"".join(number.to_bytes(2, "big") for number in sorted(numbers))


def keys_of(value: bytes) -> list[int]:
    """Return the keys in a value of `mandatory`, which must ascend; raise FormError."""
    numbers = [int.from_bytes(value[at : at + 2], "big") for at in range(0, len(value), 2)]
    if not value or len(value) % 2 or sorted(set(numbers)) != numbers:
        raise FormError("mandatory is not an ascending list of keys")
    return numbers


def _write_mandatory(value: bytes) -> bytes:
    return ",".join(map(key_name, keys_of(value))).encode("ascii")


def _hints(kind: Kind, family: int, size: int) -> _Value:
    def read(value: bytes) -> bytes:
        return b"".join(_one(item, kind) for item in value.split(b","))

    def write(value: bytes) -> bytes:
        if not value or len(value) % size:
            raise FormError("a hint is not a list of addresses")
        pieces = (value[at : at + size] for at in range(0, len(value), size))
        return ",".join(inet_ntop(family, piece) for piece in pieces).encode("ascii")

    return _Value(read, write)


def _read_ech(value: bytes) -> bytes:
    data = from_base64(value.decode("latin-1"))
    if not data:
        raise RecordError("is empty")
    return data


def _write_ech(value: bytes) -> bytes:
    if not value:
        raise FormError("ech is empty")
    return to_base64(value).encode("ascii")


def _write_port(value: bytes) -> bytes:
    if len(value) != 2:
        raise FormError("port is not two bytes")
    return U16.write(value, 0)[0].encode("ascii")


def _read_nothing(value: bytes) -> bytes:
    if value:
        raise RecordError("takes no value")
    return value


def _write_nothing(value: bytes) -> bytes:
    if value:
        raise FormError("a key has a value that takes none")
    return value


def _read_path(value: bytes) -> bytes:
    try:
        return _write_path(value)
    except FormError:
        raise RecordError("is not UTF-8") from None


def _write_path(value: bytes) -> bytes:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        raise FormError("dohpath is not UTF-8") from None
    return value


_VALUES: Final[dict[int, _Value]] = {
    MANDATORY: _Value(_read_mandatory, _write_mandatory),
    ALPN: _Value(_read_alpn, _write_alpn),
    NO_DEFAULT_ALPN: _Value(_read_nothing, _write_nothing),
    PORT: _Value(lambda value: _one(value, U16), _write_port),
    IPV4HINT: _hints(A, AF_INET, 4),
    ECH: _Value(_read_ech, _write_ech),
    IPV6HINT: _hints(AAAA, AF_INET6, 16),
    DOHPATH: _Value(_read_path, _write_path),  # RFC 9461 section 5
    OHTTP: _Value(_read_nothing, _write_nothing),  # RFC 9540 section 4
}


def _flaw(values: dict[int, bytes]) -> str | None:
    """Return why no client can use the parameters (RFC 9460 sections 7.1.1 and 8), or None."""
    if NO_DEFAULT_ALPN in values and ALPN not in values:
        return "has no-default-alpn without alpn"
    for key in keys_of(values[MANDATORY]) if MANDATORY in values else ():
        if key == MANDATORY:
            return "lists mandatory as a mandatory key"
        if key not in values:
            return f"lists {key_name(key)} as a mandatory key, which is missing"
    return None


def _pairs(words: Words) -> Iterator[tuple[str, bytes]]:
    """Yield name and value bytes of words such as `port=53`, `ohttp` and `alpn="h2"`."""
    while words.peek() is not None:
        word = words.plain()
        name, equals, text = word.partition("=")
        following = words.peek()
        if equals and not text and type(following) is Word and following.glued:
            text = words.any()
        yield name, octets(text)


def _read_params(words: Words) -> bytes:
    values: dict[int, bytes] = {}
    for name, text in _pairs(words):
        key = _key_number(name)
        if key in values:
            raise RecordError(f"has {name} twice")
        try:
            values[key] = _value(name, key, text)
        except RecordError as error:
            error.field = name
            raise
    flaw = _flaw(values)
    if flaw is not None:
        raise RecordError(flaw)
    heads = (key.to_bytes(2, "big") + len(values[key]).to_bytes(2, "big") for key in sorted(values))
    return b"".join(head + values[int.from_bytes(head[:2], "big")] for head in heads)


def _value(name: str, key: int, text: bytes) -> bytes:
    """Return the value of a key in wire format; the value of `keyNNN` is the text itself."""
    form = _VALUES.get(key)
    if form is None:
        return text
    if name != key_name(key):
        try:
            form.write(text)
        except FormError as error:
            raise RecordError(f"is not a value of {key_name(key)}: {error}") from None
        return text
    if not text and key not in (NO_DEFAULT_ALPN, OHTTP, DOHPATH):
        raise RecordError("has no value")
    return form.read(text)


def params_of(wire: bytes, at: int) -> dict[int, bytes]:
    """Return the values of the parameters from an offset on, by key.

    Raise FormError if they are malformed, or if no client can use them.
    """
    values = _split(wire, at)
    for key, value in values.items():
        form = _VALUES.get(key)
        if form is not None:
            form.write(value)  # raises FormError
    flaw = _flaw(values)
    if flaw is not None:
        raise FormError(f"SVCB {flaw}")
    return values


def protocols_of(value: bytes) -> list[bytes]:
    """Return the protocols in a value of `alpn`; raise FormError."""
    protocols, at = list[bytes](), 0
    while at < len(value):
        protocol, at = cut_counted(value, at)
        protocols.append(protocol)
    return protocols


def _split(wire: bytes, at: int) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    before = -1
    while at < len(wire):
        head, at = cut(wire, at, 4)
        key, length = int.from_bytes(head[:2], "big"), int.from_bytes(head[2:], "big")
        if key <= before or key == INVALID:
            raise FormError("SVCB keys do not ascend")
        values[key], at = cut(wire, at, length)
        before = key
    return values


def _write_params(wire: bytes, at: int) -> tuple[str, int]:
    values = _split(wire, at)
    texts = [_pair(key, value) for key, value in values.items()]
    flaw = _flaw(values)
    if flaw is not None:
        raise NoTextForm(flaw)
    return " ".join(texts), len(wire)


def _pair(key: int, value: bytes) -> str:
    form = _VALUES.get(key)
    text = value if form is None else form.write(value)
    return f"{key_name(key)}={quoted(text)}" if text else key_name(key)


PARAMS: Final = Kind(_read_params, _write_params)
