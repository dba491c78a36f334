"""When forward closes, asks again and gives up, to the millisecond, and what it counts then."""

import asyncio
import socket
import struct

import pytest

from corepy.plugin import metrics
from corepy_forward import streams, udp
from corepy_forward.attempt import Attempt
from corepy_forward.failures import Watchlist
from corepy_forward.metrics import PROXY
from corepy_forward.targets import Target

BEFORE = 1e-6
TIMEOUT, TRUSTED = 1.0, 0.05
LIFETIME, USES = 1.0, 32
SHARE, MAX_CONNECTIONS, REDIAL_PAUSE = 32, 4, 0.1
"""The documented values; imported ones would change along with a mistake."""
EXPIRE = 10.0


def value(name, *labels):
    metric = next(m for m in metrics.registered() if m.name == name)
    child = dict(metric.children()).get(labels)
    return 0 if child is None else child.value


async def answered(bench, name="a"):
    exchange = bench.ask(name)
    await bench.turn()
    bench.sinks[0].reply(-1)
    await bench.turn()
    assert exchange.reply is not None
    return exchange


async def accepted(bench, count):
    """Return so many connections to the first upstream; time stands still meanwhile."""
    found = list[socket.socket]()
    for _ in range(100_000):
        if len(found) == count:
            return found
        try:
            found.append(bench.sinks[0].tcp.accept()[0])
        except BlockingIOError:
            await asyncio.sleep(0)
    raise AssertionError(f"{len(found)} connections, not {count}")


def none_connects(bench):
    with pytest.raises(BlockingIOError):
        bench.sinks[0].tcp.accept()


def test_an_idle_socket_is_closed_when_it_expires(on_bench):
    async def test(bench):
        await answered(bench)
        used = bench.loop.now
        upstream = bench.upstreams[0]
        (idle,) = bench.sockets
        upstream.tidy(used + EXPIRE - BEFORE)
        assert bench.sockets == {idle}
        bench.ask("b")
        upstream.tidy(used + EXPIRE)
        assert bench.sockets == {idle}  # a reply may still arrive there
        await bench.turn()
        bench.sinks[0].reply()
        await bench.turn()
        upstream.tidy(used + EXPIRE)
        assert bench.sockets == set()
        assert idle.sock.fileno() == -1
        upstream.tidy(used + 2 * EXPIRE)

    on_bench(test, expire=EXPIRE)


@pytest.mark.parametrize(
    ("age", "is_shared"), [(LIFETIME, True), (LIFETIME + 2 * BEFORE, False), (0.0, True)]
)
def test_a_port_with_pending_queries_is_used_for_a_second(on_bench, age, is_shared):
    async def test(bench):
        bench.ask("a")
        (first,) = bench.sockets
        bench.loop.now += age
        bench.ask("b")
        assert len(bench.sockets) == (1 if is_shared else 2)
        assert len(first.pending) == (2 if is_shared else 1)
        await bench.turn()

    on_bench(test)


def test_a_port_with_pending_queries_is_used_so_many_times(on_bench):
    async def test(bench):
        for number in range(USES):
            bench.ask(f"n{number}")
        assert [len(each.pending) for each in bench.sockets] == [USES]
        bench.ask("next")
        assert sorted(len(each.pending) for each in bench.sockets) == [1, USES]
        await bench.turn()

    on_bench(test)


def test_the_socket_with_the_fewest_queries_takes_more_when_no_more_may_be_open(on_bench):
    async def test(bench):
        pool = bench.upstreams[0]._udp
        pool._most = 2
        for number in range(2 * USES):
            bench.ask(f"n{number}")
        await bench.turn()
        first, second = bench.sockets
        if pool._active is first:
            first, second = second, first
        bench.sinks[0].queries()
        ports = [first.sock.getsockname()[1], second.sock.getsockname()[1]]
        asked = [address[1] for _, address in bench.sinks[0].waiting]
        bench.sinks[0].reply(asked.index(ports[0]))
        await bench.turn()
        assert (len(first.pending), len(second.pending)) == (USES - 1, USES)
        for number in range(USES):
            bench.ask(f"m{number}")
        assert (len(first.pending), len(second.pending)) == (2 * USES - 1, USES)
        bench.ask("last")
        assert (len(first.pending), len(second.pending)) == (2 * USES - 1, USES + 1)
        assert len(bench.sockets) == 2
        await bench.turn()

    on_bench(test)


