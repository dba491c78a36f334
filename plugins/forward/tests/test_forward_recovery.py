"""What goes on, and what ends, when upstreams are silent or cut replies; the clock is the test's."""

import asyncio
import errno
import socket

import dnslib
import pytest

from corepy.testing import Upstream, serve
from corepy_forward import limits
from corepy_forward.failures import NO_REPLY, Watchlist, explain
from corepy_forward.resolve import _ask_resolvers, _target
from corepy_forward.settings import HealthCheckOptions
from corepy_forward.targets import Hostname, split_host_port

TRUNCATED = b"\x83\x80\0\1\0\2\0\0\0\0\1a\0\0\1\0\1\1x"
MALFORMED = b"\x81" + TRUNCATED[1:]


def listen(sink):
    """Let connections to an upstream be made; they stay open."""
    sink.tcp.listen()
    return sink.tcp


async def accept(bench, sock):
    """Return a connection; time stands still meanwhile."""
    for _ in range(100_000):
        try:
            return sock.accept()[0]
        except BlockingIOError:
            await asyncio.sleep(0)
    raise AssertionError("nobody connects")


def test_when_upstreams_are_asked_again(on_bench):
    """0.8 s after the client asked, however much later the last of them was asked."""

    async def test(bench):
        exchange = bench.ask("a")
        for seconds, counts in [(0.1, [1, 0]), (0.1, [1, 1]), (0.59, [1, 1]), (0.02, [2, 1])]:
            await bench.let_pass(seconds)
            assert bench.counts() == counts
        bench.sinks[0].reply()
        await bench.end_of(exchange)

    on_bench(test, 2)


def test_an_attempt_is_late_once_and_expires_once(on_bench):
    """Binary fractions, so that the sum is exact."""

    async def test(bench):
        late: list[object] = []
        expired: list[object] = []
        watchlist = Watchlist(bench.loop, 0.25, 1.0, late.extend, expired.append)
        (attempt,) = bench.ask("a")._open
        watchlist.add(attempt)
        bench.loop.now += 0.1875
        await bench.turn()
        assert late == []
        bench.loop.now += 0.0625
        await bench.turn()
        assert (late, expired) == ([attempt], [])
        for _ in range(3):
            bench.loop.now += 0.75
            await bench.turn()
            assert (late, expired) == ([attempt], [attempt])
        watchlist.close()

    on_bench(test)


@pytest.mark.parametrize(
    ("rest", "reply"), [(TRUNCATED, TRUNCATED[:4] + bytes(6) + TRUNCATED[10:-2]), (MALFORMED, None)]
)
def test_a_reply_cut_short_when_tcp_is_silent(on_bench, rest, reply):
    """With TC it is worth something to a client: it may try TCP itself."""

    async def test(bench):
        sock = listen(bench.sinks[0])
        exchange = bench.ask("a")
        await bench.turn()
        bench.sinks[0].reply(rest=rest)
        with await accept(bench, sock):
            await bench.let_pass(6)
            assert exchange.done
        assert (exchange.reply and exchange.reply.wire[2:]) == reply
        if reply is None:
            assert exchange.ede_text == "no upstream sent a usable answer"

    on_bench(test, max_connect_attempts=1, read_timeout=2.0)


def test_a_pool_that_is_closed_connects_to_nobody(on_bench):
    async def test(bench):
        sock = listen(bench.sinks[0])
        exchange = bench.ask("a")
        with await accept(bench, sock) as connection:
            await bench.turn(100)
            assert connection.recv(100)
            bench.pool.close()
            assert exchange.done
            await bench.turn(100)
            with pytest.raises(BlockingIOError):
                sock.accept()

    on_bench(test, force_tcp=True)


def test_a_pool_that_is_closed_probes_nobody(on_bench):
    async def test(bench):
        bench.pool.start_checks()
        await bench.let_pass(0.1)
        (before,) = bench.counts()
        assert before
        bench.pool.close()
        await bench.let_pass(3)
        assert bench.counts() == [before]

    on_bench(test, max_fails=2)


@pytest.mark.parametrize(
    ("transport", "address", "scope"),
    [("dns", "fe80::1%lo", "lo"), ("dns", "2001:db8::1%lo", ""), ("tls", "fe80::1%lo", "")],
)
def test_the_zone_of_an_address_that_was_looked_up(transport, address, scope):
    host = Hostname("dns.example.", 53, transport, "")
    assert _target(host, address).scope == scope


@pytest.mark.parametrize("memory", [None, 1 << 20, 1 << 26])
def test_how_many_clients_may_wait_follows_the_memory_that_there_is(monkeypatch, memory):
    monkeypatch.setattr("corepy_forward.handler.cgroup_limit", lambda: memory)
    monkeypatch.setattr(limits.LIMIT, "most", 1)
    expected = limits.Limit()
    expected.configure(memory)
    with serve(".:0 {\nforward . 127.0.0.1:1 {\nmax_fails 0\n}\n}"):
        assert limits.LIMIT.most == expected.most > 1


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(), NO_REPLY),
        (TimeoutError(errno.ETIMEDOUT, "of the system"), "read: connection timed out"),
        (OSError(errno.ECONNREFUSED, "words of asyncio"), "read: connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "read: name or service not known"),
        (OSError("An odd one"), "an odd one"),
        (ValueError(), "valueerror"),
        (ValueError("No such thing"), "no such thing"),
    ],
    ids=repr,
)
def test_errors_in_words(error, text):
    assert explain(error, "read") == text


def test_the_question_of_a_probe(on_bench):
    async def test(bench):
        (check,) = bench.pool._checks.values()
        assert check.question == b"\7example\3org\0\0\2\0\1"
        assert check.body == b"\1\0\0\1\0\0\0\0\0\0" + check.question

    on_bench(test, health=HealthCheckOptions(domain="example.org."))


def lies(query, _proto):
    """Answer with another ID and another question first."""
    good = query.reply()
    good.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 {QTYPES[query.q.qtype]}"))
    wire = bytes(good.pack())
    other = dnslib.DNSRecord.question("other.example", "A")
    other.header.id = query.header.id
    forged = other.reply()
    forged.add_answer(*dnslib.RR.fromZone("other.example 60 A 192.0.2.66"))
    unasked = bytes((wire[0], wire[1] ^ 1)) + wire[2:-1] + b"\x66"
    return [unasked, bytes(forged.pack()), wire]


QTYPES = {1: "A 192.0.2.1", 28: "AAAA 2001:db8::1"}


def test_a_look_up_takes_only_the_reply_to_its_question():
    with Upstream(lies) as upstream:
        found = asyncio.run(_ask_resolvers("dns.example.", [upstream.to]))
    assert found == (["192.0.2.1", "2001:db8::1"], "")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[::1]:53", ("::1", "53")),
        ("192.0.2.1:53", ("192.0.2.1", "53")),
        ("[::1]", None),
        ("[::1", None),
        ("[::1]x53", None),
        ("[::1:53", None),
        ("[::1]:5:3", None),
        ("[::1]:[53", None),
        ("::1:53", None),
        ("192.0.2.1", None),
        ("192.0.2.1]:53", None),
    ],
)
def test_host_and_port(text, parts):
    assert split_host_port(text) == parts
