"""Sockets that cannot send, upstreams that are late, fail and recover; see `conftest.Bench`."""

import asyncio
import errno

import pytest

from corepy.dns.constants import SERVFAIL
from corepy.testing import Upstream, serve
from corepy_forward import attempt as attempt_module
from corepy_forward.udp import USES

SLOW = {"max_fails": 2}


def broken(number):
    """Return what a socket's `send` becomes that fails with this error."""

    def send(_data):
        raise OSError(number, "injected")

    return send


def test_a_query_that_cannot_be_sent_is_sent_over_another_socket(on_bench):
    async def test(bench):
        first = bench.ask("a")
        (bad,) = bench.sockets
        bad.send = broken(errno.ENETUNREACH)
        await bench.turn()
        assert bad.sock.fileno() == -1
        (good,) = bench.sockets
        assert good is not bad
        assert bench.counts() == [1]
        bench.sinks[0].reply()
        await bench.turn()
        assert first.reply is not None
        assert first._notes == (
            f"write udp {bench.upstreams[0].address} (attempt 1 of 4, 0.000s):"
            " write: network is unreachable",
        )
        assert bench.woken == ["a"]

    on_bench(test)


def test_when_nothing_can_be_sent_the_exchange_ends_and_says_why(on_bench):
    async def test(bench):
        exchange = bench.ask("a")
        for _ in range(2):
            bad = bench.upstreams[0]._udp._active
            bad.send = broken(errno.EPERM)
            await bench.turn(1)
        await bench.turn()
        lines = [
            f"write udp {bench.upstreams[0].address} (attempt {number} of 2, 0.000s):"
            " write: operation not permitted"
            for number in (1, 2)
        ]
        assert exchange.done
        assert exchange.reason == "; ".join(lines)
        assert exchange.ede == 23
        assert bench.sockets == set()

    on_bench(test, max_connect_attempts=2)


def test_what_waits_on_a_socket_that_breaks_is_asked_again(on_bench):
    """The kernel reports an error once, to whoever calls next; all that wait are concerned."""

    async def test(bench):
        first = bench.ask("a")
        await bench.turn()
        (bad,) = bench.sockets
        second, third = bench.ask("b"), bench.ask("c")
        bad.send = broken(errno.ECONNREFUSED)
        await bench.turn()
        assert bad.sock.fileno() == -1
        assert bench.counts() == [4]  # one of them before
        for _ in range(4):
            bench.sinks[0].reply()
        await bench.turn()
        assert [each.reply is not None for each in (first, second, third)] == [True] * 3
        assert sorted(bench.woken) == ["a", "b", "c"]

    on_bench(test)


def test_a_full_send_buffer_concerns_only_what_did_not_fit(on_bench):
    async def test(bench):
        first = bench.ask("a")
        await bench.turn()
        (full,) = bench.sockets
        second = bench.ask("b")
        full.send = broken(errno.EAGAIN)
        await bench.turn()
        assert full in bench.sockets
        assert bench.counts() == [2]
        bench.sinks[0].reply()
        await bench.turn()
        assert first.reply is not None
        assert first._notes == ()
        assert full.sock.fileno() == -1
        bench.sinks[0].reply()
        await bench.turn()
        assert second.reply is not None
        assert len(second._notes) == 1

    on_bench(test)


def test_a_full_socket_is_closed_when_nobody_waits_there(on_bench):
    async def test(bench):
        bench.ask("a")
        (full,) = bench.sockets
        full.send = broken(errno.EAGAIN)
        await bench.turn()
        assert full not in bench.sockets
        assert full.sock.fileno() == -1

    on_bench(test)


def test_a_socket_that_breaks_does_not_make_its_successor_forgotten(on_bench):
    """What the successor was to ask was no longer wanted: nothing would ever have closed it."""

    async def test(bench):
        exchange = bench.ask("a")
        (bad,) = bench.sockets
        bad.uses = USES
        bench.upstreams[0].cancel(bench.ask("b")._open[0])
        (successor,) = bench.sockets - {bad}
        bad.send = broken(errno.ENETUNREACH)
        await bench.turn()
        assert bench.sockets == {successor}
        assert exchange._open[0].link is successor

    on_bench(test)


