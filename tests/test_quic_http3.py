"""DNS over HTTP/3: requests as over HTTPS, the limits of a header, and the end of a connection."""

from base64 import urlsafe_b64encode

import pytest
from aioquic.h3.connection import ErrorCode, FrameType, H3Connection, Setting, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived

from corepy.net.quic.http3 import MAX_HEADER
from corepy.testing.command import wait_until
from corepy.testing.helper_module import helper_module
from corepy.testing.quic_peer import QUICPeer

servers = helper_module(__file__, "quic_servers")
BIG, ask, rcode, running = servers.BIG, servers.ask, servers.rcode, servers.running
MEDIA = (b"content-type", b"application/dns-message")


class Connection(H3Connection):
    """Notes the frames of the server's control stream."""

    def _init_connection(self):
        self.control: list[int] = []
        super()._init_connection()

    def _check_control_frame_type(self, frame_type):
        self.control.append(frame_type)
        super()._check_control_frame_type(frame_type)


class H3Peer:
    """An HTTP/3 client."""

    def __init__(self, server, **options):
        self.peer = QUICPeer(server.address, server.files.authority, "h3", **options)
        self.h3 = Connection(self.peer.quic)
        self.status, self.headers, self.content, self.ended = {}, {}, {}, set()
        self._seen = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.peer.__exit__()

    def begin(self, method=b"GET", path=b"/dns-query", extra=(), content=None, end=True):
        stream = self.peer.quic.get_next_available_stream_id()
        pseudo = [(b":method", method), (b":scheme", b"https"), (b":authority", b"dns.example")]
        headers = [*pseudo, (b":path", path), *extra]
        self.h3.send_headers(stream, headers, end_stream=content is None and end)
        if content is not None:
            self.h3.send_data(stream, content, end_stream=end)
        return stream

    def take(self):
        for event in self.peer.events[self._seen :]:
            for it in self.h3.handle_event(event):
                if isinstance(it, HeadersReceived):
                    self.headers[it.stream_id] = dict(it.headers)
                    self.status[it.stream_id] = int(dict(it.headers)[b":status"])
                elif isinstance(it, DataReceived):
                    self.content[it.stream_id] = self.content.get(it.stream_id, b"") + it.data
                if it.stream_ended:
                    self.ended.add(it.stream_id)
        self._seen = len(self.peer.events)

    def until(self, is_done):
        self.peer.until(lambda: (self.take(), is_done())[1])

    def response(self, stream):
        self.until(lambda: stream in self.ended)
        return self.status[stream], self.content.get(stream, b"")

    def get(self, wire, **options):
        text = urlsafe_b64encode(wire).rstrip(b"=")
        return self.response(self.begin(path=b"/dns-query?dns=" + text, **options))

    def post(self, wire):
        return self.response(self.begin(b"POST", extra=[MEDIA], content=wire))


@pytest.fixture(scope="module")
def doh(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doh")
    with running(folder, "cache", servers.PATIENT, scheme="https3") as server:
        yield server


@pytest.fixture
def client(doh):
    with H3Peer(doh) as connection:
        yield connection


@pytest.mark.parametrize("kind", ["plain", "big"])
def test_get_and_post(client, kind):
    for status, reply in (client.get(ask(kind)), client.post(ask(kind))):
        assert status == 200
        assert rcode(reply) == 0
        assert (len(reply) > BIG) == (kind == "big")


def test_the_fields_of_a_response(client):
    status, reply = client.post(ask("fields"))
    assert status == 200
    found = next(iter(client.headers.values()))
    assert found[b"content-type"] == b"application/dns-message"
    assert found[b"content-length"] == str(len(reply)).encode()
    assert found[b"cache-control"] == b"max-age=60"
    assert b"date" in found


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"path": b"/"}, 404),
        ({"path": b"/dns-query"}, 400),
        ({"path": b"/dns-query?dns=!"}, 400),
        ({"method": b"PUT"}, 400),
        ({"method": b"CONNECT", "path": b"/"}, 404),
        ({"method": b"POST", "content": b""}, 400),
        ({"method": b"POST", "content": bytes(11)}, 400),
        ({"method": b"POST", "content": bytes(65_537)}, 400),
        ({"extra": [(b"x", b"y" * (MAX_HEADER - 200))]}, 431),
    ],
)
def test_requests_without_a_query(client, request_, status):
    assert client.response(client.begin(**request_))[0] == status
    assert client.get(ask("after"))[0] == 200


