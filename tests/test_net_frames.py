"""Cutting a stream into messages."""

from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.net.frames import FrameReader, frame


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=20), st.lists(st.integers(1, 50), min_size=1))
def test_any_cut_of_the_stream_gives_the_same_messages(messages, cuts):
    stream, reader = b"".join(map(frame, messages)), FrameReader()
    got: list[bytes] = []
    position = turn = 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        got += reader.feed(stream[position : position + size])
        position += size
        turn += 1
    assert got == messages


def test_an_unfinished_message_waits():
    reader = FrameReader()
    assert list(reader.feed(b"\0")) == []
    assert list(reader.feed(b"\3ab")) == []
    assert list(reader.feed(b"c\0\0")) == [b"abc", b""]


def test_what_is_not_taken_is_kept():
    reader = FrameReader()
    stream = b"".join(map(frame, (b"a", b"b", b"c", b"d")))
    assert next(reader.feed(stream + b"\0")) == b"a"
    assert next(reader.feed(b"")) == b"b"
    assert list(reader.feed(b"\1e")) == [b"c", b"d", b"e"]
    assert list(reader.feed(frame(b"f"))) == [b"f"]


def test_data_can_be_kept_without_reading_messages():
    reader = FrameReader()
    reader.keep(frame(b"a")[:2])
    reader.keep(b"a" + frame(b"b"))
    assert list(reader.feed(frame(b"c"))) == [b"a", b"b", b"c"]
