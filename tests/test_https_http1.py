"""DNS over HTTPS with HTTP/1.1 (RFC 9112): requests on a connection, and what is refused."""

import socket
import time
from contextlib import suppress

import dnslib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.server.listen.http.https import RESPONSES
from corepy.testing import helper_module, query, serve, with_handlers
from corepy.testing.command import wait_until

gated_handler = helper_module(__file__, "gated_handler")
WAIT = 60.0
QUERY = query("www.example.org.", id=0)
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
def handlers():
    return []


@pytest.fixture(scope="module")
def server(handlers):
    def make():
        handlers.append(gated_handler.Told())
        return handlers[-1]

    with serve(TEXT, plugins=with_handlers(told=make), order="told after cache") as running:
        yield running


class Client:
    """Reads whole responses."""

    def __init__(self, address):
        self.sock = socket.create_connection(address, WAIT)
        self.file = self.sock.makefile("rb")

    def send(self, data):
        self.sock.sendall(data)

    def response(self, method="POST"):
        """Return the status, the fields and the content; None if the server has closed."""
        line = self.file.readline()
        if not line:
            return None
        fields = {}
        while (field := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = field.decode().partition(":")
            fields[name.lower()] = value.strip()
        size = 0 if method == "HEAD" else int(fields.get("content-length", 0))
        return int(line.split()[1]), fields, self.file.read(size)


@pytest.fixture
def client(server):
    client = Client(server.address)
    yield client
    client.file.close()
    client.sock.close()


def post(content=QUERY, *fields, path="/dns-query", method="POST"):
    lines = [f"{method} {path} HTTP/1.1", "Host: dns.example", *fields]
    if not any("chunked" in it or "ength" in it for it in fields):
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


def address_in(content):
    return str(dnslib.DNSRecord.parse(content).rr[0].rdata)


def session(server):
    def find():
        (endpoint,) = server.server.endpoints.values()
        connections = list(endpoint.listeners[0].connections)
        return connections[0]._session if len(connections) == 1 else None

    wait_until(lambda: server.call(find) is not None)
    return server.call(find)


def test_a_connection_carries_several_requests(client):
    for _ in range(3):
        client.send(post())
        status, fields, content = client.response()
        assert (status, address_in(content)) == (200, "192.0.2.1")
        assert fields["content-type"] == "application/dns-message"
        assert fields["cache-control"] == "max-age=60"
        assert "connection" not in fields


def test_requests_may_be_pipelined(client):
    names = [f"h{number}.example.org." for number in range(100)]
    client.send(b"".join(post(query(name, id=0)) for name in names))
    for name in names:
        status, _, content = client.response()
        assert (status, str(dnslib.DNSRecord.parse(content).q.qname)) == (200, name)


def test_a_pipelined_request_waits_for_the_response_before_it(server, handlers, client):
    client.send(post(query("busy.example.org.", id=0)) + post())
    wait_until(lambda: handlers[-1].waiting == 1)
    server.call(handlers[-1].gate.set)
    for name in ("busy.example.org.", "www.example.org."):
        assert str(dnslib.DNSRecord.parse(client.response()[2]).q.qname) == name


def test_a_request_may_arrive_byte_by_byte(client):
    for byte in post():
        client.send(bytes((byte,)))
    assert client.response()[0] == 200


def test_a_content_may_be_in_chunks(client):
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in QUERY) + b"0\r\n\r\n"
    client.send(post(chunks, "Transfer-Encoding: chunked"))
    assert address_in(client.response()[2]) == "192.0.2.1"


def test_a_client_may_wait_for_100_continue(client):
    head, _, content = post(
        QUERY, "Expect: 100-continue", f"Content-Length: {len(QUERY)}"
    ).partition(b"\r\n\r\n")
    client.send(head + b"\r\n\r\n")
    assert client.response()[0] == 100
    client.send(content)
    assert client.response()[0] == 200


