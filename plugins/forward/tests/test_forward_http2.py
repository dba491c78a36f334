"""DNS over HTTPS without a network: the other end of the connection is h2 in this process."""

import base64
import socket
from types import SimpleNamespace
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest

from corepy_forward import metrics
from corepy_forward.doh import HTTPStream
from corepy_forward.targets import Target

QUESTION = b"\1a\0\0\1\0\1"
BODY = b"\1\0\0\1" + bytes(6) + QUESTION
REPLY = b"\0\0\x81\x80\0\1" + bytes(6) + QUESTION
DNS = "application/dns-message"
OPTIONS = {"tls_contexts": {"https": object()}, "max_connect_attempts": 1}


class Transport:
    """What a connection calls of its transport; `protocol` is what ALPN has chosen."""

    def __init__(self, sock, protocol):
        secure = SimpleNamespace(selected_alpn_protocol=lambda: protocol, session=None)
        self._info = {"socket": sock, "ssl_object": secure}
        self.aborted = 0
        self.written = b""

    def get_extra_info(self, name):
        return self._info[name]

    def write(self, data):
        self.written += data

    def abort(self):
        self.aborted += 1


class Server:
    """The other end of a connection; events are in `events`."""

    def __init__(self, stream, transport):
        self._stream, self._transport = stream, transport
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self.http = h2.connection.H2Connection(config)
        self.http.initiate_connection()
        self.events: list[h2.events.Event] = []

    def read(self):
        """Process what the client has written."""
        data, self._transport.written = self._transport.written, b""
        self.events += self.http.receive_data(data)

    def send(self):
        """Let the client process what is to be sent."""
        data = self.http.data_to_send()
        for start in range(0, len(data), 65536):
            receive(self._stream, data[start : start + 65536])

    def answer(self, number, body, status="200", *, is_whole=True, media_type=DNS):
        self.http.send_headers(number, [(":status", status), ("content-type", media_type)])
        left = body
        while left:
            size = min(len(left), self.http.local_flow_control_window(number), 16384)
            assert size
            self.http.send_data(number, left[:size])
            left = left[size:]
            self.send()
            self.read()
        if is_whole:
            self.http.end_stream(number)
        self.send()


def receive(stream, data):
    stream.get_buffer(-1)[: len(data)] = data
    stream.buffer_updated(len(data))


def connect(bench, server_name="dns.example", port=443, *, protocol="h2"):
    """Return the server's end, the connection of the only upstream, and its transport."""
    pool = bench.pool
    upstream = pool._open(Target("192.0.2.1", port, "https", server_name))
    pool.upstreams.append(upstream)
    pool._preferred = [upstream]
    stream = HTTPStream(upstream.streams, 60.0)
    upstream.streams._streams.append(stream)
    upstream.streams._current = stream
    with socket.socket() as sock:
        transport: Any = Transport(sock, protocol)
        exchange = pool.begin(QUESTION, BODY, False)
        stream.connection_made(transport)
    return Server(stream, transport), stream, transport, exchange


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_query_and_its_reply(on_bench, method):
    async def test(bench):
        server, stream, _, exchange = connect(bench)
        server.read()
        headers = next(e for e in server.events if isinstance(e, h2.events.RequestReceived)).headers
        bodies = [e.data for e in server.events if isinstance(e, h2.events.DataReceived)]
        path = "/dns-query"
        wire = b"\0\0" + BODY
        if method == "GET":
            path += "?dns=" + base64.urlsafe_b64encode(wire).rstrip(b"=").decode()
        expected = [
            (":method", method),
            (":scheme", "https"),
            (":authority", "dns.example"),
            (":path", path),
            ("accept", "application/dns-message"),
        ]
        if method == "POST":
            expected += [
                ("content-type", "application/dns-message"),
                ("content-length", str(len(wire))),
            ]
        assert [tuple(header) for header in headers] == expected
        assert bodies == ([wire] if method == "POST" else [])
        (attempt,) = exchange._open
        assert (attempt.link, attempt.ident) == (stream, b"\0\0\0\1")
        bench.loop.now += 0.25
        server.answer(1, REPLY)
        assert exchange.reply.wire == REPLY
        assert (stream.heard, stream.pending, stream._http._exchanges) == (bench.loop.now, {}, {})
        second = bench.ask("b")
        assert second._open[0].ident == b"\0\0\0\3"
        assert stream.last_used == bench.loop.now

    on_bench(test, doh_method=method, **OPTIONS)


@pytest.mark.parametrize(
    ("servername", "name", "port", "authority"),
    [
        ("", "dns.example", 443, "dns.example"),
        ("", "dns.example", 8443, "dns.example:8443"),
        ("", "", 443, "192.0.2.1:443"),
        ("", "", 8443, "192.0.2.1:8443"),
        ("b.example", "", 443, "b.example"),
        ("b.example", "dns.example", 8443, "b.example:8443"),
    ],
)
def test_the_authority(on_bench, servername, name, port, authority):
    async def test(bench):
        _, stream, _, _ = connect(bench, name, port)
        assert stream._form.authority == authority

    on_bench(test, tls_servername=servername, **OPTIONS)


def test_a_server_without_http_2(on_bench):
    async def test(bench):
        _, stream, transport, exchange = connect(bench, protocol="http/1.1")
        assert exchange.reason.endswith(": the server does not speak HTTP/2")
        assert (stream.pending, transport.aborted) == ({}, 1)

    on_bench(test, **OPTIONS)


