"""The HTTP client of plugins that report to a collector, with a real server on loopback."""

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.http.http_client import MAX_RESPONSE, HTTPClient, HTTPTarget, parse_url
from corepy.testing import free_port
from corepy.testing.http_recorder import HTTPRecorder
from corepy.testing.tls import CERTIFICATE

JSON = [("Content-Type", "application/json")]


@pytest.mark.parametrize(
    ("text", "target", "authority", "url"),
    [
        ("http://h", ("http", "h", 80, "", ""), "h", "http://h/"),
        ("HTTP://H:81/", ("http", "h", 81, "/", ""), "h:81", "http://h:81/"),
        ("http://h?key=b", ("http", "h", 80, "/?key=b", ""), "h", "http://h/"),
        ("https://h:443/a?key=b", ("https", "h", 443, "/a?key=b", ""), "h", "https://h/a"),
        ("http://[::1]:80/x", ("http", "::1", 80, "/x", ""), "[::1]", "http://[::1]/x"),
        (
            "http://user:p%40ss@h/",
            ("http", "h", 80, "/", "Basic dXNlcjpwQHNz"), "h", "http://h/",
        ),
    ],
)  # fmt: skip
def test_urls(text, target, authority, url):
    parsed = parse_url(text)
    assert parsed == HTTPTarget(*target)
    assert (parsed.authority, parsed.url) == (authority, url)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ftp://h/", "a URL begins with http:// or https://, not 'ftp'"),
        ("h:80", "a URL begins with http:// or https://, not 'h'"),
        ("http://", "the URL names no host"),
        ("http://:80/", "the URL names no host"),
        ("http://h:x/", "the port of the URL is not a number from 1 to 65535"),
        ("http://h:0/", "the port of the URL is not a number from 1 to 65535"),
        ("http://h:65536/", "the port of the URL is not a number from 1 to 65535"),
        ("http://h/a b", "a URL has only printable ASCII characters"),
        ("http://h/é", "a URL has only printable ASCII characters"),
        ("http://h/\r\nA: b", "a URL has only printable ASCII characters"),
    ],
)
def test_bad_urls(text, problem):
    with pytest.raises(ValueError, match="URL") as caught:
        parse_url(text)
    assert str(caught.value) == problem


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet="htps:/[]@?#%.:01 a\\é\n", max_size=30).map("http://".__add__))
def test_any_text_is_a_url_or_refused(text):
    try:
        target = parse_url(text)
    except ValueError:
        return
    assert target.host
    assert target.authority
    assert target.url.isprintable()


@asynccontextmanager
async def client_of(server, path="/spans", timeout=60.0, **options):
    scheme = "https" if options else "http"
    client = HTTPClient(HTTPTarget(scheme, "127.0.0.1", server.port, path), timeout, **options)
    try:
        yield client
    finally:
        client.close()


def run(test):
    asyncio.run(asyncio.wait_for(test, 60))


def test_requests_share_a_connection():
    async def test():
        async with client_of(server) as client:
            for body in (b"[1]", b"[22]"):
                result = await client.post(body, JSON)
                assert (result.status, result.excerpt, result.retry_after) == (202, "", None)

    with HTTPRecorder() as server:
        run(test())
        first, second = server.next(), server.next()
        assert (first.method, first.target, first.body) == ("POST", "/spans", b"[1]")
        assert first.headers == {
            "host": f"127.0.0.1:{server.port}",
            "user-agent": "corepy",
            "content-type": "application/json",
            "content-length": "3",
        }
        assert (second.body, server.connections) == (b"[22]", 1)


def test_a_name_is_resolved_and_credentials_are_sent():
    async def test():
        target = parse_url(f"http://me:secret@localhost:{server.port}")
        client = HTTPClient(target, 60)
        assert (await client.post(b"", JSON)).status == 202
        client.close()

    with HTTPRecorder() as server:
        run(test())
        request = server.next()
        assert (request.target, request.headers["host"]) == ("/", f"localhost:{server.port}")
        assert request.headers["authorization"] == "Basic bWU6c2VjcmV0"


