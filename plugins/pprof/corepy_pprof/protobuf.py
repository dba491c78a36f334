"""Encodes a profile as pprof's gzip-compressed protocol buffer (google/pprof, proto/profile.proto).

The schema is small and will not change, so this is a hand-written encoder: a library for protocol
buffers would cost several megabytes. Numbers in comments are those of the fields.
"""

from __future__ import annotations

import gzip
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy_pprof.profile import Frame, Profile, Sample, ValueType

_BYTES: Final = 2
"""Wire type of strings, messages and packed numbers."""

_MASK: Final = (1 << 64) - 1
_MAPPING: Final = 1
"""ID of the only mapping."""


def encode(profile: Profile) -> bytes:
    """Return the profile as a file that `go tool pprof` reads."""
    return gzip.compress(_Encoder().profile(profile), 6, mtime=0)


def varint(number: int) -> bytes:
    """Return a variable-length integer; a negative one becomes its two's complement."""
    number &= _MASK
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _number(field: int, value: int) -> bytes:
    """Return a numeric field; a zero is the default, and left out."""
    return varint(field << 3) + varint(value) if value else b""


def _bytes(field: int, content: bytes) -> bytes:
    return varint(field << 3 | _BYTES) + varint(len(content)) + content


def _packed(field: int, numbers: Iterable[int]) -> bytes:
    content = b"".join(map(varint, numbers))
    return _bytes(field, content) if content else b""


class _Encoder:
    """The tables of one profile: strings, functions and locations, each numbered at first use."""

    def __init__(self) -> None:
        self._strings: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str, int], int] = {}
        self._locations: dict[Frame, int] = {}

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def _location(self, frame: Frame) -> int:
        return self._locations.setdefault(frame, len(self._locations) + 1)

    def profile(self, profile: Profile) -> bytes:
        """Return the message Profile; the tables come last, when they are complete."""
        parts = [_bytes(1, self._type(it)) for it in profile.types]
        parts += [_bytes(2, self._sample(it)) for it in profile.samples]
        parts.append(_bytes(3, self._mapping()))
        parts += [_bytes(4, self._place(it, number)) for it, number in self._locations.items()]
        parts += [_bytes(5, self._function(*it, id_)) for it, id_ in self._functions.items()]
        parts += [
            _number(9, profile.time),
            _number(10, profile.duration),
            _bytes(11, self._type(profile.period_type)),
            _number(12, profile.period),
            _packed(13, map(self._string, profile.comments)),
            _number(14, self._string(profile.types[-1].kind)),
        ]
        parts += [_bytes(6, _utf8(text)) for text in self._strings]
        return b"".join(parts)

    def _type(self, value: ValueType) -> bytes:
        """Return the message ValueType."""
        return _number(1, self._string(value.kind)) + _number(2, self._string(value.unit))

    def _sample(self, sample: Sample) -> bytes:
        """Return the message Sample."""
        labels = (
            _bytes(3, _number(1, self._string(key)) + _number(2, self._string(text)))
            for key, text in sample.labels
        )
        ids = _packed(1, map(self._location, sample.stack))
        return ids + _packed(2, sample.values) + b"".join(labels)

    def _mapping(self) -> bytes:
        """Return the message Mapping, whose flags keep readers from looking for symbols."""
        flags = b"".join(_number(field, 1) for field in (7, 8, 9, 10))
        return _number(1, _MAPPING) + _number(5, self._string(sys.executable)) + flags

    def _place(self, frame: Frame, number: int) -> bytes:
        """Return the message Location."""
        key = (frame.function, frame.file, frame.start)
        function = self._functions.setdefault(key, len(self._functions) + 1)
        line = _number(1, function) + _number(2, frame.line)
        return _number(1, number) + _number(2, _MAPPING) + _bytes(4, line)

    def _function(self, name: str, file: str, start: int, number: int) -> bytes:
        """Return the message Function."""
        names = _number(2, self._string(name)) + _number(3, self._string(name))
        return _number(1, number) + names + _number(4, self._string(file)) + _number(5, start)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
