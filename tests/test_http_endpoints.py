"""The HTTP endpoints: what they answer, who shares an address, and what strangers can do to them."""

import asyncio
import contextlib
import gc
import re
import socket
import struct
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.http import HTTPResponse, claim, split_address
from corepy.http.listener import REQUESTS_PER_TURN
from corepy.net.sockets import BindError

LOCAL = "127.0.0.1:0"


def ok(request):
    return HTTPResponse(b"OK")


@asynccontextmanager
async def serving(answer=ok, path="/x", address=LOCAL):
    held = await claim(address)
    held.serve(path, answer)
    try:
        yield held.address.port
    finally:
        await held.close()


async def send(port, data, *, eof=False):
    """Send bytes and return all that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if eof:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.close()


def request(path="/x", method="GET", *headers, close=True):
    lines = [f"{method} {path} HTTP/1.1", "Host: h", *headers]
    lines += ["Connection: close"] if close else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status(answer):
    return int(answer.split(b" ", 2)[1])


def body(answer):
    return answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("localhost:8080", ("localhost", "8080")),
        (":8080", ("", "8080")),
        ("[::1]:80", ("::1", "80")),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", "80")),
        ("bla:a", ("bla", "a")),
        ("bla:", ("bla", "")),
        (":", ("", "")),
        ("bla", "missing port"),
        ("", "missing port"),
        ("/foo", "missing port"),
        ("[::1]", "missing port"),
        ("::1", "too many colons"),
        ("a:b:c", "too many colons"),
        ("[a:1", "bracket"),
        ("a]:1", "bracket"),
    ],
)
def test_split_address(text, parts):
    if isinstance(parts, tuple):
        assert split_address(text) == parts
    else:
        with pytest.raises(ValueError, match=parts):
            split_address(text)


@pytest.mark.parametrize(
    ("data", "code", "content"),
    [
        (request(), 200, b"OK"),
        (request("/x?verbose=1"), 200, b"OK"),
        (request(method="HEAD"), 200, b""),
        (b"GET /x HTTP/1.0\r\n\r\n", 200, b"OK"),
        (request("/y"), 404, b"404 page not found\n"),
        (request("http://h/x"), 404, b"404 page not found\n"),
        # CoreDNS's handlers look at no method: load balancers probe with several.
        *((request(method=method), 200, b"OK") for method in ("POST", "PUT", "DELETE", "OPTIONS")),
        (request(method="TRACE"), 200, b"OK"),
        (request(method="X-MINE"), 200, b"OK"),
        (request(method="CONNECT"), 200, b""),
        (request("/x", "GET", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), 200, b"OK"),
        (request("/x", "POST", "Content-Length: 3") + b"abc", 200, b"OK"),
        (request("/y", "POST", "Content-Length: 3") + b"abc", 404, b"404 page not found\n"),
        (request("/x", "POST", "Content-Length: 70000") + b"a" * 70000, 200, b"OK"),
        (request("/x", "POST", "Content-Length: 9", "Expect: 100-continue"), 200, b"OK"),
        (request("/x", "POST", "Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n\r\n", 200, b"OK"),
        (request("/x", "GET", "Content-Length: 3") + b"abc", 200, b"OK"),
        (b"GET /x HTTP/1.1\r\n\r\n", 400, None),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, None),
        (b"nonsense\r\n\r\n", 400, None),
        (b"G" * 20_000, 431, None),
    ],
)
def test_answers(data, code, content):
    async def run():
        async with serving() as port:
            answer = await send(port, data)
            assert status(answer) == code
            assert content is None or body(answer) == content
            assert body(await send(port, request())) == b"OK"

    asyncio.run(run())


def test_a_body_that_ends_too_early():
    async def run():
        async with serving() as port:
            short = request("/x", "POST", "Content-Length: 3") + b"ab"
            assert status(await send(port, short, eof=True)) == 400

    asyncio.run(run())


def test_a_body_that_comes_later_is_read_before_the_answer():
    """Closing with bytes unread would reset the connection, and the answer with it."""

    async def run():
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for size in (3, 60000):
                head = f"Content-Length: {size}"
                writer.write(request("/x", "POST", head, close=False))
                await writer.drain()
                for _ in range(size):
                    writer.write(b"x")
                answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\nOK"), 60)
                assert status(answer) == 200
                assert b"Connection: close" not in answer
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize("pieces", [1, 128, 129, 43_000])
def test_a_content_in_tiny_chunks_is_not_read_to_its_end(monkeypatch, pieces):
    """Reading 43,000 chunks, which arrive at once, would take half a second."""
    events = []
    real = h11.Connection.next_event

    def next_event(connection):
        events.append(event := real(connection))
        return event

    monkeypatch.setattr(h11.Connection, "next_event", next_event)

    async def run():
        async with serving() as port:
            head = request("/x", "POST", "Transfer-Encoding: chunked", close=False)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + b"1\r\na\r\n" * pieces + b"0\r\n\r\n")
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\nOK"), 60)
            assert status(answer) == 200
            assert (b"Connection: close" in answer) == (pieces > 128)
            writer.close()

    asyncio.run(run())
    assert sum(isinstance(event, h11.Data) for event in events) <= 129


@pytest.mark.parametrize("eof", [False, True])
def test_connections_share_the_turns_of_the_event_loop(monkeypatch, eof):
    """The heads of requests may be large; each is read in its turn."""
    monkeypatch.setattr("corepy.http.connection.TIMEOUT", 60.0)
    turns, seen = [0], []

    def answer(request):
        seen.append(turns[0])
        return HTTPResponse(request.path.encode())

    async def run():
        loop = asyncio.get_running_loop()

        def count():
            turns[0] += 1
            ticking[0] = loop.call_soon(count)

        ticking = [loop.call_soon(count)]
        async with serving(answer) as port:
            data = request("/x", "GET", *["A: b"] * 200)
            answers = await asyncio.gather(*(send(port, data, eof=eof) for _ in range(12)))
        ticking[0].cancel()
        assert {body(it) for it in answers} == {b"/x"}

    asyncio.run(run())
    assert len(seen) == 12
    assert max(map(seen.count, seen)) <= REQUESTS_PER_TURN


def test_head_has_the_length_of_get():
    async def run():
        async with serving() as port:
            assert b"Content-Length: 2\r\n" in await send(port, request(method="HEAD"))

    asyncio.run(run())


def test_the_date_is_one():
    async def run():
        async with serving() as port:
            (date,) = re.findall(r"\r\nDate: (.*)\r\n", (await send(port, request())).decode())
            age = datetime.now(UTC) - parsedate_to_datetime(date)
            assert timedelta(seconds=-1) < age < timedelta(seconds=60)

    asyncio.run(run())


def test_a_connection_is_used_again():
    async def run():
        async with serving() as port:
            three = request(close=False) * 2 + request()
            assert (await send(port, three)).count(b"\r\n\r\nOK") == 3
            assert b"\r\n\r\nOK" in await send(port, request(close=False), eof=True)

    asyncio.run(run())


def test_coroutines_and_headers():
    async def slow(request):
        await asyncio.sleep(0)
        return HTTPResponse(request.headers["accept"].encode(), 503, "text/x")

    async def run():
        async with serving(slow) as port:
            answer = await send(port, request("/x", "GET", "Accept: a/b"))
            assert (status(answer), body(answer)) == (503, b"a/b")
            assert b"Content-Type: text/x\r\n" in answer

    asyncio.run(run())


def test_a_large_answer_waits_for_a_slow_reader():
    made = 0

    async def pieces():
        nonlocal made
        for _ in range(500):
            made += 1
            yield b"#" * 65536

    async def run():
        async with serving(lambda request: HTTPResponse(pieces())) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
            writer.write(request())
            await reader.readline()
            await asyncio.sleep(0.1)
            assert made < 500
            assert (await reader.read()).count(b"#") == 500 * 65536
            writer.close()

    asyncio.run(run())


def test_a_broken_answer(caplog):
    def broken(request):
        raise RuntimeError("oh")

    async def half():
        yield b"half"
        raise RuntimeError("oh")

    async def run():
        async with serving(broken) as port:
            assert status(await send(port, request())) == 500
        async with serving(lambda request: HTTPResponse(half())) as port:
            try:
                assert not (await send(port, request())).endswith(b"0\r\n\r\n")
            except ConnectionResetError:
                pass
            await asyncio.sleep(0)

    asyncio.run(run())
    assert "the request for /x failed" in caplog.text
    assert "was cut off" in caplog.text


def test_claims_share_an_address():
    async def run():
        old = await claim(LOCAL)
        old.serve("/a", lambda request: HTTPResponse(b"old"))
        address = f"127.0.0.1:{old.address.port}"
        same = await claim(LOCAL)
        assert same.address == old.address
        await same.close()
        new = await claim(LOCAL)
        port = old.address.port
        assert body(await send(port, request("/a"))) == b"old"
        new.serve("/a", lambda request: HTTPResponse(b"new"))
        new.serve("/b", ok)
        assert body(await send(port, request("/a"))) == b"new"
        assert body(await send(port, request("/b"))) == b"OK"
        await new.close()
        assert body(await send(port, request("/a"))) == b"old"
        assert status(await send(port, request("/b"))) == 404
        await old.close()
        await old.close()
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # TIME_WAIT apart
            taken.bind(("127.0.0.1", port))
        async with serving(address=address) as again:
            assert again == port

    asyncio.run(run())


def test_an_answer_in_the_making_is_finished():
    began = asyncio.Event()

    async def slow(request):
        began.set()
        await asyncio.sleep(0.1)
        return HTTPResponse(b"done")

    async def run():
        held = await claim(LOCAL)
        held.serve("/x", slow)
        idle = asyncio.create_task(send(held.address.port, b""))
        asking = asyncio.create_task(send(held.address.port, request(close=False)))
        await began.wait()
        await held.close()
        assert body(await asking) == b"done"
        assert await idle == b""

    asyncio.run(run())


def test_one_that_never_ends_is_cut_off(monkeypatch):
    monkeypatch.setattr("corepy.http.listener.CLOSE_TIMEOUT", 0.05)
    began = asyncio.Event()

    async def endless(request):
        began.set()
        await asyncio.sleep(1000)
        return HTTPResponse()

    async def run():
        held = await claim(LOCAL)
        held.serve("/x", endless)
        asking = asyncio.create_task(send(held.address.port, request()))
        await began.wait()
        await held.close()
        await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(run())


@pytest.mark.parametrize("data", [b"", b"GET /x HT", request(close=False)])
def test_slow_clients_are_cut_off(monkeypatch, data):
    monkeypatch.setattr("corepy.http.connection.TIMEOUT", 0.1)

    async def run():
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            try:
                await asyncio.wait_for(reader.read(), 60)
            except ConnectionResetError:
                pass
            writer.close()

    asyncio.run(run())


def test_the_oldest_idle_connection_makes_room(monkeypatch):
    monkeypatch.setattr("corepy.http.listener.MAX_CONNECTIONS", 5)
    monkeypatch.setattr("corepy.http.connection.TIMEOUT", 1000)

    async def run():
        async with serving() as port:
            # In one turn of the loop: what was closed for one is not there for the next.
            streams = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
            for stream in streams[:15]:
                stream.setblocking(False)
                closed = asyncio.get_running_loop().sock_recv(stream, 1)
                assert await asyncio.wait_for(closed, 60) == b""
            assert body(await send(port, request())) == b"OK"
            for stream in streams:
                stream.close()

    asyncio.run(run())


def test_busy_connections_keep_nobody_out(monkeypatch):
    monkeypatch.setattr("corepy.http.listener.MAX_CONNECTIONS", 2)
    go_on, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def waits(request):
        begun.release()
        await go_on.wait()
        return HTTPResponse(b"OK")

    async def run():
        async with serving(waits) as port:
            busy = []
            for _ in range(3):
                busy.append(asyncio.create_task(send(port, request())))
                await begun.acquire()
            go_on.set()
            oldest, *others = await asyncio.gather(*busy, return_exceptions=True)
            assert oldest == b"" or isinstance(oldest, ConnectionResetError)
            assert [body(answer) for answer in others] == [b"OK"] * 2

    asyncio.run(run())


def test_who_reads_no_answers_gets_no_more_of_them():
    """Else the answers to what it asks in advance are kept in memory, all of them."""
    asked = 0

    def count(request):
        nonlocal asked
        asked += 1
        return HTTPResponse(b"#" * 10_000)

    async def run():
        async with serving(count) as port:
            stream = socket.create_connection(("127.0.0.1", port))
            stream.setblocking(False)
            unchanged = 0
            while unchanged < 20:  # both sides' buffers are full at some time
                before, is_full = asked, False
                try:
                    stream.send(request(close=False) * 500)
                except BlockingIOError:
                    is_full = True
                await asyncio.sleep(0.01)
                unchanged = unchanged + 1 if is_full and asked == before else 0
                assert asked < 10_000
            assert asked
            stream.close()

    asyncio.run(run())


def test_another_process_can_share_the_address():
    async def run():
        async with serving() as port:
            with socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                other.bind(("127.0.0.1", port))

    asyncio.run(run())


def test_names_and_the_wildcard():
    async def run():
        async with serving(address="localhost:0") as port:
            assert body(await send(port, request())) == b"OK"
        async with serving(address=":0") as port:
            assert body(await send(port, request())) == b"OK"
        async with serving(address="127.0.0.1:") as port:
            assert body(await send(port, request())) == b"OK"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("127.0.0.1:{busy}", "another program listens on this address"),
        ("192.0.2.1:80", "no interface of this host has this address"),
        ("127.0.0.1:no-such-service", "cannot listen on 127.0.0.1:no-such-service"),
        ("127.0.0.1:65536", "65536 is not a port"),
        (f"{'a' * 70}.invalid:80", "cannot listen on a"),
    ],
)
def test_addresses_that_cannot_be_bound(address, problem):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        with pytest.raises(BindError, match=problem):
            asyncio.run(claim(address.format(busy=busy.getsockname()[1])))


def test_out_of_descriptors(monkeypatch, caplog):
    monkeypatch.setattr("corepy.net.acceptor.PAUSE", 0.05)

    class Exhausted:
        def __init__(self, sock):
            self.sock, self.failures = sock, 1

        def __getattr__(self, name):
            return getattr(self.sock, name)

        def accept(self):
            if self.failures:
                self.failures -= 1
                raise OSError(24, "Too many open files")
            return self.sock.accept()

    async def run():
        held = await claim(LOCAL)
        acceptor = held._listener._acceptor
        monkeypatch.setattr(acceptor, "sock", Exhausted(acceptor.sock))
        held.serve("/x", ok)
        assert body(await send(held.address.port, request())) == b"OK"
        await held.close()

    asyncio.run(run())
    assert "Too many open files" in caplog.text


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
def test_no_bytes_hurt(pieces, reset):
    async def run():
        async with serving() as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            if reset:  # when it is closed
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for piece in (b"GET /x HTTP/1.1\r\n", *pieces):
                writer.write(piece)
                await asyncio.sleep(0)
            writer.close()
            assert body(await send(port, request())) == b"OK"

    asyncio.run(run())
    gc.collect()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_request_whose_content_ends_early_is_refused_in_its_form(method):
    """The refusal of HEAD has no content; to send one raised an exception in the event loop."""

    async def run():
        failures = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: failures.append(context)
        )
        async with serving() as port:
            data = f"{method} /x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc".encode()
            answer = await send(port, data, eof=True)
        return answer, failures

    answer, failures = asyncio.run(run())
    assert not failures
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert bool(body) == (method != "HEAD")


def test_a_request_has_its_query():
    async def run():
        seen = []

        def answer(request):
            seen.append((request.path, request.query))
            return HTTPResponse(b"OK", headers=(("X-More", "1"),))

        async with serving(answer) as port:
            for path in ("/x", "/x?", "/x?a=1&b=%20?c", "/x#y?z"):
                got = await send(port, request(path))
                assert (b"\r\nX-More: 1\r\n" in got) == (status(got) == 200)
        return seen

    assert asyncio.run(run()) == [("/x", ""), ("/x", ""), ("/x", "a=1&b=%20?c")]


@asynccontextmanager
async def serving_long(timeout=300.0):
    """An endpoint whose answer needs its client; yields the port, and events of its life."""
    begun, ended, gate = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answer(request):
        begun.set()
        try:
            await gate.wait()
        finally:
            ended.set()
        return HTTPResponse(b"OK")

    held = await claim(LOCAL)
    held.serve("/long", answer, timeout=timeout, needs_client=True)
    held.serve("/x", ok)
    try:
        yield held.address.port, begun, ended, gate
    finally:
        await held.close()


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
def test_an_answer_that_needs_its_client_ends_with_it(how):
    async def run():
        async with serving_long() as (port, begun, ended, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("/long"))
            await begun.wait()
            if how == "half-close":
                writer.write_eof()
            elif how == "reset":
                writer.transport.abort()
            else:
                writer.close()
            await asyncio.wait_for(ended.wait(), 60)
            if how == "half-close":
                assert await reader.read() == b""
            writer.close()

    asyncio.run(run())


def test_an_answer_that_needs_its_client_has_a_limit():
    async def run():
        async with serving_long(timeout=0.01) as (port, _, ended, _):
            with contextlib.suppress(ConnectionResetError):
                assert await send(port, request("/long")) == b""
            assert ended.is_set()

    asyncio.run(run())


def test_requests_behind_a_long_answer_wait():
    async def run():
        async with serving_long() as (port, begun, _, gate):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("/long", close=False))
            await begun.wait()
            writer.write(request("/x", close=False) * 3 + request("/x"))
            await writer.drain()
            gate.set()
            got = await asyncio.wait_for(reader.read(), 60)
            assert got.count(b"HTTP/1.1 200 OK") == 5
            writer.close()

    asyncio.run(run())