def test_how_many_sockets_one_upstream_may_have(on_bench, monkeypatch):
    """An eighth of the descriptors of the process, so that other upstreams have some."""

    async def test(bench):
        for descriptors, most in ((8 * 512, 512), (1 << 20, 512), (8 * 511, 511), (1024, 128)):
            monkeypatch.setattr(
                udp, "descriptor_limit", lambda descriptors=descriptors: descriptors
            )
            upstream = bench.pool._open(Target("127.0.0.1", 1))
            assert upstream._udp._most == most
            upstream.close()

    on_bench(test)


def test_first_use_of_a_socket_and_later_ones_are_counted(on_bench):
    async def test(bench):
        labels = PROXY, bench.upstreams[0].address, "udp"
        counts = [
            (
                value("coredns_proxy_conn_cache_hits_total", *labels),
                value("coredns_proxy_conn_cache_misses_total", *labels),
            )
        ]
        for name in ("a", "b", "c"):
            await answered(bench, name)
            counts.append(
                (
                    value("coredns_proxy_conn_cache_hits_total", *labels),
                    value("coredns_proxy_conn_cache_misses_total", *labels),
                )
            )
        base = counts[0]
        assert [(hits - base[0], misses - base[1]) for hits, misses in counts] == [
            (0, 0),
            (0, 1),
            (1, 1),
            (2, 1),
        ]

    on_bench(test)


def long_reply(size):
    """Return all but the ID of a valid reply to "a" of this size in bytes."""
    head = b"\x81\x80\0\1\0\1\0\0\0\0\1a\0\0\1\0\1\xc0\x0c\0\x63\0\1\0\0\0\1"
    data = size - 2 - len(head) - 2
    return head + struct.pack("!H", data) + bytes(data)


@pytest.mark.parametrize(("size", "is_read"), [(512, True), (4096, True), (4097, False)])
def test_size_of_a_reply_over_udp(on_bench, size, is_read):
    """A longer one is cut; TCP, which the upstream refuses here, may have all of it."""

    async def test(bench):
        exchange = bench.ask("a")
        await bench.turn()
        bench.sinks[0].reply(rest=long_reply(size))
        await bench.turn()
        dropped = "corepy_forward_dropped_replies_total", bench.upstreams[0].address, "malformed"
        assert exchange.done is is_read
        assert value(*dropped) == (0 if is_read else 1)
        if is_read:
            assert len(exchange.reply.wire) == size

    on_bench(test)


def test_what_is_dropped_is_counted_by_what_is_wrong(on_bench):
    async def test(bench):
        to = bench.upstreams[0].address
        name = "corepy_forward_dropped_replies_total"
        exchange = bench.ask("a")
        await bench.turn()
        wire, address = bench.sinks[0].waiting[0] if bench.sinks[0].queries() else (b"", None)
        good = b"\x81\x80\0\1" + bytes(6) + wire[12:]
        for _ in range(2):
            bench.sinks[0].sock.sendto(bytes((wire[0], wire[1] ^ 1)) + good, address)
        bench.sinks[0].sock.sendto(wire[:2] + good.replace(b"\1a", b"\1b"), address)
        await bench.turn()
        assert (value(name, to, "id"), value(name, to, "question")) == (2, 1)
        assert not exchange.done
        (attempt,) = exchange._open
        assert attempt.mismatched == 1
        bench.upstreams[0].broke(attempt, "x")
        assert exchange._notes[0].endswith(
            "(attempt 1 of 4, 0.000s, replies to another question dropped: 1): x"
        )

    on_bench(test)


def test_how_long_replies_take_is_counted(on_bench):
    async def test(bench):
        name = "coredns_proxy_request_duration_seconds"
        metric = next(m for m in metrics.registered() if m.name == name)
        to = bench.upstreams[0].address
        for seconds, rcode in ((0.0625, "NOERROR"), (0.125, "NOERROR"), (0.0625, "REFUSED")):
            bench.ask("a")
            await bench.turn()
            bench.loop.now += seconds
            bench.sinks[0].reply(rcode=rcode)
            await bench.turn()
        children = dict(metric.children())
        good, refused = children[PROXY, to, "NOERROR"], children[PROXY, to, "REFUSED"]
        assert (good.total, refused.total) == (0.1875, 0.0625)
        for child, durations in ((good, [0.0625, 0.125]), (refused, [0.0625])):
            expected = [0] * (len(child.bounds) + 1)
            for each in durations:
                index = sum(bound < each for bound in child.bounds)
                expected[index] += 1
            assert child.counts == expected

    on_bench(test)


