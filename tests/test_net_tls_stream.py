"""`TLSStream` between a transport and a protocol that only record, with OpenSSL as the client."""

import asyncio
import ssl
import weakref

import pytest
from aioquic.tls import hkdf_expand_label
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from hypothesis import given
from hypothesis import strategies as st

from corepy.net.tls_stream import LARGEST_HANDSHAKE, TLSStream
from corepy.testing.tls import CERTIFICATE, SERVER_NAME, server_context

SERVER = server_context(["dot"])
CLIENT = ssl.create_default_context(cadata=CERTIFICATE)


class Lower(asyncio.Transport):
    """The transport below."""

    def __init__(self):
        super().__init__({"peername": ("192.0.2.1", 5)})
        self.sent, self.calls = b"", []

    def write(self, data):
        self.sent += data

    def close(self):
        self.calls.append("close")

    def abort(self):
        self.calls.append("abort")

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")

    def set_write_buffer_limits(self, high=None, low=None):
        self.calls.append((high, low))

    def get_write_buffer_size(self):
        return 7

    def is_closing(self):
        return "close" in self.calls or "abort" in self.calls


class Upper(asyncio.Protocol):
    """The protocol above; `keeps` is the answer to the end of the input."""

    keeps = False

    def __init__(self):
        self.received, self.calls = b"", []

    def connection_made(self, transport):
        self.transport = transport
        self.calls.append("made")

    def connection_lost(self, exc):
        self.calls.append("lost")

    def secured(self, tls):
        self.calls.append("secured")

    def data_received(self, data):
        self.received += data

    def eof_received(self):
        self.calls.append("eof")
        return self.keeps

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")


class Pair:
    """A stream, and a client of it."""

    def __init__(self, context=SERVER):
        self.upper, self.lower = Upper(), Lower()
        self.failures: list[tuple[object, Exception]] = []
        self.stream = TLSStream(
            self.upper, context, lambda peer, error: self.failures.append((peer, error))
        )
        self.stream.connection_made(self.lower)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = CLIENT.wrap_bio(self.incoming, self.outgoing, server_hostname=SERVER_NAME)

    def feed(self, data):
        """Deliver bytes as the transport does."""
        if data:
            self.stream.data_received(data)

    def step(self, action):
        """Let the client do something; deliver its bytes, and those of the server."""
        try:
            result = action()
        except ssl.SSLWantReadError:
            result = None
        self.feed(self.outgoing.read())
        self.incoming.write(self.lower.sent)
        self.lower.sent = b""
        return result

    def secure(self):
        """Complete the handshake."""
        for _ in range(2):
            self.step(self.client.do_handshake)
        return self


def key_updates(log, number):
    """Return so many requests for new keys (RFC 8446 section 4.6.3) of the client in a key log."""
    (line,) = [it for it in log.splitlines() if it.startswith("CLIENT_TRAFFIC_SECRET_0")]
    secret, records = bytes.fromhex(line.split()[2]), b""
    for _ in range(number):
        key = hkdf_expand_label(SHA384(), secret, b"key", b"", 32)
        nonce = hkdf_expand_label(SHA384(), secret, b"iv", b"", 12)
        header = b"\x17\3\3\0\x16"
        records += header + AESGCM(key).encrypt(nonce, b"\x18\0\0\1\1\x16", header)
        secret = hkdf_expand_label(SHA384(), secret, b"traffic upd", b"", 48)
    return records


def test_the_protocol_is_connected_before_the_handshake():
    pair = Pair()
    assert pair.upper.calls == ["made"]
    assert pair.upper.transport is pair.stream
    assert pair.secure().upper.calls == ["made", "secured"]
    tls = pair.stream.get_extra_info("ssl_object")
    assert tls.version() == pair.client.version()
    assert pair.stream.get_extra_info("peername") == ("192.0.2.1", 5)
    assert pair.stream.get_extra_info("other", "default") == "default"