def test_a_content_of_no_use_is_not_asked_for(client):
    client.send(post(b"", "Expect: 100-continue", "Content-Length: 5", path="/other"))
    status, fields, _ = client.response()
    assert (status, fields["connection"]) == (404, "close")
    assert client.response() is None


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(path="/"), 404),
        (post(b"", method="OPTIONS"), 400),
        (post(b"", method="PUT"), 400),
        (post(b""), 400),
        (post(b"a" * 65537), 400),
        (post(query("drop.example.org.", id=0)), 500),
        (post(b"", method="GET", path="/dns-query?dns=AAAA"), 400),
    ],
)
def test_requests_without_a_reply(server, client, request_, status):
    (endpoint,) = server.server.endpoints.values()
    counter = RESPONSES.labels(endpoint.label, str(status))
    before = counter.value
    client.send(request_)
    assert client.response()[0] == status
    assert counter.value == before + 1


def test_the_response_to_head_has_no_content(client):
    client.send(post(b"", method="HEAD") + post())
    status, fields, _ = client.response("HEAD")
    assert (status, fields["content-length"]) == (400, "16")
    assert client.response()[0] == 200


def test_a_client_of_http_1_0_gets_one_response(client):
    client.send(post().replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert client.response()[0] == 200
    assert client.response() is None


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_a_client_that_offers_another_protocol_gets_responses(client, protocol):
    """As Java's HttpClient does with its first request without TLS."""
    for _ in range(2):
        client.send(post(QUERY, "Connection: Upgrade", f"Upgrade: {protocol}"))
        status, fields, _ = client.response()
        assert (status, fields.get("connection")) == (200, None)


def test_the_bytes_after_connect_are_no_request(client):
    """They may be those of another protocol, which someone else has chosen."""
    client.send(post(b"", "Content-Length: 0", method="CONNECT", path="a:443") + post())
    status, fields, _ = client.response()
    assert (status, fields["connection"]) == (404, "close")
    assert client.response() is None


def test_the_client_may_end_its_half_of_the_connection(client):
    client.send(post())
    client.sock.shutdown(socket.SHUT_WR)
    assert client.response()[0] == 200
    assert client.response() is None


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(QUERY, "Content-Length: 33", "Transfer-Encoding: chunked"), 400),
        (post(QUERY, "Content-Length: 33", "Content-Length: 34"), 400),
        (post(QUERY, "Content-Length: -1"), 400),
        (post(QUERY, "Content-Length: 33, 34"), 400),
        (post(QUERY, "Transfer-Encoding: gzip, chunked"), 501),
        (post(QUERY, "Transfer-Encoding: chunked\r\n\tx"), 501),
        (post(QUERY, "A : b", "Content-Length: 33"), 400),
        (post().replace(b"Host: dns.example\r\n", b""), 400),
        (post().replace(b"Host: dns.example\r\n", b"Host: a\r\nHost: b\r\n"), 400),
        (post(QUERY, "A: \0", "Content-Length: 33"), 400),
        (post(b"x\r\n", "Transfer-Encoding: chunked"), 400),
        (b"\x16\x03\x01\x02\0\x01\0" + bytes(512), 400),
        (b"GET\r\n\r\n", 400),
        (post(QUERY, "A: " + "b" * 40_000, "Content-Length: 33"), 431),
    ],
)
def test_a_message_whose_end_is_unclear_is_refused(client, request_, status):
    """Otherwise a proxy and the server might disagree on the next request (request smuggling)."""
    client.send(request_)
    found = client.response()
    assert found[0] == status
    assert found[1]["connection"] == "close"


def test_a_slow_request_is_refused(server, client):
    client.send(post()[:-1])
    state = session(server)
    wait_until(lambda: state._since)

    def expire(seconds):
        state.expire(time.monotonic() + seconds)
        state._connection._flush()

    server.call(expire, 1.0)
    assert not state.is_idle
    server.call(expire, 100.0)
    assert client.response()[0] == 408
    assert client.response() is None


def test_a_drained_connection_is_closed_after_the_response(server, client):
    client.send(post())
    assert client.response()[0] == 200
    state = session(server)
    server.call(state.begin_drain)
    client.send(post())
    assert client.response()[1]["connection"] == "close"
    assert client.response() is None


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_are_answered_or_end_the_connection(server, data, at):
    request = post()
    client = Client(server.address)
    with suppress(OSError):  # the server may close before it has read everything
        client.send(request[:at] + data + request[at:])
        client.sock.shutdown(socket.SHUT_WR)
        while client.response() is not None:
            pass
    client.file.close()
    client.sock.close()
    other = Client(server.address)
    other.send(post())
    assert other.response()[0] == 200
    other.file.close()
    other.sock.close()