def test_second_queries_are_counted(on_bench):
    async def test(bench):
        one, two = (each.address for each in bench.upstreams)
        name = "corepy_forward_hedged_queries_total"
        bench.ask("a")
        await bench.turn()
        await bench.let_pass(0.152)
        assert (value(name, one), value(name, two)) == (1, 0)
        assert bench.counts() == [1, 1]

    on_bench(test, 2)


def test_a_probe_is_waited_for_a_second_and_a_failed_one_counts(on_bench):
    async def test(bench):
        (upstream,), (check,) = bench.upstreams, bench.pool._checks.values()
        failures = "coredns_proxy_healthcheck_failures_total", PROXY, upstream.address
        up = "corepy_forward_upstream_up", upstream.address

        async def at(seconds):
            bench.loop.now = seconds
            await bench.turn()
            return upstream.fails, bench.sinks[0].queries(), value(*failures)

        now = bench.loop.now
        bench.pool.start_checks()
        for fails, pause in enumerate((0.5, 1.0, 2.0, 2.0, 2.0)):
            assert await at(now + TIMEOUT - BEFORE) == (fails, fails + 1, fails)
            check.start()  # it runs
            now += TIMEOUT
            assert await at(now) == (fails + 1, fails + 1, fails + 1)
            assert upstream.is_down() is (fails + 1 > 2)
            assert value(*up) == (0 if fails + 1 > 2 else 1)
            assert await at(now + pause - BEFORE) == (fails + 1, fails + 1, fails + 1)
            now += pause
            assert await at(now) == (fails + 1, fails + 2, fails + 1)
        bench.sinks[0].reply(-1)
        assert await at(now) == (0, 5, 5)
        assert (upstream.is_down(), value(*up)) == (False, 1)
        bench.loop.now = now + TRUSTED - BEFORE
        check.start()
        assert await at(now + TRUSTED) == (0, 5, 5)
        check.start()
        assert await at(now + TRUSTED) == (0, 6, 5)
        now += TRUSTED + TIMEOUT
        assert await at(now) == (1, 6, 6)
        assert await at(now + 0.5 - BEFORE) == (1, 6, 6)
        assert await at(now + 0.5) == (1, 7, 6)

    on_bench(test, max_fails=2)


def test_probes_do_not_become_rarer_while_another_upstream_is_well(on_bench):
    async def test(bench):
        bench.pool.start_checks()
        await bench.turn()
        bench.sinks[1].reply()
        counts = []
        for _ in range(4):
            await bench.let_pass(TIMEOUT + 0.5)
            counts.append(bench.counts()[0])
        assert counts == [2, 3, 4, 5]

    on_bench(test, 2, max_fails=2)


def test_many_late_attempts_are_told_in_parts(on_bench):
    async def test(bench):
        late: list[list[Attempt]] = []
        expired: list[Attempt] = []
        watchlist = Watchlist(bench.loop, 0.25, 1.0, late.append, expired.append)
        attempts = [bench.ask(f"n{number}")._open[0] for number in range(20)]
        for attempt in attempts:
            watchlist.add(attempt)
        bench.loop.now += 0.25
        await bench.turn(2)
        assert late == [attempts[:16]]
        await bench.turn(20)
        assert late == [attempts[:16]]
        bench.loop.now += 0.001
        await bench.turn(2)
        assert late == [attempts[:16], attempts[16:]]
        watchlist.remove(attempts[0])
        watchlist.remove(attempts[1])
        bench.loop.now += 0.749
        await bench.turn(2)
        assert expired == attempts[2:18]
        bench.loop.now += 0.001
        await bench.turn(2)
        assert expired == attempts[2:]
        assert not watchlist.young
        assert not watchlist.old
        watchlist.add(attempts[3])  # one that continues over TCP
        assert attempts[3] in watchlist.old
        watchlist.close()
        bench.loop.now += 5.0
        await bench.turn()
        assert len(expired) == 18

    on_bench(test)


def test_a_connection_is_shared_by_so_many_queries(on_bench):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        upstream = bench.upstreams[0]
        for number in range(SHARE):
            bench.ask(f"n{number}")
        first = await accepted(bench, 1)
        await bench.turn(50)
        none_connects(bench)
        for number in range(SHARE, MAX_CONNECTIONS * SHARE):
            bench.ask(f"n{number}")
        rest = await accepted(bench, MAX_CONNECTIONS - 1)
        assert [len(each.pending) for each in upstream.streams._streams] == [SHARE] * 4
        for number in range(8):
            bench.ask(f"m{number}")
        await bench.turn(50)
        none_connects(bench)
        assert sorted(len(each.pending) for each in upstream.streams._streams) == [34] * 4
        for each in (*first, *rest):
            each.close()

    on_bench(test, force_tcp=True)


