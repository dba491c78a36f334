"""DNS over HTTPS with HTTP/2: queries, the limits of a client, and its mistakes (RFC 9113).

The mistakes are those that h2spec tests. The server has no certificate, so that a connection is
cheap; `tests/test_https_peers.py` has other clients, over TLS.
"""

import base64
import itertools
import socket
import time

import dnslib
import pytest
from hpack import HeaderTuple, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.server.listen.http import credit, h2_state, http_connection, streams
from corepy.server.listen.http.https import RESPONSES
from corepy.testing import helper_module, query, serve, with_handlers
from corepy.testing.command import wait_until

h2 = helper_module(__file__, "http2_client")
gated_handler = helper_module(__file__, "gated_handler")
frame = h2.frame
ORIGIN = "dns.example"


class Server:
    """A server with one address for HTTP/2, and its handler."""

    def __init__(self, server, handlers):
        self.server, self._handlers = server, handlers
        self.address = server.address

    @property
    def told(self):
        return self._handlers[-1]

    @property
    def listener(self):
        (endpoint,) = self.server.server.endpoints.values()
        return endpoint.listeners[0]

    def connect(self):
        return h2.connected(self.address, settings={})

    def release(self):
        self.server.call(self.told.gate.set)

    def connection(self):
        """The only connection that is open, None before it is accepted."""
        return self.server.call(lambda: next(iter(self.listener.connections), None))

    def session(self):
        """The session of the only connection."""
        wait_until(lambda: getattr(self.connection(), "_session", None) is not None)
        return self.connection()._session

    def is_idle(self):
        return self.server.call(lambda: not self.listener.connections)

    def count(self, status):
        return RESPONSES.labels(self.listener.label, str(status)).value


TEXT = """https://.:0 {
    bind 127.0.0.1
    https {
        plaintext
    }
    cache
    told
}
"""


@pytest.fixture(scope="module")
def running():
    handlers = []

    def make():
        handlers.append(gated_handler.Told(*(f"A 192.0.2.{number}" for number in range(40))))
        return handlers[-1]

    plugins = with_handlers(told=make)
    with serve(TEXT, plugins=plugins, order="told after cache") as server:
        yield Server(server, handlers)


@pytest.fixture
def server(running):
    yield running
    wait_until(running.is_idle)
    running.server.call(running.told.gate.clear)


@pytest.fixture
def client(server):
    with server.connect() as client:
        yield client


def question(name="www.example.org.", **more):
    return query(name, id=0, **more)


_numbers = itertools.count()


def busy():
    """A query that has to wait, and is in no cache."""
    return question(f"busy{next(_numbers)}.example.org.")


def get(message):
    text = base64.urlsafe_b64encode(message).decode().rstrip("=")
    return {":method": "GET", ":path": f"/dns-query?dns={text}"}


def address_in(content):
    return str(dnslib.DNSRecord.parse(content).rr[0].rdata)


def test_queries_that_repeat_have_the_same_responses(server, client):
    message, before = question(), server.count(200)
    client.ask(message)  # with the flag AA, which a reply from *cache* does not have
    first = client.ask(message)
    assert first[0] == 200
    assert address_in(first[2]) == "192.0.2.1"
    assert first[1]["content-type"] == "application/dns-message"
    assert first[1]["cache-control"] == "max-age=60"
    assert first[1]["content-length"] == str(len(first[2]))
    lane = server.connection()._session.lane
    for _ in range(4):
        status, fields, content = client.ask(message)
        assert (status, content) == (200, first[2])
        assert {**fields, "date": ""} == {**first[1], "date": ""}
    assert lane._known
    assert server.count(200) == before + 6
    (entry,) = [it for it in server.listener.pipeline.packets.entries.values() if it.hits]
    assert entry.shaped


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_known_header_block_means_what_it_meant(server, client, method):
    """Until the compression table changes: the same bytes are then another request."""
    messages = [question(f"{name}.example.org.") for name in ("one", "two", "six")]
    name = ":path" if method == "GET" else "x-number"
    for turn in range(3):
        for index, message in enumerate(messages):
            special = get(message) if method == "GET" else {}
            fields = client.head(**{**special, "x-turn": str(turn)})
            fields = [
                NeverIndexedHeaderTuple(*it) if it[0] == name else HeaderTuple(*it) for it in fields
            ]
            for ident in (0, index + 1):
                body = ident.to_bytes(2, "big") + message[2:] if method == "POST" else b""
                status, _, content = client.ask(body, fields)
                reply = dnslib.DNSRecord.parse(content)
                assert (status, reply.q.qname) == (200, dnslib.DNSRecord.parse(message).q.qname)
                assert reply.header.id == (ident if method == "POST" else 0)