@pytest.mark.parametrize(
    ("response", "status", "excerpt", "retry_after", "connections"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, "{}", None, 1),
        (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", 204, "", None, 2),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Slow\r\nRetry-After: 7\r\n"
            b"Content-Length: 10\r\n\r\nslow\n down",
            429, "slow down", 7.0, 1,
        ),
        (
            b"HTTP/1.1 503 X\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            503, "abc", None, 1,
        ),
        (
            b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n" % (3 * MAX_RESPONSE)
            + b"x" * 3 * MAX_RESPONSE,
            400, "x" * 200, None, 2,
        ),
        (
            b"HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000,
            400, "x" * 200, None, 2,
        ),
        (
            b"HTTP/1.1 400 X\r\nContent-Length: 9\r\n\r\n\x1b[2J\0\r\na\xff",
            400, "[2J a\ufffd", None, 1,
        ),
    ],
    ids=["kept", "closed", "continue", "chunked", "endless", "tiny", "controls"],
)  # fmt: skip
def test_responses(response, status, excerpt, retry_after, connections):
    async def test():
        async with client_of(server) as client:
            for _ in range(2):
                result = await client.post(b"[]", JSON)
                assert (result.status, result.retry_after) == (status, retry_after)
                assert result.excerpt == excerpt

    with HTTPRecorder(response) as server:
        run(test())
        assert server.connections == connections


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (b"", "the connection was closed without a response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "the response is not HTTP/1.1: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n", "the response is not HTTP/1.1: "),
        (b"HTTP/1.1 100 C\r\n\r\n" * 10_000, "the server sends preliminary responses only"),
        (b"x" * 10_000 + b"\r\n\r\n", r"the response is not HTTP/1.1: .{100,170}$"),
    ],
)
def test_no_response(response, message):
    async def test():
        async with client_of(server) as client:
            with pytest.raises(OSError, match=message):
                await client.post(b"[]", JSON)

    with HTTPRecorder(response) as server:
        run(test())


def test_a_response_in_tiny_pieces_leaves_the_event_loop_to_others(monkeypatch):
    """Reading 128 KiB of them, which arrive at once, would take half a second."""
    events, most, real = [0], [0], h11.Connection.next_event

    def next_event(connection):
        events[0] += 1
        return real(connection)

    monkeypatch.setattr(h11.Connection, "next_event", next_event)

    async def count():
        while True:
            most[0], events[0] = max(most[0], events[0]), 0
            await asyncio.sleep(0)

    async def test():
        counting = asyncio.create_task(count())
        async with client_of(server) as client:
            assert (await client.post(b"[]", JSON)).status == 200
        counting.cancel()

    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with HTTPRecorder(head + b"1\r\nx\r\n" * 100_000) as server:
        run(test())
    assert most[0] < 700


def test_a_connection_that_was_closed_meanwhile_is_replaced():
    async def test():
        async with client_of(server) as client:
            await client.post(b"[1]", JSON)
            for stream in server._streams:
                stream.shutdown(socket.SHUT_RDWR)
            await client.post(b"[2]", JSON)

    with HTTPRecorder() as server:
        run(test())
        assert [server.next().body for _ in range(2)] == [b"[1]", b"[2]"]
        assert server.connections == 2


def test_a_server_that_does_not_respond():
    async def test():
        async with client_of(server, timeout=0.05) as client:
            with pytest.raises(TimeoutError, match=r"no response within 0\.05 s"):
                await client.post(b"[]", JSON)

    with HTTPRecorder(None) as server:
        run(test())


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("127.0.0.1", "Connection refused"),
        ("no-such-host.invalid", "resol|known|No address"),  # depends on the resolver
        ("." + "a" * 70, "not a host name"),
    ],
)
def test_a_host_that_cannot_be_reached(host, problem):
    async def test():
        client = HTTPClient(HTTPTarget("http", host, free_port(), "/"), 60)
        with pytest.raises(OSError, match=problem):
            await client.post(b"[]", JSON)

    run(test())


def test_certificates_are_verified():
    context = ssl.create_default_context(cadata=CERTIFICATE)
    context.check_hostname = False  # the certificate is for a name that does not resolve

    async def test():
        async with client_of(server, tls=context) as client:
            assert (await client.post(b"[]", JSON)).status == 202
        async with client_of(server, tls=None) as client:
            with pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate"):
                await client.post(b"[]", JSON)

    with HTTPRecorder(tls=True) as server:
        run(test())
        assert server.next().body == b"[]"