@pytest.mark.parametrize(("idle", "most"), [(1, 1), (3, 3), (4, 4), (9, 4)])
def test_max_idle_conns(on_bench, idle, most):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        for number in range((most + 1) * SHARE):
            bench.ask(f"n{number}")
        connections = await accepted(bench, most)
        await bench.turn(50)
        none_connects(bench)
        assert bench.upstreams[0].streams.connections == most
        for each in connections:
            each.close()

    on_bench(test, force_tcp=True, max_idle_conns=idle)


def test_a_connection_that_fails_is_not_tried_again_for_a_tenth_of_a_second(on_bench):
    async def test(bench):
        misses = (
            "coredns_proxy_conn_cache_misses_total", PROXY, bench.upstreams[0].address, "tcp"
        )  # fmt: skip
        refused = bench.ask("a")
        await bench.end_of(refused)
        assert value(*misses) == 1
        assert refused.reason.endswith("connect: connection refused")
        bench.loop.now += REDIAL_PAUSE - 0.001
        same = bench.ask("b")
        await bench.end_of(same)
        assert value(*misses) == 1
        assert same.reason == refused.reason
        bench.loop.now += 0.001
        bench.sinks[0].tcp.listen()
        bench.ask("c")
        (connection,) = await accepted(bench, 1)
        assert value(*misses) == 2
        connection.close()

    on_bench(test, force_tcp=True, max_connect_attempts=1)


def test_a_connection_gets_no_query_once_it_has_its_age(on_bench, monkeypatch):
    """A fifth of its age is random: all ones here."""
    monkeypatch.setattr(streams.os, "urandom", lambda size: b"\xff" * size)

    async def test(bench):
        bench.sinks[0].tcp.listen()
        bench.ask("a")
        (first,) = await accepted(bench, 1)
        pool = bench.upstreams[0].streams
        (stream,) = pool._streams
        opened = bench.loop.now
        assert not stream.is_aged(opened + 60.0 - BEFORE)
        assert stream.is_aged(opened + 60.0)
        bench.loop.now = opened + 60.0
        pool.tidy(bench.loop.now)
        assert pool._streams == [stream]  # a reply may still arrive there
        bench.ask("b")
        (second,) = await accepted(bench, 1)
        assert len(pool._streams) == 2
        for each in (first, second):
            each.close()

    on_bench(test, force_tcp=True, max_age=60.0, read_timeout=300.0)


@pytest.mark.parametrize(
    ("max_age", "bits", "age"),
    [(0, b"\0", float("inf")), (None, b"\0", 240.0), (None, b"\xff", 300.0), (60.0, b"\0", 48.0)],
)
def test_ages_of_connections(on_bench, monkeypatch, max_age, bits, age):
    monkeypatch.setattr(streams.os, "urandom", lambda size: bits * size)

    async def test(bench):
        assert bench.upstreams[0].streams._max_age() == pytest.approx(age)

    on_bench(test, max_age=max_age)


@pytest.mark.parametrize(
    ("read_timeout", "budget", "least"),
    [(1.0, 4.0, 1.9), (2.0, 4.0, 1.9), (2.5, 4.0, 2.5), (4.5, 4.5, 4.5)],
)
def test_how_long_a_question_may_take(on_bench, read_timeout, budget, least):
    async def test(bench):
        pool = bench.pool
        assert (pool.budget, pool.least_budget) == (budget, least)
        assert pool._budget_now() == budget
        bench.upstreams[0].fails = 1
        assert pool._budget_now() == least

    on_bench(test, read_timeout=read_timeout)


def test_what_takes_too_long_ends_a_few_at_a_time(on_bench):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        exchanges = [bench.ask(f"n{number}") for number in range(20)]
        await bench.turn()
        await bench.let_pass(3.999)
        assert bench.woken == []
        counts = []
        for _ in range(200):
            await bench.let_pass(0.001)
            counts.append(len(bench.woken))
        assert set(counts) >= {8, 16, 20}
        assert counts[100] == 20
        assert all(each.reply is None for each in exchanges)
        assert (
            exchanges[0]
            .reason.split("; ")[-1]
            .startswith(f"read udp {bench.upstreams[0].address} (gave up after 4.")
        )
        assert exchanges[0].ede == 22
        assert exchanges[0].ede_text == "no upstream answered"
        await bench.let_pass(1.0)  # nothing is left to end
        last = bench.ask("last")
        await bench.turn()
        await bench.let_pass(4.2)
        assert last.done

    on_bench(test, read_timeout=2.0, max_connect_attempts=0)