def test_a_request_that_arrives_in_pieces_is_answered(server, client):
    for _ in range(3):
        frames, stream = client.request(question())
        for at in range(len(frames)):
            client.send(frames[at : at + 1])
        assert client.response(stream)[0] == 200


def test_many_requests_at_once_are_answered(server, client):
    """More than one turn of the event loop processes, in any order."""
    for _ in range(2):
        asked = [client.request(question(f"h{number}.example.org.")) for number in range(200)]
        client.send(*[frames for frames, _ in asked])
        left = {stream for _, stream in asked}
        for kind, flags, stream, _ in client.frames():
            if kind == h2.DATA and flags & h2.END_STREAM:
                left.remove(stream)
            if not left:
                break


def test_a_query_with_padding_gets_a_padded_reply(client):
    message = question(edns=1232)
    padded = message[:-2] + b"\0\x08\0\x0c\0\x04" + bytes(4)
    for _ in range(3):
        assert len(client.ask(padded)[2]) == 468


@pytest.mark.parametrize(
    ("fields", "message", "status"),
    [
        ({":path": "/"}, b"", 404),
        ({":path": "/other"}, question(), 404),
        ({":method": "OPTIONS"}, b"", 400),
        ({":method": "PUT"}, question(), 400),
        ({":method": "GET"}, b"", 400),
        ({}, b"", 400),
        ({}, b"no query", 400),
        ({}, bytes(2) + b"\x28" + question()[3:], 400),
        ({}, question("drop.example.org."), 500),
    ],
)
def test_requests_without_a_reply(server, client, fields, message, status):
    before = server.count(status)
    for turn in range(2):
        assert client.ask(message, client.head(**fields))[0] == status
        assert server.count(status) == before + turn + 1
    assert client.ask(question())[0] == 200


def test_the_response_to_head_has_no_content(client):
    status, fields, content = client.ask(b"", client.head(**{":method": "HEAD"}))
    assert (status, content) == (400, b"")
    assert fields["content-length"] == "16"


def test_a_content_that_is_too_large_is_refused_before_its_end(client):
    block = client.encoder.encode(client.head())
    client.send(frame(h2.HEADERS, h2.END_HEADERS, 1, block))
    for _ in range(4):
        client.send(frame(h2.DATA, 0, 1, bytes(16384)))
    client.send(frame(h2.DATA, 0, 1, b"a"))
    assert client.response(1)[0] == 400
    assert client.until(h2.RST_STREAM) == bytes(4)
    client.next = 3
    assert client.ask(question())[0] == 200


def test_a_transfer_is_refused(client):
    status, _, content = client.ask(question(qtype="AXFR"))
    assert status == 200
    assert dnslib.DNSRecord.parse(content).header.rcode in (dnslib.RCODE.REFUSED, 0)


# The limits of flow control.


def test_a_response_waits_for_the_window_of_its_stream(client):
    client.send(frame(h2.SETTINGS, 0, 0, b"\0\4" + (10).to_bytes(4, "big")))
    for _ in range(3):  # not from the packet cache either
        frames, stream = client.request(question())
        client.send(frames)
        first = client.until(h2.DATA)
        assert len(first) == 10
        client.send(h2.window_update(stream, 1000))
        content = first + client.response_data(stream)
        assert address_in(content) == "192.0.2.1"


def test_a_response_waits_for_the_window_of_the_connection(server, client):
    total = 0
    message = question("large.example.org.")
    asked = [client.request(message) for _ in range(100)]  # of 674 bytes each
    client.send(*[frames for frames, _ in asked])
    ended = 0
    for kind, flags, _, payload in client.frames():
        total += len(payload) if kind == h2.DATA else 0
        ended += kind == h2.DATA and flags & h2.END_STREAM
        if total == 65535:
            break
    assert ended < 100
    client.send(h2.window_update(0, 2**20))
    for kind, flags, _, _ in client.frames():
        ended += kind == h2.DATA and flags & h2.END_STREAM
        if ended == 100:
            break


