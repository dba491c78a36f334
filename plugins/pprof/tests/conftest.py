"""A decoder of pprof's format, written against profile.proto and not against the encoder."""

import gzip
import signal
import tracemalloc
from types import SimpleNamespace

import pytest

MESSAGES = {1, 2, 3, 4, 5, 11}
STRINGS = 6


def varint(data, at):
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return number, at


def signed(number):
    return number - (1 << 64) if number >= 1 << 63 else number


def fields(data):
    """Return the fields of a message: number -> values, which are integers or bytes."""
    found, at = {}, 0
    while at < len(data):
        tag, at = varint(data, at)
        value, at = varint(data, at)
        assert tag & 7 in (0, 2)
        if tag & 7 == 2:
            assert at + value <= len(data)
            value, at = data[at : at + value], at + value
        found.setdefault(tag >> 3, []).append(value)
    return found


def numbers(values):
    """Return a repeated number, packed or not."""
    found = []
    for value in values:
        if isinstance(value, int):
            found.append(signed(value))
            continue
        at = 0
        while at < len(value):
            number, at = varint(value, at)
            found.append(signed(number))
    return found


def by_id(messages):
    found = {message[1][0]: message for message in messages}
    assert len(found) == len(messages)
    assert 0 not in found
    return found


def decode(content):
    """Return a profile with everything that it refers to resolved; what is missing fails."""
    message = fields(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    strings = [text.decode() for text in message[STRINGS]]
    assert strings[0] == ""
    assert len(set(strings)) == len(strings)

    def one(values, default=0):
        return signed((values or [default])[-1])

    def text(values):
        return strings[one(values)]

    def kind(data):
        value = fields(data)
        return text(value.get(1)), text(value.get(2))

    mappings = by_id([fields(data) for data in message[3]])
    functions = by_id([fields(data) for data in message.get(5, [])])
    locations = by_id([fields(data) for data in message.get(4, [])])

    def frame(number):
        location = locations[number]
        assert location[2][0] in mappings
        (line,) = map(fields, location[4])
        function = functions[line[1][0]]
        start = one(function.get(5))
        return text(function.get(2)), text(function.get(4)), one(line.get(2)), start

    types = [kind(data) for data in message[1]]
    samples = []
    for data in message.get(2, []):
        sample = fields(data)
        values = tuple(numbers(sample[2]))
        assert len(values) == len(types)
        labels = tuple(
            (text(label.get(1)), text(label.get(2))) for label in map(fields, sample.get(3, []))
        )
        samples.append((tuple(map(frame, numbers(sample.get(1, [])))), values, labels))
    return SimpleNamespace(
        types=types,
        samples=samples,
        period_type=kind(message[11][0]),
        period=one(message.get(12)),
        time=one(message.get(9)),
        duration=one(message.get(10)),
        comments=[strings[number] for number in numbers(message.get(13, []))],
        preferred=text(message.get(14)),
        symbols=[[one(it.get(field)) for field in (7, 8, 9, 10)] for it in mappings.values()],
    )


@pytest.fixture(scope="session", name="decode")
def decode_fixture():
    return decode


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Nothing measures after a test."""
    yield
    assert not tracemalloc.is_tracing()
    assert signal.getsignal(signal.SIGPROF) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
