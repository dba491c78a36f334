"""A decoder of pprof's format, written against profile.proto and not against an encoder."""

from __future__ import annotations

import gzip
from types import SimpleNamespace
from typing import Any


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return number, at


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _fields(data: bytes) -> dict[int, list[Any]]:
    """Return the fields of a message: number -> values, which are integers or bytes."""
    found: dict[int, list[Any]] = {}
    at = 0
    value: Any
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _varint(data, at)
        assert tag & 7 in (0, 2)
        if tag & 7 == 2:
            assert at + value <= len(data)
            value, at = data[at : at + value], at + value
        found.setdefault(tag >> 3, []).append(value)
    return found


def _numbers(values: list[Any]) -> list[int]:
    """Return a repeated number, packed or not."""
    found: list[int] = []
    for value in values:
        if isinstance(value, int):
            found.append(_signed(value))
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(_signed(number))
    return found


def _by_id(messages: list[dict[int, list[Any]]]) -> dict[int, dict[int, list[Any]]]:
    found = {message[1][0]: message for message in messages}
    assert len(found) == len(messages)
    assert 0 not in found
    return found


def decode(content: bytes) -> SimpleNamespace:
    """Return a profile with everything that it refers to resolved; what is missing fails."""
    message = _fields(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    strings: list[str] = [text.decode() for text in message[6]]
    assert strings[0] == ""
    assert len(set(strings)) == len(strings)

    def one(values: list[int] | None, default: int = 0) -> int:
        return _signed((values or [default])[-1])

    def text(values: list[int] | None) -> str:
        return strings[one(values)]

    def kind(data: bytes) -> tuple[str, str]:
        value = _fields(data)
        return text(value.get(1)), text(value.get(2))

    mappings = _by_id([_fields(data) for data in message[3]])
    functions = _by_id([_fields(data) for data in message.get(5, [])])
    locations = _by_id([_fields(data) for data in message.get(4, [])])

    def frame(number: int) -> tuple[str, str, int, int]:
        location = locations[number]
        assert location[2][0] in mappings
        (line,) = map(_fields, location[4])
        function = functions[line[1][0]]
        start = one(function.get(5))
        return text(function.get(2)), text(function.get(4)), one(line.get(2)), start

    types = [kind(data) for data in message[1]]
    samples = []
    for data in message.get(2, []):
        sample = _fields(data)
        values = tuple(_numbers(sample[2]))
        assert len(values) == len(types)
        labels = tuple(
            (text(label.get(1)), text(label.get(2))) for label in map(_fields, sample.get(3, []))
        )
        samples.append((tuple(map(frame, _numbers(sample.get(1, [])))), values, labels))
    return SimpleNamespace(
        types=types,
        samples=samples,
        period_type=kind(message[11][0]),
        period=one(message.get(12)),
        time=one(message.get(9)),
        duration=one(message.get(10)),
        comments=[strings[number] for number in _numbers(message.get(13, []))],
        preferred=text(message.get(14)),
        symbols=[[one(it.get(field)) for field in (7, 8, 9, 10)] for it in mappings.values()],
    )