def test_a_port_that_cannot_be_changed(on_bench):
    """connect(2) fails when the route is gone: the socket is closed and the query asks anew."""

    async def test(bench):
        bench.ask("a")
        await bench.turn()
        bench.sinks[0].reply()
        await bench.turn()
        (idle,) = bench.sockets
        pool, good = bench.upstreams[0]._udp, bench.upstreams[0]._udp._sockaddr
        pool._sockaddr = ("255.255.255.255", 53)  # EACCES without SO_BROADCAST
        exchange = bench.ask("b")
        pool._sockaddr = good
        assert idle.sock.fileno() == -1
        assert bench.sockets == set()
        await bench.turn()
        bench.sinks[0].reply()
        await bench.turn()
        assert exchange.reply is not None
        assert len(exchange._notes) == 1

    on_bench(test)


async def let_be_late(bench, count):
    exchanges = [bench.ask(f"n{number}") for number in range(count)]
    await bench.turn()
    await bench.let_pass(0.151)
    return exchanges


@pytest.mark.parametrize(("late", "is_suspect"), [(1, False), (2, False), (3, True), (4, True)])
def test_three_late_replies_in_a_row_make_an_upstream_suspect(on_bench, late, is_suspect):
    async def test(bench):
        await let_be_late(bench, late)
        first, second = bench.upstreams
        assert first.is_suspect is is_suspect
        assert bench.pool._preferred == ([second] if is_suspect else [first, second])

    on_bench(test, 2, **SLOW)


def test_a_reply_between_them_begins_the_row_anew(on_bench):
    async def test(bench):
        await let_be_late(bench, 2)
        bench.sinks[0].reply()
        await bench.turn()
        bench.upstreams[0]._watched.patience = 0.15
        await let_be_late(bench, 2)
        assert not bench.upstreams[0].is_suspect

    on_bench(test, 2, **SLOW)


def test_an_upstream_that_answers_again_is_trusted_at_once(on_bench):
    async def test(bench):
        await let_be_late(bench, 3)
        first, second = bench.upstreams
        assert bench.pool._preferred == [second]
        bench.sinks[0].reply()
        await bench.turn()
        assert not first.is_suspect
        assert bench.pool._preferred == [first, second]
        before = bench.counts()
        bench.ask("next")
        await bench.turn()
        assert bench.counts() == [before[0] + 1, before[1]]

    on_bench(test, 2, **SLOW)


@pytest.mark.parametrize(
    ("seconds", "patience"),
    [
        ([0.002], 0.03),  # 3 round-trip times at first; the least
        ([0.02], 0.06),
        ([0.2], 0.4),  # the most
        ([0.05, 0.05], 0.125),
        ([0.04, 0.08], 0.045 + 4 * 0.025),
        ([0.08, 0.04], 0.075 + 4 * 0.04),
    ],
)
def test_patience_follows_the_round_trip_times(on_bench, seconds, patience):
    """RFC 6298 section 2: alpha 1/8, beta 1/4, K 4. The next query is asked elsewhere then."""

    async def test(bench):
        for number, each in enumerate(seconds):
            bench.ask(f"n{number}")
            await bench.turn()
            bench.loop.now += each
            bench.sinks[0].reply()
            await bench.turn()
        assert bench.upstreams[0]._watched.patience == pytest.approx(patience)
        await bench.let_pass(0.5)  # until the timers that were set before have run out
        bench.ask("next")
        await bench.turn()
        await bench.let_pass(patience - 0.002)
        assert bench.counts() == [1, 0]
        await bench.let_pass(0.004)
        assert bench.counts() == [1, 1]

    on_bench(test, 2)


