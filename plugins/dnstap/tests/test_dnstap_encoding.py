"""Payloads, addresses and control frames, byte by byte."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.testing import helper_module
from corepy_dnstap import encoding
from corepy_dnstap.addresses import packed
from corepy_dnstap.encoding import Envelope, socket_fields, varint
from corepy_dnstap.frames import CONTENT_TYPE, LONGEST, ControlReader, FrameError, control

helpers = helper_module(__file__, "dnstap_collectors")
read_fields = helpers.read_fields

V4, V6 = bytes((192, 0, 2, 1)), socket.inet_pton(socket.AF_INET6, "2001:db8::1")
NANOSECONDS = st.integers(0, 2**63)
PORTS = st.integers(0, 65535)


@given(st.integers(0, 2**64 - 1))
def test_varint(number):
    assert read_fields(b"\x08" + varint(number)) == {1: number}


@given(
    st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300),
    NANOSECONDS, NANOSECONDS, st.binary(max_size=70_000), st.binary(max_size=300),
)  # fmt: skip
def test_frame(identity, version, extra, asked, answered, query, response):
    message = (
        encoding.message_type(encoding.CLIENT_RESPONSE),
        socket_fields(encoding.UDP, (V4, 40000), None),
        encoding.query_time(asked),
        encoding.query_message(query),
        encoding.response_time(answered),
        encoding.response_message(response),
    )
    frame = Envelope(identity, version).frame(message, extra)
    assert struct.unpack_from("!I", frame) == (len(frame) - 4,)
    fields = read_fields(frame[4:])
    inner = read_fields(fields.pop(14))
    texts = {number: text for number, text in ((1, identity), (2, version), (3, extra)) if text}
    assert fields == texts | {15: 1}
    assert inner == {
        1: 6, 2: 1, 3: 1, 4: V4, 6: 40000,
        8: asked // 10**9, 9: asked % 10**9, 10: query,
        12: answered // 10**9, 13: answered % 10**9, 14: response,
    }  # fmt: skip
    assert list(inner) == sorted(inner)


@pytest.mark.parametrize(
    ("query", "response", "fields"),
    [
        (None, None, {3: 2}),
        ((V4, 1), None, {2: 1, 3: 2, 4: V4, 6: 1}),
        (None, (V6, 53), {2: 2, 3: 2, 5: V6, 7: 53}),
        ((V6, 1), (V6, 53), {2: 2, 3: 2, 4: V6, 5: V6, 6: 1, 7: 53}),
        ((V6, 1), (V4, 53), {2: 2, 3: 2, 4: V6, 6: 1}),
    ],
)
def test_socket(query, response, fields):
    assert read_fields(socket_fields(encoding.TCP, query, response)) == fields


def sockaddr(family, host, port):
    middle = b"" if family == socket.AF_INET else bytes(4)
    return struct.pack("=H", family) + struct.pack("!H", port) + middle + host + bytes(4)


@given(PORTS, st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
def test_addresses(port, v4, v6):
    assert packed(sockaddr(socket.AF_INET, v4, port)) == (v4, port)
    mapped = bytes(10) + b"\xff\xff" + v4
    assert packed(sockaddr(socket.AF_INET6, mapped, port)) == (v4, port)
    assert packed((socket.inet_ntop(socket.AF_INET6, mapped), port, 0, 0)) == (v4, port)
    assert packed((socket.inet_ntop(socket.AF_INET, v4), port)) == (v4, port)
    if not v6.startswith(mapped[:12]):
        assert packed(sockaddr(socket.AF_INET6, v6, port)) == (v6, port)
        assert packed((socket.inet_ntop(socket.AF_INET6, v6) + "%eth0", port)) == (v6, port)


@pytest.mark.parametrize("address", [None, b"", b"\1\0/path", "::1", ("", 0), ("name", 53), (1, 2)])
def test_no_address(address):
    assert packed(address) is None


@given(st.integers(0, 9), st.lists(st.binary(max_size=40), max_size=4), st.integers(1, 50))
def test_control_frames_arrive_in_pieces(kind, content_types, size):
    data = control(kind, *content_types) * 2
    reader = ControlReader()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert [it for piece in pieces for it in reader.feed(piece)] == [(kind, content_types)] * 2


@given(st.lists(st.binary(max_size=600), max_size=5))
def test_what_a_collector_sends_raises_nothing_else(pieces):
    reader = ControlReader()
    try:
        for piece in pieces:
            for _ in reader.feed(piece):
                pass
            assert len(reader._buffer) <= LONGEST + 8
    except FrameError:
        pass


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0\1" * 2, "it sent data in place of a control frame"),
        (struct.pack("!II", 0, 513), "it sent a control frame of 513 bytes"),
        (struct.pack("!II", 0, 3), "it sent a control frame of 3 bytes"),
        (struct.pack("!IIII", 0, 8, 1, 1), "a field of its control frame is cut off"),
        (struct.pack("!IIIII", 0, 12, 1, 1, 1), "a field of its control frame is cut off"),
        (
            struct.pack("!IIIII", 0, 12, 1, 2, 0),
            "its control frame has a field of the unknown type 2",
        ),
    ],
)
def test_invalid_control_frames(data, message):
    with pytest.raises(FrameError) as caught:
        list(ControlReader().feed(data))
    assert str(caught.value) == message


def test_the_longest_control_frame_is_read():
    content = CONTENT_TYPE.ljust(LONGEST - 12, b"x")
    assert list(ControlReader().feed(control(1, content))) == [(1, [content])]