def test_a_client_that_accepts_nothing_cannot_make_the_server_keep_responses(
    server, client, monkeypatch
):
    monkeypatch.setattr(streams, "MAX_HELD", 1000)
    requests = [client.request(question("large.example.org."))[0] for _ in range(10)]
    client.send(frame(h2.SETTINGS, 0, 0, b"\0\4" + bytes(4)), *requests)
    assert client.error() == h2.CALM


def test_incomplete_requests_are_limited(server, client, monkeypatch):
    monkeypatch.setattr(streams, "MAX_HELD", 1000)
    block = client.encoder.encode(client.head())
    client.send(frame(h2.HEADERS, h2.END_HEADERS, 1, block))
    client.send(frame(h2.DATA, 0, 1, bytes(600)))
    block = client.encoder.encode(client.head())
    client.send(frame(h2.HEADERS, h2.END_HEADERS, 3, block))
    client.send(frame(h2.DATA, 0, 3, bytes(600)))
    assert client.response(3)[:2] == ("reset", h2.CALM)
    client.send(frame(h2.DATA, h2.END_STREAM, 1, b""))
    assert client.response(1)[0] == 400


def test_a_request_that_is_refused_at_its_end_is_not_kept(client, monkeypatch):
    """Its content would count as that of an incomplete request until the connection ends."""
    monkeypatch.setattr(streams, "MAX_HELD", 1000)
    content = bytes(600)
    for _ in range(2):
        assert client.ask(content, client.head(**{":path": "/other"}))[0] == 404
    assert client.ask(question())[0] == 200


def test_the_window_of_a_busy_client_is_restored(client):
    """It would be used up after 1,600 queries."""
    message = question() + bytes(1000)
    for _ in range(100):
        assert client.ask(message)[0] == 200


# Time limits, with a clock that the test moves.


def expire(server, seconds=100.0):
    def later():
        connection = next(iter(server.listener.connections))
        connection._session.expire(time.monotonic() + seconds)
        connection._flush()

    server.server.call(later)


def streams_of(server):
    return server.server.call(
        lambda: sum(
            len(it._session._streams.open) for it in server.listener.connections if it._session
        )
    )


def test_a_slow_request_is_reset(server, client):
    block = client.encoder.encode(client.head())
    client.send(frame(h2.HEADERS, h2.END_HEADERS, 1, block))
    wait_until(lambda: streams_of(server) == 1)
    expire(server, 1.0)
    assert streams_of(server) == 1
    expire(server)
    assert client.response(1)[:2] == ("reset", h2.CANCEL)
    client.next = 3
    assert client.ask(question())[0] == 200


def test_a_query_that_waits_is_not_slow(server, client):
    frames, stream = client.request(busy())
    client.send(frames)
    wait_until(lambda: server.told.waiting == 1)
    expire(server)
    server.release()
    assert client.response(stream)[0] == 200


def test_a_response_that_is_not_accepted_is_reset(server, client):
    client.send(frame(h2.SETTINGS, 0, 0, b"\0\4" + bytes(4)))
    frames, stream = client.request(question())
    client.send(frames)
    client.until(h2.HEADERS)
    expire(server)
    assert client.response(stream)[:2] == ("reset", h2.CANCEL)


def test_a_frame_that_does_not_arrive_ends_the_connection(server, client):
    client.send(frame(h2.PING, 0, 0, bytes(8))[:12])
    wait_until(lambda: server.session()._buffer != b"")
    expire(server)
    assert client.error() == h2.CALM


@pytest.mark.parametrize("asked", [False, True], ids=["silent", "idle"])
def test_a_connection_without_requests_is_closed(server, client, asked):
    if asked:
        assert client.ask(question())[0] == 200
    client.send(frame(h2.PING, 0, 0, bytes(8)))  # PING is not a request
    client.until(h2.PING)

    def long_after():
        connection = next(iter(server.listener.connections))
        connection.last_activity -= 100
        connection._check_time()

    server.server.call(long_after)
    assert client.error() == h2.NO_ERROR


# Floods.


def reset_request(client, _):
    frames, stream = client.request(busy())
    return frames + h2.reset(stream)