@pytest.mark.parametrize(
    ("count", "configured", "most"),
    [(1, None, 4), (2, None, 4), (3, None, 6), (2, 1, 1), (2, 5, 5), (1, 0, 64)],
)
def test_number_of_attempts(on_bench, count, configured, most):
    async def test(bench):
        for upstream in bench.upstreams:
            upstream._udp._sockaddr = ("255.255.255.255", 53)  # connect(2) fails with EACCES
        exchange = bench.ask("a")
        await bench.end_of(exchange)
        assert exchange.reply is None
        assert len(exchange._tried) == most
        each = {exchange._tried.count(upstream) for upstream in bench.upstreams}
        assert max(each) - min(each) <= 1

    on_bench(test, count, max_connect_attempts=configured)


@pytest.mark.parametrize(
    ("first", "suspect", "down", "order"),
    [
        (0, (), (), [0, 1, 2, 0, 1, 2]),
        (1, (), (), [1, 2, 0, 1, 2, 0]),
        (2, (), (), [2, 0, 1, 2, 0, 1]),
        (0, (1,), (), [0, 2, 0, 2, 0, 2]),
        (0, (), (1,), [0, 2, 0, 2, 0, 2]),
        (0, (0, 1, 2), (), [0, 1, 2, 0, 1, 2]),
        (0, (0,), (1, 2), [0, 1, 2, 0, 1, 2]),
    ],
)
def test_order_on_failover(on_bench, first, suspect, down, order):
    """Those that are well come first, then those tried least, in the order of the Corefile."""

    async def test(bench):
        for index in suspect:
            bench.upstreams[index].is_suspect = True
        for index in down:
            bench.upstreams[index].fails = 3
        tried = [bench.upstreams[first]]
        while len(tried) < len(order):
            tried.append(bench.pool.another(tried, new_only=False, is_full=lambda _each: False))
        assert [bench.upstreams.index(each) for each in tried] == order

    on_bench(test, 3, **SLOW)


def test_new_ones_only_and_full_ones_not(on_bench):
    async def test(bench):
        one, two, three = bench.upstreams
        another = bench.pool.another

        def nobody(_each):
            return False

        assert another([one], new_only=True, is_full=nobody) is two
        assert another([one, two], new_only=True, is_full=nobody) is three
        assert another([one, two, three], new_only=True, is_full=nobody) is None
        assert another([one], new_only=True, is_full=lambda each: each is two) is three
        assert another([one], new_only=False, is_full=lambda _each: True) is None

    on_bench(test, 3)


def test_what_is_in_flight_when_a_pool_closes_is_told(on_bench):
    async def test(bench):
        exchanges = [bench.ask("a"), bench.ask("b")]
        await bench.turn()
        bench.pool.close()
        await bench.turn()
        assert bench.woken == ["a", "b"]
        for each in exchanges:
            assert (each.done, each.reply, each.reason) == (True, None, "the server is stopping")
        assert bench.pool.flights == {}
        late = bench.ask("c")
        assert (late.done, late.reason) == (True, "the server is stopping")

    on_bench(test)


@pytest.mark.parametrize(
    ("begun", "elapsed", "allowed"), [(0, 2.0, 1000), (5000, 2.0, 1250), (5000, 1.25, 1400)]
)
def test_second_queries_of_a_second(on_bench, begun, elapsed, allowed):
    """A burst, and a tenth of the queries in each second before."""

    async def test(bench):
        pool = bench.pool
        assert pool.may_hedge()
        pool._begun = begun
        bench.loop.now += elapsed
        for _ in range(2):
            assert [pool.may_hedge() for _ in range(allowed + 2)] == [True] * allowed + [False] * 2
            bench.loop.now += 1.0
            assert not pool.may_hedge()  # the window is longer than a second
            pool._begun, pool._window = begun, bench.loop.now
            bench.loop.now += elapsed

    on_bench(test)


