"""Bytes at an HTTP endpoint: an answer that a client can read or none, and the next client is served."""

from __future__ import annotations

import asyncio

import h11
import pytest

from corepy.http import HTTPRequest, HTTPResponse, claim
from corepy.testing.fuzzing import Source, briefly

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"get", b"", b"G\0T", b"X" * 300)
TARGETS = (
    b"/x",
    b"/",
    b"*",
    b"http://h/x",
    b"/x?y#z",
    b"//x",
    b"/%00",
    b"/" + b"y" * 500,
    b"x",
    b"/\xff",
    b"",
)
VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"", b"HTTP/1.1 ")
HEADERS = (
    b"Host: h", b"Host: g", b"Connection: close", b"Connection: keep-alive", b"Expect: 100-continue",
    b"Content-Length: 3", b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Upgrade: h2c",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Accept-Encoding: gzip", b" folded", b"A:",
    b": b", b"A\0: b", b"A: \xff\xfe", b"A: " + b"b" * 9000, b"If-Modified-Since: never",
)  # fmt: skip
BODIES = (
    b"",
    b"abc",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"-1\r\n",
    b"0\r\n\r\n",
    b"\0" * 64,
)


def build(source: Source) -> bytes:
    stream = b""
    for _ in range(source.number(1, 3)):
        end = b"\r\n" if not source.one_in(8) else b"\n"
        words = [source.pick(METHODS[:3]) if source.one_in(2) else source.pick(METHODS)]
        words += [source.pick(TARGETS), source.pick(VERSIONS)]
        lines = [b" ".join(words), *(source.pick(HEADERS) for _ in range(source.number(0, 5)))]
        stream += end.join(lines) + end + end + source.pick(BODIES)
    if source.one_in(6):
        stream = stream[: source.number(0, len(stream))]
    return stream + source.take(source.number(0, 20) if source.one_in(6) else 0)


async def exchange(port: int, pieces: list[bytes]) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), 60)
    except OSError:
        return b""  # closed before all was sent
    finally:
        writer.close()


def answer(request: HTTPRequest) -> HTTPResponse:
    return HTTPResponse(b"OK")


async def run(stream: bytes, cuts: list[int]) -> None:
    held = await claim("127.0.0.1:0")
    held.serve("/x", answer)
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: failures.append(context)
    )
    try:
        pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        read(await exchange(held.address.port, pieces))
        good = await exchange(
            held.address.port, [b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"]
        )
        assert good.startswith(b"HTTP/1.1 200 "), good
        assert good.endswith(b"OK")
    finally:
        await held.close()
    assert not failures


def read(stream: bytes) -> None:
    """Read every answer; h11 raises for what is none."""
    while stream:
        client = h11.Connection(h11.CLIENT)
        head = stream.split(b"\r\n\r\n", 1)[0]
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
        client.send(h11.EndOfMessage())
        client.receive_data(stream)
        response = client.next_event()
        assert isinstance(response, h11.Response | h11.InformationalResponse), response
        if isinstance(response, h11.InformationalResponse):
            stream = stream[len(head) + 4 :]
            continue
        length = int(dict(response.headers).get(b"content-length", b"0"))
        body = stream[len(head) + 4 :]
        # The answer to HEAD has a length and no body: then the next answer follows at once.
        stream = body if body.startswith(b"HTTP/1.1 ") else body[length:]


def check(data: bytes) -> None:
    source = Source(data)
    stream = source.take(source.left) if source.one_in(8) else build(source)
    cuts = sorted(source.number(0, len(stream)) for _ in range(source.number(0, 3)))
    asyncio.run(run(stream, cuts))


SEEDS = {
    "POST": b"\7POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    "two lengths": b"\7GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "HEAD whose content never comes": b"\7HEAD /x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc",
    "nothing but noise": b"\7" + bytes(300),
}


@pytest.mark.parametrize("data", SEEDS.values(), ids=SEEDS.keys())
def test_seeds(data: bytes) -> None:
    check(data)


def test_any_request() -> None:
    briefly(check, 60)