@pytest.mark.parametrize(
    ("size", "reason"),
    [(65535, ""), (65536, "reply is too large"), (16, "reply to another question")],
)
def test_sizes_of_replies(on_bench, size, reason):
    async def test(bench):
        server, stream, transport, exchange = connect(bench)
        server.read()
        dropped = metrics.DROPPED.labels(bench.pool.upstreams[-1].address, "question")
        before = dropped.value
        server.answer(1, (REPLY + bytes(size))[:size], is_whole=size < 65536)
        server.read()
        resets = [e.error_code for e in server.events if isinstance(e, h2.events.StreamReset)]
        assert exchange.done
        assert exchange.reason.endswith(reason)
        assert (exchange.reply is None) is bool(reason)
        assert resets == ([8] if size > 65535 else [])
        assert dropped.value == before + (size < 65535)
        assert (stream.pending, stream._http._exchanges, transport.aborted) == ({}, {}, 0)

    on_bench(test, **OPTIONS)


@pytest.mark.parametrize(
    ("media_type", "body", "reason"),
    [
        (DNS, b"no", "reply to another question"),
        (DNS.title() + " ; x=y", b"no", "reply to another question"),
        ("text/html", REPLY, ""),
        (
            "text/html; charset=utf-8",
            b"<html>",
            "not a DNS message: content-type 'text/html; charset=utf-8'",
        ),
        ("", b"", "not a DNS message: content-type ''"),
        ("x" * 1000, b"<html>", "not a DNS message: content-type '" + "x" * 80 + "'"),
    ],
    ids=str,
)
def test_a_media_type(on_bench, media_type, body, reason):
    """A captive portal answers with a page of its own."""

    async def test(bench):
        server, _, _, exchange = connect(bench)
        server.read()
        server.answer(1, body, media_type=media_type)
        assert exchange.done
        assert (exchange.reply is None) is bool(reason)
        assert exchange.reason.endswith(reason)

    on_bench(test, **OPTIONS)


@pytest.mark.parametrize("status", ["200", "404", "503"])
def test_a_status(on_bench, status):
    async def test(bench):
        server, stream, _, exchange = connect(bench)
        server.read()
        server.answer(1, REPLY, status)
        assert exchange.done
        assert exchange.reason.endswith("" if status == "200" else f": HTTP status {status}")
        assert (exchange.reply is None) is (status != "200")
        assert (stream.pending, stream._http._exchanges) == ({}, {})

    on_bench(test, **OPTIONS)


def test_a_stream_that_is_reset(on_bench):
    async def test(bench):
        server, stream, transport, exchange = connect(bench)
        server.read()
        server.answer(1, REPLY[:5], is_whole=False)
        assert stream._http._exchanges[1].body == REPLY[:5]
        server.http.reset_stream(1)
        server.send()
        assert exchange.reason.endswith(": stream reset (NO_ERROR)")
        assert (stream.pending, stream._http._exchanges, transport.aborted) == ({}, {}, 0)

    on_bench(test, **OPTIONS)


@pytest.mark.parametrize("end", ["terminated", "nonsense"])
def test_a_connection_that_the_server_ends(on_bench, end):
    """Its queries are sent again over another one, when the transport tells of its end."""

    async def test(bench):
        server, stream, transport, exchange = connect(bench)
        server.read()
        if end == "terminated":  # with an answer to what it has begun
            server.http.close_connection()
            server.send()
        else:
            receive(stream, b"\0\0\4\0\0\0\0\0\0data")  # a DATA frame of no stream
        assert (exchange.done, transport.aborted) == (False, end == "nonsense")
        assert list(stream.pending) == [b"\0\0\0\1"]
        assert stream.is_aged(bench.loop.now) == (end == "terminated")

    on_bench(test, **OPTIONS)


@pytest.mark.parametrize("sign", ["GOAWAY", "REFUSED_STREAM"])
def test_a_query_that_was_not_processed_is_sent_again(on_bench, sign):
    async def test(bench):
        server, stream, _, exchange = connect(bench)
        server.read()
        pool = bench.pool.upstreams[-1].streams
        if sign == "GOAWAY":
            server.http.close_connection(last_stream_id=0)
        else:
            server.http.reset_stream(1, h2.errors.ErrorCodes.REFUSED_STREAM)
        server.send()
        (attempt,) = exchange._open
        assert (exchange.done, attempt.redials) == (False, 1)
        assert (attempt.link is stream) is (sign == "REFUSED_STREAM")
        assert pool.connections == 1 + (sign == "GOAWAY")

    on_bench(test, **OPTIONS)


def test_queries_above_the_limit_of_the_server_wait(on_bench):
    async def test(bench):
        server, stream, _, _ = connect(bench)
        server.http.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        server.send()
        server.read()
        others = [bench.ask(name) for name in "bc"]
        stream.forget(others[0]._open[0])
        server.read()
        asked = [e for e in server.events if isinstance(e, h2.events.RequestReceived)]
        assert [event.stream_id for event in asked] == [1]
        server.answer(1, REPLY)
        server.read()
        asked = [e for e in server.events if isinstance(e, h2.events.RequestReceived)]
        assert [event.stream_id for event in asked] == [1, 5]

    on_bench(test, **OPTIONS)