def test_all_upstreams_are_down_with_failfast(on_bench):
    async def test(bench):
        broken = "coredns_forward_healthcheck_broken_total"
        before = value(broken)
        bench.upstreams[0].fails = 2
        bench.pool._rate()
        sent = bench.ask("a")
        assert (sent.done, value(broken)) == (False, before)
        bench.upstreams[0].fails = 3
        bench.pool._rate()
        exchange = bench.ask("b")
        assert (exchange.done, exchange.reason) == (
            True,
            "failfast_all_unhealthy_upstreams is set: no healthy proxies",
        )
        assert value(broken) == before + 1
        await bench.turn()
        assert bench.counts() == [1]

    on_bench(test, max_fails=2, failfast=True)


def test_upstreams_that_change_while_queries_are_in_flight(on_bench):
    async def test(bench):
        pool, (first, second) = bench.pool, bench.upstreams
        exchange = bench.ask("a")
        await bench.turn()
        third = Target("127.0.0.1", 1)
        pool.retarget([bench.sinks[1].target, third])
        assert pool.upstreams[0] is second
        assert [each.target for each in pool.upstreams] == [bench.sinks[1].target, third]
        assert pool.max_attempts == 4
        assert first not in pool._checks
        assert len(pool._checks) == 2
        await bench.let_pass(0.1)
        bench.sinks[0].reply()
        await bench.turn()
        assert exchange.upstream is first
        await bench.let_pass(pool.budget - 0.102)
        assert first._udp._open
        await bench.let_pass(0.004)
        assert not first._udp._open
        pool.retarget([Target("127.0.0.1", number) for number in (1, 2, 3)])
        assert pool.max_attempts == 6
        assert pool._leaving == [second]

    on_bench(test, 2, read_timeout=2.0)


def test_a_second_loss_is_repeated_without_edns(on_bench):
    """Also for the root, whose name in wire form is a zero; and it counts against EDNS once."""

    async def test(bench):
        upstream = bench.upstreams[0]
        for name in ("", "a"):
            upstream.edns._losses, upstream.edns._avoid_until = 0, 0.0
            question = (bytes((len(name),)) + name.encode() if name else b"") + b"\0\0\1\0\1"
            exchange = bench.pool.begin(
                question, b"\1\0\0\1\0\0\0\0\0\1" + question + b"\0\0\x29\4\xd0\0\0\0\0\0\0", False
            )
            await bench.turn()
            await bench.let_pass(0.81)
            bench.sinks[0].queries()
            first, second = (wire for wire, _ in bench.sinks[0].waiting)
            assert (first[11], second[11]) == (1, 0)
            assert second[2:10] + second[12:] == first[2:10] + question
            bench.sinks[0].reply(1)
            await bench.turn()
            assert exchange.reply is not None
            assert upstream.edns._losses == 1
            assert upstream.edns.is_off(bench.loop.now, needed=False)
            bench.sinks[0].waiting.clear()
        exchange = bench.ask("b", with_edns=True)  # now without EDNS from the beginning
        await bench.turn()
        await bench.let_pass(0.81)
        bench.sinks[0].queries()
        assert [wire[11] for wire, _ in bench.sinks[0].waiting] == [0, 0]
        bench.sinks[0].reply(1)
        await bench.turn()
        assert exchange.reply is not None
        assert upstream.edns._losses == 1  # nothing new was learnt

    on_bench(test)


def test_a_cookie_stays_expected_of_an_upstream_that_changes_the_case(on_bench):
    async def test(bench):
        upstream = bench.upstreams[0]
        for number in range(2):
            exchange = bench.ask(f"n{number}", with_edns=True)
            await bench.turn()
            ((wire, _),) = bench.sinks[0].waiting if bench.sinks[0].queries() else [(b"", 0)]
            end = wire.index(b"\0", 12) + 5
            cookie = b"\0\x0a\0\x10" + upstream.cookies.option[4:12] + b"SERVER!!"
            opt = wire[end : end + 9] + b"\0\x18" + cookie + b"\0\x0f\0\0"
            opt = opt[:9] + len(opt[11:]).to_bytes(2, "big") + opt[11:]
            name = wire[12:end].replace(b"n", b"N")
            assert wire[2 + 10 :] != name
            ede = opt[:-4] + b"\0\x0f\0\2\0\1"
            ede = ede[:9] + len(ede[11:]).to_bytes(2, "big") + ede[11:]
            bench.sinks[0].reply(rest=b"\x81\x80\0\1" + bytes(5) + b"\1" + name + ede)
            await bench.turn()
            assert exchange.reply is not None
            assert exchange.reply.options == b"\0\x0f\0\2\0\1"
            assert upstream.cookies.is_expected

    on_bench(test, cookies=True)