@given(st.lists(st.binary(min_size=1, max_size=40_000), max_size=6), st.integers(1, 4000))
def test_data_arrives_in_both_directions(parts, size):
    pair = Pair().secure()
    for part in parts:
        pair.client.write(part)
        pair.stream.write(part)
    wire = pair.outgoing.read()
    for start in range(0, len(wire), size):
        pair.feed(wire[start : start + size])
    assert pair.upper.received == b"".join(parts)
    pair.incoming.write(pair.lower.sent)
    received = b""
    while len(received) < len(pair.upper.received):
        received += pair.client.read(65536)
    assert received == pair.upper.received
    assert not pair.lower.calls


@given(st.binary(min_size=1, max_size=2000), st.booleans())
def test_any_bytes_end_the_connection_or_wait_for_more(data, is_secured):
    pair = Pair()
    if is_secured:
        pair.secure()
    pair.feed(data)
    pair.feed(b"\xff" * 65536)
    pair.feed(data)
    assert pair.lower.calls[0] == ("abort" if is_secured else "close")
    assert pair.stream.is_closing()
    assert not pair.upper.received
    assert len(pair.failures) == (0 if is_secured else 1)


@given(st.integers(0, 2000), st.integers(1, 255))
def test_a_changed_byte_of_the_client_is_noticed(position, change):
    pair = Pair().secure()
    pair.client.write(b"x" * 1000)
    wire = bytearray(pair.outgoing.read())
    wire[position % len(wire)] ^= change
    pair.feed(bytes(wire))
    assert pair.upper.received == b""


@pytest.mark.parametrize("size", [9, 20_000, LARGEST_HANDSHAKE])
def test_a_handshake_has_a_size(size):
    """OpenSSL allocates as much as the first message is said to have."""
    pair = Pair()
    message = b"\x01" + (100_000).to_bytes(3, "big") + bytes(size)
    for start in range(0, len(message), 16_000):
        part = message[start : start + 16_000]
        pair.feed(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part)
    assert pair.stream.is_closing() == (size >= LARGEST_HANDSHAKE)
    assert [str(error) for _, error in pair.failures] == (
        ["the messages are too large"] if size >= LARGEST_HANDSHAKE else []
    )


def test_a_failed_handshake_sends_an_alert():
    pair = Pair()
    pair.feed(b"GET / HTTP/1.0\r\n\r\n")
    ((peer, error),) = pair.failures
    assert peer == ("192.0.2.1", 5)
    assert error.reason == "HTTP_REQUEST"
    assert pair.lower.calls == ["close"]
    pair.stream.close()
    pair.stream.write(b"late")
    assert pair.lower.calls == ["close"]


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("end", ["alert", "tcp"])
def test_the_end_of_the_input_is_passed_on(keeps, end):
    pair = Pair().secure()
    pair.upper.keeps = keeps
    if end == "alert":
        pair.step(pair.client.unwrap)
        assert pair.lower.calls == ([] if keeps else ["close"])
    else:
        assert pair.stream.eof_received() is keeps
    assert pair.upper.calls[-1] == "eof"
    if keeps:
        pair.stream.write(b"reply")
        pair.incoming.write(pair.lower.sent)
        assert pair.client.read(100) == b"reply"


def test_data_after_the_end_of_the_input_are_dropped():
    """A client could fill the memory with them while a query of its waits for a reply."""
    pair = Pair().secure()
    pair.upper.keeps = True
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.feed(pair.outgoing.read())
    for _ in range(3):
        pair.feed(b"\x17\3\3\0\x10" + bytes(16))
    assert pair.stream._incoming.pending == 0
    assert pair.upper.calls == ["made", "secured", "eof"]
    assert not pair.lower.calls


def test_the_end_of_the_input_before_the_handshake_closes():
    pair = Pair()
    assert pair.stream.eof_received() is False
    assert pair.upper.calls == ["made"]