FLOODS = {
    "ping": lambda client, _: frame(h2.PING, 0, 0, bytes(8)),
    "settings": lambda client, _: frame(h2.SETTINGS, 0, 0, b"\0\4\0\0\xff\xff"),
    "rapid reset": reset_request,
    "reset": lambda client, _: h2.reset(1),
    "priority": lambda client, number: frame(h2.PRIORITY, 0, 5, bytes(4) + b"\1"),
    "window update": lambda client, _: h2.window_update(0, 1),
    "empty data": lambda client, _: frame(h2.DATA, 0, 1),
    "unknown": lambda client, _: frame(77, 0, 0, b""),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_its_connection(server, client, flood, monkeypatch):
    monkeypatch.setattr(credit, "PER_SECOND", 0.0)  # however slow the test is
    client.send(frame(h2.HEADERS, h2.END_HEADERS, 1, client.encoder.encode(client.head())))
    client.next = 3
    try:
        for number in range(credit.MOST + 1):
            client.send(FLOODS[flood](client, number))
    except ConnectionError:
        pass
    assert client.error() in (h2.CALM, None)
    wait_until(server.is_idle)
    wait_until(lambda: server.told.waiting == 0)
    with server.connect() as other:
        assert other.ask(question())[0] == 200


def test_requests_pay_for_the_frames_between_them(server, client, monkeypatch):
    monkeypatch.setattr(credit, "PER_SECOND", 0.0)
    for _ in range(300):
        frames, stream = client.request(question())
        client.send(frames, *[h2.window_update(0, 1)] * 3, frame(h2.PING, 0, 0, bytes(8)))
        assert client.response(stream)[0] == 200


def test_credit_grows_with_time():
    account = credit.Credit(1.0)
    assert all(account.spend(1.0) for _ in range(credit.MOST))
    assert not account.spend(1.05)
    assert account.spend(1000.0)


def test_too_many_pending_queries_stop_the_reading(server, client, monkeypatch):
    """A chain that does not end at once is not asked for more."""
    monkeypatch.setattr(http_connection, "MAX_PENDING", 3)
    client.send(*[client.request(busy())[0] for _ in range(6)])
    wait_until(lambda: server.told.waiting == 3)
    assert server.connection()._paused
    server.release()
    left = 6
    for kind, flags, _, _ in client.frames():
        left -= kind == h2.DATA and flags & h2.END_STREAM
        if not left:
            break


def test_the_reading_continues_when_the_queries_of_resets_have_ended(server, client, monkeypatch):
    monkeypatch.setattr(http_connection, "MAX_PENDING", 3)
    resets = [reset_request(client, number) for number in range(6)]
    frames, stream = client.request(question())
    client.send(*resets, frames)
    assert client.response(stream)[0] == 200


def test_a_header_block_without_end_is_not_kept(client):
    client.send(frame(h2.HEADERS, 0, 1, b"\x82"))
    for _ in range(3):
        client.send(frame(h2.CONTINUATION, 0, 1, bytes(16000)))
    assert client.error() == h2.CALM


def test_a_bomb_of_header_fields_is_refused(client):
    """A field of 3,000 bytes that a small block repeats."""
    fields = [*client.head(), ("a", "b" * 3000)]
    block = client.encoder.encode(fields, huffman=False)
    client.send(frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, block))
    repeated = client.encoder.encode([*client.head(), *[("a", "b" * 3000)] * 100])
    assert len(repeated) < 400
    client.send(frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 3, repeated))
    assert client.error() == h2.CALM


def test_a_frame_that_is_announced_as_too_large_is_not_awaited(client):
    client.send(b"\xff\xff\xff" + frame(h2.DATA, 0, 1)[3:])
    assert client.error() == h2.FRAME_SIZE_ERROR


# The mistakes of h2spec.

PSEUDO = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", ORIGIN),
    (":path", "/dns-query"),
]


def heads(*fields):
    return lambda client: client.request(question(), fields)[0]


def bytes_of(*frames):
    return lambda client: b"".join(frames)


def after_request(*frames):
    """Frames for stream 1, which is closed."""

    def make(client):
        client.ask(question())
        return b"".join(frames)

    return make


def block_frame(flags, stream, payload=None):
    def make(client):
        return frame(h2.HEADERS, flags, stream, payload or client.encoder.encode(client.head()))

    return make