def test_a_refused_request_may_go_on(client):
    """Until the client notices."""
    other = client.begin(b"POST", b"/none", content=bytes(100), end=False)
    client.peer.send()
    for end in (False, True):
        client.h3.send_data(other, bytes(100), end_stream=end)
        client.peer.send()
    assert client.response(other)[0] == 404
    assert client.get(ask("after"))[0] == 200


def test_a_request_with_trailers(client):
    stream = client.begin(b"POST", extra=[MEDIA], content=ask("trailers"), end=False)
    client.h3.send_headers(stream, [(b"checksum", b"1")], end_stream=True)
    assert client.response(stream)[0] == 200


def test_a_dropped_query_is_an_error(client):
    assert client.get(ask("drop"))[0] == 500


def test_a_zone_transfer_is_refused(client):
    status, reply = client.post(ask("series"))
    assert (status, rcode(reply)) == (200, 5)


def test_the_identity_of_a_query_has_its_request(client, doh):
    client.get(ask("identity"), extra=[(b"user-agent", b"test")])
    identity = doh.answerer.identities[-1]
    assert identity.tls.protocol == "h3"
    assert identity.http.method == "GET"
    assert identity.http.path == "/dns-query"
    assert ("user-agent", "test") in identity.http.headers


@pytest.mark.parametrize("how", ["reset", "stop"])
def test_a_client_cancels_a_request(client, doh, how):
    while doh.answerer.asked.acquire(blocking=False):
        pass
    stream = client.begin(b"POST", extra=[MEDIA], content=ask("wait"), end=how == "stop")
    client.peer.send()
    if how == "stop":
        client.until(lambda: doh.answerer.asked.acquire(blocking=False))
        client.peer.quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
    else:
        client.peer.quic.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
    client.until(lambda: stream in client.peer.errors)
    wait_until(lambda: not doh.call(doh.listener.waiting))
    assert client.get(ask("after"))[0] == 200
    (connection,) = doh.call(lambda: list(doh.listener.connections))[-1:]
    assert not connection.partial
    assert not [it for it in connection._h3._stream if it % 4 == 0]


def test_a_query_in_early_data(doh):
    with H3Peer(doh) as first:
        first.get(ask("first"))
        first.until(lambda: bool(first.peer.tickets))
        ticket = first.peer.tickets[-1]
    with H3Peer(doh, ticket=ticket) as client:
        assert client.get(ask("early"))[0] == 200
        assert client.peer.handshake.early_data_accepted


def test_headers_refer_to_no_dynamic_table(client):
    client.get(ask())
    settings = client.h3.received_settings
    assert settings[Setting.QPACK_MAX_TABLE_CAPACITY] == 0
    assert settings[Setting.QPACK_BLOCKED_STREAMS] == 0
    assert settings[Setting.MAX_FIELD_SECTION_SIZE] == MAX_HEADER
    stream = client.peer.quic.get_next_available_stream_id()
    client.peer.put(encode_frame(FrameType.HEADERS, b"\2\0\x80"))
    assert client.peer.close_code() == ErrorCode.QPACK_DECOMPRESSION_FAILED
    assert stream not in client.peer.data


def test_an_unfinished_header_is_limited(client):
    for _ in range(5):
        frame = encode_frame(FrameType.HEADERS, bytes(85_000))
        client.peer.put(frame[:-1], end=False)
    assert client.peer.close_code() == ErrorCode.H3_EXCESSIVE_LOAD


def test_a_request_that_does_not_end_is_reset(tmp_path):
    limit = "timeouts {\n read 1s\n}"
    with running(tmp_path, limit, scheme="https3") as server, H3Peer(server) as client:
        stream = client.begin(b"POST", content=b"x", end=False)
        client.until(lambda: stream in client.peer.errors)
        assert client.peer.errors[stream] == ErrorCode.H3_REQUEST_CANCELLED
        assert client.get(ask("after"))[0] == 200


def test_a_server_that_stops_says_so_and_answers_what_was_asked(tmp_path):
    with running(tmp_path, scheme="https3") as server, H3Peer(server) as client:
        client.get(ask())
        stream = client.begin(b"POST", extra=[MEDIA], content=ask("wait"))
        client.until(lambda: server.call(lambda: server.listener.pending == 1))
        server.call(server.listener.stop)
        client.until(lambda: FrameType.GOAWAY in client.h3.control)
        server.call(server.answerer.released.set)
        assert client.response(stream)[0] == 200
        assert client.peer.close_code() == ErrorCode.H3_NO_ERROR