def test_close_sends_an_alert_after_the_data():
    pair = Pair().secure()
    pair.stream.write(b"last")
    pair.stream.close()
    pair.stream.close()
    pair.stream.write(b"late")
    pair.stream.write(b"")
    assert pair.lower.calls == ["close"]
    pair.incoming.write(pair.lower.sent)
    assert pair.client.read(100) == b"last"
    assert pair.client.read(100) == b""  # the alert


def test_abort_sends_nothing():
    pair = Pair().secure()
    pair.stream.abort()
    assert pair.lower.calls == ["abort"]
    assert pair.lower.sent == b""
    pair.stream.connection_lost(None)
    assert pair.upper.calls[-1] == "lost"


def test_data_in_the_same_packets_as_the_last_message_of_the_handshake_arrives():
    pair = Pair()
    pair.step(pair.client.do_handshake)
    pair.client.do_handshake()
    pair.client.write(b"early")
    pair.feed(pair.outgoing.read())
    assert pair.upper.received == b"early"


def test_a_protocol_that_closes_gets_no_more_data():
    pair = Pair().secure()
    received = []

    def close(data):
        received.append(data)
        pair.stream.close()

    pair.upper.data_received = close
    for part in (b"one", b"two"):
        pair.client.write(part)
        pair.feed(pair.outgoing.read())
    assert received == [b"one"]
    assert pair.lower.calls == ["close"]


def test_the_memory_of_a_connection_is_freed_at_its_end():
    """Although the stream and the protocol still refer to each other."""
    pair = Pair().secure()
    tls = weakref.ref(pair.stream.get_extra_info("ssl_object"))
    pair.stream.connection_lost(None)
    assert tls() is None
    pair.stream.write(b"late")
    pair.stream.close()
    pair.feed(b"late")
    assert pair.lower.calls == []


def test_a_client_that_asks_for_keys_only_is_answered(tmp_path, monkeypatch):
    """Otherwise the answers would fill the memory; the transport below limits what is not sent."""
    log = tmp_path / "keys"
    monkeypatch.setattr(CLIENT, "keylog_filename", str(log))
    pair = Pair().secure()
    updates = key_updates(log.read_text(), 400)
    for start in range(0, len(updates), 540):
        pair.feed(updates[start : start + 540])
    assert len(pair.lower.sent) > 8000
    assert not pair.lower.calls
    pair.stream.write(b"reply")
    pair.incoming.write(pair.lower.sent)
    assert pair.client.read(100) == b"reply"


def test_many_requests_for_keys_end_the_connection(tmp_path, monkeypatch):
    """OpenSSL takes 20 us for each, so 64 KiB of them would take the time of other clients."""
    log = tmp_path / "keys"
    monkeypatch.setattr(CLIENT, "keylog_filename", str(log))
    pair = Pair().secure()
    pair.feed(key_updates(log.read_text(), 200))
    assert pair.lower.calls == ["abort"]
    assert pair.stream._incoming.pending == 0
    assert 0 < pair.stream._outgoing.pending < 200 * 27  # it got only a part of them


def test_the_data_of_a_long_read_are_passed_on_together_and_before_the_end():
    pair = Pair().secure()
    received = []
    pair.upper.data_received = lambda data: received.append((data, list(pair.upper.calls)))
    content = bytes(range(256)) * 200
    for start in range(0, len(content), 700):
        pair.client.write(content[start : start + 700])
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.feed(pair.outgoing.read())
    assert received == [(content, ["made", "secured"])]
    assert pair.upper.calls == ["made", "secured", "eof"]


def test_flow_control_is_passed_on():
    pair = Pair().secure()
    pair.stream.pause_reading()
    pair.stream.resume_reading()
    pair.stream.set_write_buffer_limits(3, 2)
    assert pair.lower.calls == ["pause", "resume", (3, 2)]
    assert pair.stream.get_write_buffer_size() == 7
    pair.stream.pause_writing()
    pair.stream.resume_writing()
    assert pair.upper.calls[-2:] == ["pause", "resume"]
    pair.stream.close()
    pair.stream.pause_reading()
    pair.stream.resume_reading()
    assert pair.lower.calls[3:] == ["close"]