def test_the_log_has_eight_attempts_at_most(on_bench):
    async def test(bench):
        bench.upstreams[0]._udp._sockaddr = ("255.255.255.255", 53)  # connect(2) fails
        exchange = bench.ask("a")
        await bench.end_of(exchange)
        assert len(exchange._notes) == 8
        assert "(attempt 8 of 12, 0.000s)" in exchange._notes[-1]

    on_bench(test, max_connect_attempts=12)


def test_the_probe_of_an_upstream_that_was_removed_is_the_last(on_bench):
    async def test(bench):
        first, second = bench.upstreams
        bench.pool.start_checks()
        await bench.turn()
        assert bench.counts() == [1, 1]
        bench.sinks[1].reply()
        bench.pool.retarget([second.target])
        (sock,) = first._udp._open
        sock.fail(OSError(111, "injected"))
        await bench.let_pass(TIMEOUT + 1.0)
        assert bench.counts() == [1, 0]
        assert first.fails == 0

    on_bench(test, 2, max_fails=2)


def test_a_source_address_leaves_the_port_to_the_kernel(on_bench):
    async def test(bench):
        bench.ask("a")
        (first,) = bench.sockets
        first.uses = USES
        bench.ask("b")
        await bench.turn()
        assert bench.counts() == [2]
        hosts, ports = zip(*(address for _, address in bench.sinks[0].waiting), strict=True)
        assert set(hosts) == {"127.0.0.2"}
        assert len(set(ports)) == 2
        assert min(ports) >= 1024

    on_bench(test, source_address="127.0.0.2")


def test_max_fails_0_means_that_nothing_is_down(on_bench):
    async def test(bench):
        (upstream,) = bench.upstreams
        upstream.fails = 5
        assert not upstream.is_down()
        upstream.settings.max_fails = 5
        assert not upstream.is_down()
        upstream.fails = 6
        assert upstream.is_down()

    on_bench(test, max_fails=0)


def test_the_policy_chooses_among_several(on_bench):
    async def test(bench):
        first, second = bench.upstreams
        asked = [bench.ask(f"n{number}")._tried for number in range(4)]
        assert asked == [[second], [first], [second], [first]]
        bench.pool._preferred = [first]
        assert bench.ask("next")._tried == [first]
        await bench.turn()

    on_bench(test, 2, policy="round_robin")


def test_the_usual_query_is_the_first_attempt(on_bench):
    async def test(bench):
        exchange = bench.ask("a", with_edns=True)
        await bench.turn()
        bench.upstreams[0].broke(exchange._open[0], "x")
        assert exchange._notes[0].endswith("(attempt 1 of 4, 0.000s): x")
        bench.upstreams[0].broke(exchange._open[0], "y")
        assert exchange._notes[1].endswith("(attempt 2 of 4, 0.000s): y")

    on_bench(test)


def test_what_the_health_of_an_upstream_changes(on_bench):
    async def test(bench):
        first, second = bench.upstreams
        for _ in range(2):
            first.unhealthy()
        assert bench.pool._preferred == [first, second]
        first.unhealthy()
        assert bench.pool._preferred == [second]
        second.is_suspect = True
        second.unhealthy()
        assert bench.pool._preferred == [second]  # a suspect is better than one that is down
        first.healthy()
        assert bench.pool._preferred == [first]
        second.healthy()
        assert bench.pool._preferred == [first, second]
        assert (first.fails, second.fails, second.is_suspect) == (0, 0, False)

    on_bench(test, 2, max_fails=2)


def test_what_is_cancelled_is_waited_for_no_longer(on_bench):
    async def test(bench):
        exchange = bench.ask("a")
        await bench.turn()
        (attempt,), (sock,) = exchange._open, bench.sockets
        assert sock.pending
        bench.upstreams[0].cancel(attempt)
        assert sock.pending == {}
        await bench.let_pass(0.2)
        assert not attempt.is_late

    on_bench(test)