WHOLE = h2.END_HEADERS | h2.END_STREAM
MISTAKES = {
    "preface": (lambda client: b"", None),
    "data on an idle stream": (bytes_of(frame(h2.DATA, 0, 1, b"a")), h2.PROTOCOL_ERROR),
    "reset of an idle stream": (bytes_of(h2.reset(1)), h2.PROTOCOL_ERROR),
    "window of an idle stream": (bytes_of(h2.window_update(1, 1)), h2.PROTOCOL_ERROR),
    "continuation alone": (bytes_of(frame(h2.CONTINUATION, 4, 1, b"\x82")), h2.PROTOCOL_ERROR),
    "headers on stream 0": (block_frame(WHOLE, 0), h2.PROTOCOL_ERROR),
    "even stream": (block_frame(WHOLE, 2), h2.PROTOCOL_ERROR),
    "block that cannot be decoded": (block_frame(WHOLE, 1, b"\xff\xff\xff"), None),
    "priority in the block": (
        lambda client: frame(h2.HEADERS, 0, 1, b"\x82") + frame(h2.PRIORITY, 0, 1, bytes(5)),
        h2.PROTOCOL_ERROR,
    ),
    "ping on a stream": (bytes_of(frame(h2.PING, 0, 1, bytes(8))), h2.PROTOCOL_ERROR),
    "short ping": (bytes_of(frame(h2.PING, 0, 0, bytes(6))), h2.FRAME_SIZE_ERROR),
    "settings on a stream": (bytes_of(frame(h2.SETTINGS, 0, 1)), h2.PROTOCOL_ERROR),
    "settings of 5 bytes": (bytes_of(frame(h2.SETTINGS, 0, 0, bytes(5))), h2.FRAME_SIZE_ERROR),
    "push enabled with 2": (
        bytes_of(frame(h2.SETTINGS, 0, 0, b"\0\2\0\0\0\2")),
        h2.PROTOCOL_ERROR,
    ),
    "window of 2**31": (
        bytes_of(frame(h2.SETTINGS, 0, 0, b"\0\4\x80\0\0\0")),
        h2.FLOW_CONTROL_ERROR,
    ),
    "frame size of 1": (bytes_of(frame(h2.SETTINGS, 0, 0, b"\0\5\0\0\0\1")), h2.PROTOCOL_ERROR),
    "window update of 0": (bytes_of(h2.window_update(0, 0)), h2.PROTOCOL_ERROR),
    "window beyond 2**31": (
        bytes_of(h2.window_update(0, 2**31 - 1)),
        h2.FLOW_CONTROL_ERROR,
    ),
    "push promise": (bytes_of(frame(h2.PUSH, 4, 1, bytes(4))), h2.PROTOCOL_ERROR),
    "headers on a closed stream": (
        lambda client: client.ask(question()) and block_frame(WHOLE, 1)(client),
        None,
    ),
    "lower stream": (
        lambda client: block_frame(WHOLE, 7)(client) + block_frame(WHOLE, 5)(client),
        None,
    ),
    "padding longer than the frame": (
        bytes_of(frame(h2.HEADERS, WHOLE | h2.PADDED, 1, b"\x10\x82")),
        h2.PROTOCOL_ERROR,
    ),
    "capital letters": (heads(*PSEUDO, ("X-A", "b")), h2.PROTOCOL_ERROR),
    "unknown pseudo field": (heads(*PSEUDO, (":a", "b")), h2.PROTOCOL_ERROR),
    "response field": (heads(*PSEUDO, (":status", "200")), h2.PROTOCOL_ERROR),
    "pseudo field last": (heads(*PSEUDO[:3], ("a", "b"), PSEUDO[3]), h2.PROTOCOL_ERROR),
    "no method": (heads(*PSEUDO[1:]), h2.PROTOCOL_ERROR),
    "two paths": (heads(*PSEUDO, (":path", "/dns-query")), h2.PROTOCOL_ERROR),
    "connection field": (heads(*PSEUDO, ("connection", "close")), h2.PROTOCOL_ERROR),
    "te": (heads(*PSEUDO, ("te", "gzip")), h2.PROTOCOL_ERROR),
    "length that is wrong": (heads(*PSEUDO, ("content-length", "1")), h2.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_the_connection(server, mistake):
    make, error = MISTAKES[mistake]
    with server.connect() as client:
        client.send(make(client) or b"not HTTP/2 at all, though the preface said so")
        found = client.error()
        assert found == error if error is not None else found != h2.NO_ERROR


def test_another_preface_is_not_http2(server):
    with socket.create_connection(server.address, 30) as sock:
        sock.sendall(h2.PREFACE[:20] + b"XX\r\n" + bytes(40))
        sock.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: sock.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 4")


def test_a_known_block_inside_another_block_is_a_mistake(client):
    for _ in range(3):
        assert client.ask(question())[0] == 200
    frames, _ = client.request(question())
    client.send(frame(h2.HEADERS, 0, client.next, b"\x82"), frames)
    assert client.error() == h2.PROTOCOL_ERROR


FRAMES = st.tuples(
    st.integers(0, 10), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(FRAMES, max_size=8), st.booleans())
def test_any_frames_are_survived(running, frames, is_warm):
    with running.connect() as client:
        for _ in range(3 if is_warm else 0):
            assert client.ask(question())[0] == 200
        try:
            client.send(*[frame(*it) for it in frames])
            client.sock.shutdown(socket.SHUT_WR)
            client.error()
        except OSError:
            pass
    with running.connect() as other:
        assert other.ask(question())[0] == 200


def test_the_memory_of_closed_streams_is_bounded(server, monkeypatch):
    assert h2_state._Connection.MAX_CLOSED_STREAMS == 1000
    monkeypatch.setattr(h2_state._Connection, "MAX_CLOSED_STREAMS", 20)
    with server.connect() as client:
        for _ in range(40):
            assert client.ask(b"", client.head(**{":path": "/other"}))[0] == 404
        assert len(server.session()._h2._closed_streams) == 20


# What follows a stream that is closed.


@pytest.mark.parametrize(
    "late",
    [h2.reset(1), h2.window_update(1, 5), frame(h2.PRIORITY, 0, 1, bytes(4) + b"\1")],
    ids=["reset", "window update", "priority"],
)
def test_frames_for_closed_streams_are_ignored(server, client, late):
    for _ in range(3):
        assert client.ask(question())[0] == 200  # the last one past h2
    client.send(late, late.replace(b"\0\0\0\1", b"\0\0\0\5"))
    assert client.ask(question())[0] == 200


def test_a_reset_cancels_the_query(server, client):
    frames, stream = client.request(busy())
    client.send(frames)
    wait_until(lambda: server.told.waiting == 1)
    client.send(h2.reset(stream))
    wait_until(lambda: server.told.waiting == 0)
    assert client.ask(question())[0] == 200


def test_a_closed_connection_cancels_its_queries(server):
    with server.connect() as client:
        client.send(client.request(busy())[0])
        wait_until(lambda: server.told.waiting == 1)
    wait_until(lambda: server.told.waiting == 0)


def test_a_client_may_end_its_half_of_the_connection(server, client):
    """An incomplete request does not keep the connection open."""
    frames, stream = client.request(busy())
    block = client.encoder.encode(client.head())
    client.send(frames, frame(h2.HEADERS, h2.END_HEADERS, 3, block), b"\0\0")
    wait_until(lambda: server.told.waiting == 1)
    client.sock.shutdown(socket.SHUT_WR)
    wait_until(lambda: not server.session()._buffer)
    server.release()
    assert client.response(stream)[0] == 200
    assert client.error() == h2.NO_ERROR


def test_a_client_that_says_goodbye_gets_its_answers(server, client):
    frames, stream = client.request(busy())
    client.send(frames, frame(h2.GOAWAY, 0, 0, bytes(8)))
    wait_until(lambda: server.told.waiting == 1)
    server.release()
    assert client.response(stream)[0] == 200
    assert client.error() == h2.NO_ERROR


def test_streams_beyond_the_limit_are_refused(server, client):
    session = server.session()
    server.server.call(lambda: setattr(session._streams, "most", 1))
    client.send(client.request(busy())[0])
    wait_until(lambda: server.told.waiting == 1)
    frames, stream = client.request(question())
    client.send(frames)
    assert client.response(stream)[:2] == ("reset", h2.REFUSED_STREAM)
    server.release()
    assert client.response(1)[0] == 200
