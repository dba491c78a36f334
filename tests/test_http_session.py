"""The HTTP client that reads responses as streams, with a server of raw bytes on loopback."""

import asyncio
import gzip
import ssl
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.http.connecting import without_address
from corepy.http.http_client import HTTPTarget
from corepy.http.http_session import HTTPSession

OK = b"HTTP/1.1 200 OK\r\n"
TIMEOUT = 60.0


class RawServer:
    """Sends the next script to each request: bytes, or an event to wait for."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.requests = []
        self.connections = 0
        self.port = 0

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while self.scripts:
                self.requests.append(await self.read_request(reader))
                for step in self.scripts.pop(0):
                    if isinstance(step, bytes):
                        writer.write(step)
                        await writer.drain()
                    elif step is None:
                        return
                    else:
                        await step.wait()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def read_request(self, reader):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (
                int(it[16:])
                for it in head.split(b"\r\n")
                if it.lower().startswith(b"content-length")
            ),
            0,
        )
        return head + await reader.readexactly(length)


@asynccontextmanager
async def session_with(*scripts, tls=None, client_tls=None, **options):
    raw = RawServer(*scripts)
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    scheme = "http" if tls is None else "https"
    target = HTTPTarget(scheme, "127.0.0.1", raw.port, "")
    session = HTTPSession(target, tls=client_tls, **options)
    try:
        yield session, raw
    finally:
        session.close()
        server.close()


def run(main):
    asyncio.run(main())


def chunked(*chunks):
    return b"".join(b"%x\r\n%s\r\n" % (len(it), it) for it in chunks)


async def content_of(response):
    return [data async for data in portions_of(response)]


async def portions_of(response):
    while data := await response.read(TIMEOUT):
        yield data


def test_a_response_is_read_in_portions_and_the_connection_is_used_again():
    async def main():
        more = asyncio.Event()
        first = [OK, b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"one", b"two"), more]
        last = [chunked(b"three", b"")]
        second = [OK + b"Content-Length: 2\r\nX-Number: 2\r\n\r\nhi"]
        async with session_with(first + last, second) as (session, raw):
            response = await session.request("GET", "/list?limit=5", timeout=TIMEOUT)
            assert (response.status, await response.read(TIMEOUT)) == (200, b"onetwo")
            more.set()
            assert await content_of(response) == [b"three"]
            assert await response.read() == b""
            again = await session.request("POST", "/x", [("A", "b")], b"body", timeout=TIMEOUT)
            assert await again.read_all(2, TIMEOUT) == b"hi"
            assert (again.headers["x-number"], raw.connections) == ("2", 1)
            assert raw.requests[0].startswith(b"GET /list?limit=5 HTTP/1.1\r\nHost: 127.0.0.1:")
            assert b"\r\nA: b\r\nContent-Length: 4\r\n\r\nbody" in raw.requests[1]

    run(main)


def test_a_kept_connection_that_the_server_has_closed_is_replaced():
    async def main():
        async with session_with(
            [OK + b"Content-Length: 0\r\n\r\n"], [None], [OK + b"Content-Length: 1\r\n\r\n2"]
        ) as (session, raw):
            assert await (await session.request("GET", "/", timeout=TIMEOUT)).read() == b""
            response = await session.request("GET", "/", timeout=TIMEOUT)
            assert await response.read_all(9, TIMEOUT) == b"2"
            assert raw.connections == 2

    run(main)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        pytest.param([None], "closed without a response", id="no response"),
        pytest.param([b"SSH-2.0\r\n\r\n"], "the response is not HTTP/1.1", id="not HTTP"),
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n" * 12], "preliminary", id="preliminary"),
        pytest.param([OK + b"A: " + b"x" * 70000], "not HTTP/1.1", id="long head"),
    ],
)  # fmt: skip
def test_a_request_without_a_response(script, problem):
    async def main():
        async with session_with(script) as (session, _):
            with pytest.raises(OSError, match=problem):
                await session.request("GET", "/", timeout=TIMEOUT)

    run(main)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(
            b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"half"), "within the response",
            id="chunked",
        ),
        pytest.param(b"Content-Length: 9\r\n\r\nhalf", "within the response", id="length"),
        pytest.param(
            b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"half") + b"zz\r\n",
            "the response is not HTTP/1.1", id="malformed",
        ),
    ],
)  # fmt: skip
def test_a_response_that_ends_early_is_an_error_after_its_content(body, problem):
    async def main():
        async with session_with([OK + body, None]) as (session, _):
            response = await session.request("GET", "/", timeout=TIMEOUT)
            with pytest.raises(OSError, match=problem):
                await content_of(response)

    run(main)


def test_silence_ends_a_request_and_a_response():
    async def main():
        never = asyncio.Event()
        head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
        async with session_with([never], [head, never]) as (session, _):
            with pytest.raises(TimeoutError, match=r"no response within 0\.01 s"):
                await session.request("GET", "/", timeout=0.01)
            response = await session.request("GET", "/", timeout=TIMEOUT)
            with pytest.raises(TimeoutError, match=r"nothing received for 0\.01 s"):
                await response.read(0.01)
            assert await response.read() == b""
            never.set()

    run(main)


def test_a_content_that_is_too_long_is_not_read():
    async def main():
        async with session_with([OK + b"Content-Length: 3\r\n\r\nabc"]) as (session, _):
            response = await session.request("GET", "/", timeout=TIMEOUT)
            with pytest.raises(OSError, match="more than 2 bytes"):
                await response.read_all(2, TIMEOUT)
            assert await response.read() == b""

    run(main)


def test_many_small_chunks_are_read_in_turns():
    """No call of `read` may process an unlimited number of them."""

    async def main():
        body = chunked(*[b"x"] * 1000, b"")
        async with session_with([OK + b"Transfer-Encoding: chunked\r\n\r\n" + body]) as (
            session,
            _,
        ):
            response = await session.request("GET", "/", timeout=TIMEOUT)
            portions = await content_of(response)
            assert (b"".join(portions), max(map(len, portions))) == (b"x" * 1000, 100)

    run(main)


@pytest.mark.parametrize("value", ["Bearer x ", "a\r\nb", "\0"])
def test_a_header_that_cannot_be_sent(value):
    async def main():
        session = HTTPSession(HTTPTarget("http", "127.0.0.1", 1, "127.0.0.1:1", "/"))
        with pytest.raises(OSError, match="the request cannot be sent"):
            await session.request("GET", "/", [("Authorization", value)], timeout=TIMEOUT)

    run(main)


def test_the_user_name_and_password_of_the_target_are_sent_unless_a_request_has_others():
    async def main():
        empty = OK + b"Content-Length: 0\r\n\r\n"
        async with session_with([empty], [empty]) as (session, raw):
            session.target = replace(session.target, authorization="Basic YTpi")
            for headers in ((), [("Authorization", "Bearer x")]):
                await (await session.request("GET", "/", headers, timeout=TIMEOUT)).read()
            sent = [
                [it for it in request.split(b"\r\n") if it.startswith(b"Authorization")]
                for request in raw.requests
            ]
            assert sent == [[b"Authorization: Basic YTpi"], [b"Authorization: Bearer x"]]

    run(main)


def test_the_header_retry_after():
    async def main():
        scripts = [
            [OK + b"Retry-After: %s\r\nContent-Length: 0\r\n\r\n" % it]
            for it in (b"7", b"-1", b"Mon, 30 Nov 2026 00:00:00 GMT", b"9999999999")
        ]
        async with session_with(*scripts) as (session, _):
            seconds = []
            for _ in scripts:
                response = await session.request("GET", "/", timeout=TIMEOUT)
                seconds.append(response.retry_after)
                await response.read()
            assert seconds == [7.0, None, None, None]

    run(main)


def test_tls_with_another_name_and_a_context_that_is_made_for_each_connection():
    authority = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.example").configure_cert(server_tls)
    made: list[ssl.SSLContext] = []

    async def client_tls():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if made:
            authority.configure_trust(context)
        made.append(context)
        return context

    async def main():
        async with session_with(
            [OK + b"Content-Length: 2\r\n\r\nok"],
            tls=server_tls, server_name="api.example", client_tls=client_tls,
        ) as (session, _):  # fmt: skip
            with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
                await session.request("GET", "/", timeout=TIMEOUT)
            response = await session.request("GET", "/", timeout=TIMEOUT)
            assert await response.read_all(2, TIMEOUT) == b"ok"

    run(main)


def test_a_connection_that_is_closed_within_the_tls_handshake_has_a_reason():
    async def client_tls():
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def main():
        async with session_with() as (_, raw):  # it closes each connection
            target = HTTPTarget("https", "127.0.0.1", raw.port, "")
            session = HTTPSession(target, tls=client_tls)
            with pytest.raises(ConnectionError, match=r"reset by peer|during the TLS handshake"):
                await session.request("GET", "/", timeout=TIMEOUT)

    run(main)


@pytest.mark.parametrize("name", [".example", "a..example", "a" * 64, "\xff" * 64])
def test_a_name_of_the_server_that_no_host_has(name):
    async def client_tls():
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def main():
        async with session_with() as (_, raw):
            target = HTTPTarget("https", "127.0.0.1", raw.port, "")
            session = HTTPSession(target, tls=client_tls, server_name=name)
            with pytest.raises(OSError, match="is not a host name"):
                await session.request("GET", "/", timeout=TIMEOUT)

    run(main)


def test_an_error_of_asyncio_without_a_text_gets_one():
    assert "during the TLS handshake" in str(without_address(ConnectionResetError()))


def test_a_refused_connection_has_the_text_of_the_system():
    async def main():
        async with session_with() as (session, _):
            pass
        with pytest.raises(OSError, match="Connection refused"):
            await session.request("GET", "/", timeout=TIMEOUT)

    run(main)


def test_a_socket_of_the_unix_domain(tmp_path):
    async def main():
        raw, path = RawServer([OK + b"Content-Length: 2\r\n\r\nhi"]), str(tmp_path / "socket")
        session = HTTPSession(HTTPTarget("http", "api.example", 80, ""), socket_path=path)
        with pytest.raises(OSError, match="No such file or directory"):
            await session.request("GET", "/", timeout=TIMEOUT)
        server = await asyncio.start_unix_server(raw.serve, path)
        response = await session.request("GET", "/", timeout=TIMEOUT)
        assert await content_of(response) == [b"hi"]
        assert b"Host: api.example\r\n" in raw.requests[0]
        session.close()
        server.close()

    run(main)


def test_a_response_that_is_compressed_is_an_error():
    """No request allows it; a proxy may do it nevertheless."""

    async def main():
        plain = OK + b"Content-Encoding: identity\r\nContent-Length: 2\r\n\r\nhi"
        packed = OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi"
        async with session_with([plain, None], [packed, None]) as (session, _):
            response = await session.request("GET", "/", timeout=TIMEOUT)
            assert await content_of(response) == [b"hi"]
            with pytest.raises(OSError, match="encoded with gzip, which was not requested"):
                await session.request("GET", "/", timeout=TIMEOUT)

    run(main)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=200)
    | st.binary(max_size=200).map((OK + b"Transfer-Encoding: chunked\r\n\r\n").__add__)
    | st.binary(max_size=200).map(
        lambda it: OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(it)
    )
)
def test_any_bytes_are_a_response_or_an_error(data):
    async def main():
        async with session_with([data, None]) as (session, _):
            with suppress(OSError):
                response = await session.request("GET", "/", timeout=TIMEOUT)
                await content_of(response)

    run(main)