def test_failover_ends_with_the_last_reply_when_there_is_no_other_upstream(on_bench):
    async def test(bench):
        exchange = bench.ask("a")
        await bench.turn()
        bench.sinks[0].reply(rcode="SERVFAIL")
        await bench.turn()
        assert not exchange.done
        assert bench.counts() == [0, 1]
        bench.sinks[1].reply(rcode="SERVFAIL")
        await bench.turn()
        assert exchange.done
        assert exchange.reply.rcode == SERVFAIL
        assert exchange.upstream is bench.upstreams[1]
        assert bench.counts() == [0, 0]

    on_bench(test, 2, failover_rcodes=frozenset((SERVFAIL,)))


def test_failover_to_a_good_reply_says_who_answered(on_bench):
    async def test(bench):
        exchange = bench.ask("a")
        await bench.turn()
        bench.sinks[0].reply(rcode="SERVFAIL")
        await bench.turn()
        bench.sinks[1].reply()
        await bench.turn()
        assert (exchange.reply.rcode, exchange.upstream) == (0, bench.upstreams[1])

    on_bench(test, 2, failover_rcodes=frozenset((SERVFAIL,)))


def test_a_late_reply_of_the_first_upstream_still_counts(on_bench):
    async def test(bench):
        exchange = bench.ask("a")
        await bench.turn()
        await bench.let_pass(0.16)
        assert bench.counts() == [1, 1]
        bench.sinks[0].reply()
        await bench.turn()
        assert exchange.upstream is bench.upstreams[0]
        bench.sinks[1].reply()
        await bench.turn()
        assert exchange.upstream is bench.upstreams[0]
        assert bench.woken == ["a"]

    on_bench(test, 2)


MALFORMED = b"\x81\x80\0\1\0\1\0\0\0\0\1a\0\0\1\0\1\xc0"


def test_malformed_over_udp_and_refused_over_tcp_ends_at_once(on_bench):
    """Nothing is left to wait for; the log has both."""

    async def test(bench):
        exchange = bench.ask("a")
        await bench.turn()
        bench.sinks[0].reply(rest=MALFORMED)
        for _ in range(10_000):
            if bench.sinks[0].queries():
                break  # there is no TCP: asked for what UDP carries
            await asyncio.sleep(0)
        bench.sinks[0].reply(rest=MALFORMED)
        await bench.end_of(exchange)
        to = bench.upstreams[0].address
        assert exchange.reply is None
        assert exchange.reason == (
            f"dial tcp {to} (attempt 1 of 1, 0.000s): connect: connection refused;"
            f" read udp {to} (attempt 1 of 1, 0.000s): malformed reply"
        )
        assert exchange.ede == 23
        assert exchange.ede_text == "no upstream sent a usable answer"

    on_bench(test, max_connect_attempts=1)


def test_a_query_is_moved_to_another_connection_twice(caplog):
    def closes(_query, _proto):
        raise OSError

    options = "force_tcp\nmax_fails 0\nmax_connect_attempts 1\nread_timeout 30s"
    with (
        Upstream(closes) as upstream,
        serve(f".:0 {{\nforward . {upstream.to} {{\n{options}\n}}\n}}") as server,
    ):
        assert server.ask("example.org").header.rcode == SERVFAIL
        assert upstream.connections == len(upstream.queries) == 3


def test_identifiers_are_drawn_in_blocks(monkeypatch):
    """Each random number is used once, and the store does not grow."""
    asked = []

    def urandom(size):
        asked.append(size)
        return bytes(range(256)) * (size // 256)

    monkeypatch.setattr(attempt_module.os, "urandom", urandom)
    attempt_module._idents.clear()
    drawn = [attempt_module.draw_ident() for _ in range(1024)]
    assert asked == [1024, 1024]
    assert attempt_module._idents == []
    each = [bytes((i, i + 1)) for i in range(0, 256, 2)]
    assert sorted(drawn) == sorted(each * 8)
