"""What pools and upstreams do besides asking: timers, sockets, gauges, and the choice of others."""

import pytest

from corepy.dns.constants import SERVFAIL
from corepy.plugin import Pending
from corepy_forward import metrics, streams, udp
from corepy_forward.failures import HealthProbe
from corepy_forward.settings import HealthCheckOptions
from corepy_forward.udp import USES

QUESTION = b"\1a\0\0\1\0\1"
PLAIN = b"\1\0\0\1\0\0\0\0\0\0" + QUESTION
REPLY = b"\x81\x80\0\1" + bytes(6) + QUESTION
UNREACHABLE = ("255.255.255.255", 53)
"""connect(2) fails with EACCES without SO_BROADCAST."""

assert streams  # imported before the fixture replaces the clock of each module


def option_of(number):
    """Return an OPT record with an unknown option."""
    return b"\0\0\x29\4\xd0\0\0\0\0\0\4\xfd\xe9\0" + bytes((number,))


@pytest.mark.pure_form("replaces a method of an object")
@pytest.mark.parametrize(
    ("expire", "interval"), [(10.0, 5.0), (100.0, 5.0), (4.0, 2.0), (0.5, 0.25), (0.1, 0.25)]
)
def test_how_often_sockets_are_looked_at(on_bench, expire, interval):
    async def test(bench):
        (upstream,) = bench.upstreams
        times: list[float] = []
        upstream.tidy = times.append
        began = bench.loop.now
        for number in (1, 2):
            bench.loop.now = began + number * interval - 0.001
            await bench.turn()
            assert len(times) == number - 1
            bench.loop.now = began + number * interval
            await bench.turn()
            assert times == [began + each * interval for each in range(1, number + 1)]

    on_bench(test, expire=expire)


def test_an_upstream_tidies_all_it_has(on_bench):
    async def test(bench):
        (upstream,) = bench.upstreams
        now = bench.loop.now
        upstream.cookies.refused(now)
        upstream.guesses.count(QUESTION, now)
        upstream.tidy(now + 899.0)
        assert (upstream.cookies.option, bool(upstream.guesses)) == (b"", False)
        upstream.tidy(now + 900.0)
        assert upstream.cookies.option != b""

    on_bench(test, cookies=True)


def test_a_pool_that_is_closed_has_no_timer_and_no_socket(on_bench):
    async def test(bench):
        pool, (first, _) = bench.pool, bench.upstreams
        bench.ask("a")
        pool.watch_time()
        await bench.turn()
        number = next(iter(bench.sockets)).sock.fileno()
        pool.close()
        timers = [
            pool._tidy_timer,
            pool._sweep_timer,
            first._watched._young_timer,
        ]
        assert [each.cancelled() for each in timers] == [True] * 3
        assert (bench.sockets, first._udp._active) == (set(), None)
        assert not bench.loop.remove_reader(number)

    on_bench(test, 2)


@pytest.mark.parametrize("closes_first", [False, True])
def test_the_gauge_of_an_upstream_that_was_removed(on_bench, closes_first):
    """It is given back once, whether the pool is closed before or after its last exchange."""

    async def test(bench):
        pool, (first, second) = bench.pool, bench.upstreams
        pool.retarget([second.target])
        assert metrics._shown[first.address] == 1
        if closes_first:
            pool.close()
        bench.loop.now += pool.budget
        await bench.turn()
        assert pool._leaving == []
        assert first.address not in metrics._shown
        assert (first.address,) not in dict(metrics.UP.children())

    on_bench(test, 2)


def test_an_upstream_of_two_lines_has_one_gauge():
    address = "192.0.2.1:53"
    assert metrics.show_up(address) is metrics.show_up(address)
    metrics.hide_up(address)
    assert (address,) in dict(metrics.UP.children())
    metrics.hide_up(address)
    assert (address,) not in dict(metrics.UP.children())
    assert address not in metrics._shown


@pytest.mark.parametrize(("max_fails", "probes"), [(0, 0), (1, 1)])
def test_without_max_fails_there_are_no_probes(on_bench, max_fails, probes):
    async def test(bench):
        bench.pool.start_checks()
        await bench.turn()
        assert bench.counts() == [probes]

    on_bench(test, max_fails=max_fails)


def test_when_checks_begin(on_bench):
    async def test(bench):
        first, second = (sink.target for sink in bench.sinks)
        bench.pool.retarget([first])
        await bench.turn()
        assert bench.counts() == [0, 0]
        bench.pool.start_checks()
        await bench.turn()
        assert bench.counts() == [1, 0]
        bench.pool.retarget([first, second])
        await bench.turn()
        assert bench.counts() == [1, 1]

    on_bench(test, 2, max_fails=2)


@pytest.mark.parametrize("problem", ["failed", "late"])
def test_a_problem_starts_a_check(on_bench, problem):
    async def test(bench):
        (upstream,) = bench.upstreams
        exchange = bench.ask("a")
        (attempt,) = exchange._open
        if problem == "failed":
            upstream.broke(attempt, "x")
            assert upstream._watched.young == {}
        else:
            upstream._late([attempt] * 3)
        (check,) = bench.pool._checks.values()
        assert check._attempt is not None

    on_bench(test, max_fails=2, max_connect_attempts=1)


def test_a_query_that_expires_leaves_its_socket(on_bench):
    async def test(bench):
        exchange = bench.ask("a")
        (sock,) = bench.sockets
        await bench.turn()
        bench.upstreams[0]._expired(exchange._open[0])
        assert (exchange.done, sock.pending) == (True, {})

    on_bench(test, max_connect_attempts=1)


def test_replies_of_one_moment_are_one_sample(on_bench):
    async def test(bench):
        (upstream,) = bench.upstreams
        exchanges = [bench.ask(name) for name in "ab"]
        now = bench.loop.now
        for exchange, sent in zip(exchanges, (now - 0.25, now - 0.5), strict=True):
            (attempt,) = exchange._open
            attempt.sent = sent
            wire = b"ID\x81\x80\0\1" + bytes(6) + exchange.question
            upstream.arrived(attempt, wire, now)
        assert (upstream._srtt, upstream._variation) == (0.25, 0.125)
        await bench.turn()

    on_bench(test)


def test_clients_go_on_as_soon_as_their_reply_is_read(on_bench):
    """Not in the next turn of the event loop."""

    async def test(bench):
        exchange = bench.ask("a")
        pending = Pending(bench.pool.wakeups, lambda _reply: exchange.reply)
        exchange.waiters.append(pending)
        results: list[object] = []
        pending.deliver(results.append)
        await bench.turn()
        (sock,) = bench.sockets
        bench.sinks[0].reply()
        sock.on_readable()
        assert results == [pending]

    on_bench(test)


@pytest.mark.parametrize("failfast", [False, True])
def test_another_upstream_while_all_are_down(on_bench, failfast):
    async def test(bench):
        pool, (first, second) = bench.pool, bench.upstreams
        pool._preferred = []

        def nobody(_each):
            return False

        found = pool.another([first], new_only=False, is_full=nobody)
        assert found is (None if failfast else second)

    on_bench(test, 2, max_fails=2, failfast=failfast)


def test_after_an_upstream_that_was_removed_comes_the_first(on_bench):
    async def test(bench):
        pool, (first, second, third) = bench.pool, bench.upstreams
        pool.retarget([second.target, third.target])
        found = pool.another([first], new_only=False, is_full=lambda _each: False)
        assert found is second

    on_bench(test, 3)


def test_the_time_of_a_question_is_shorter_when_the_last_upstream_fails(on_bench):
    async def test(bench):
        exchange = bench.ask("a")
        bench.pool.watch_time()
        began = bench.loop.now
        for tenth in range(1, 11):
            bench.loop.now = began + tenth / 10
            await bench.turn()
        bench.upstreams[0].fails = 1
        for tenth in range(11, 19):
            bench.loop.now = began + tenth / 10
            await bench.turn()
        bench.loop.now = began + 1.899
        await bench.turn()
        assert not exchange.done
        bench.loop.now = began + 1.901
        await bench.turn()
        assert exchange.done

    on_bench(test, max_connect_attempts=1, read_timeout=2.0)


def test_the_time_of_a_question_ends_exactly(on_bench):
    async def test(bench):
        exchange = bench.ask("a")
        bench.loop.now = exchange.started + 3.9375
        bench.pool._sweep()
        assert not exchange.done
        bench.loop.now = exchange.started + 4.0
        bench.pool._sweep()
        assert exchange.done

    on_bench(test, read_timeout=2.0)


def test_crowds_are_of_one_question(on_bench):
    """Who asks the same later joins the crowd, as long as there is one."""

    async def test(bench):
        pool = bench.pool
        first = bench.ask("a")
        second = bench.beside(first, option_of(1))
        other = bench.ask("b")
        assert (other.crowd, other.key) == (None, other.question)
        assert pool._sweep_timer is not None  # for those that wait for a place
        first.fail("x")
        assert not second.done
        again = bench.ask("a")
        assert again.crowd is second.crowd
        assert set(pool.flights) == {second.key, again.key, other.key}
        await bench.turn()

    on_bench(test)


def test_which_exchange_a_client_over_tcp_joins(on_bench):
    async def test(bench):
        pool = bench.pool
        over_udp = bench.ask("a")
        over_tcp = pool.begin_for_tcp(over_udp.question, over_udp.body, None)
        assert over_tcp is not over_udp
        assert (over_udp.for_tcp, over_tcp.for_tcp) == (False, True)
        assert over_tcp.crowd is over_udp.crowd
        question = b"\1b\0\0\1\0\1"
        first = pool.begin_for_tcp(question, PLAIN[:10] + question, None)
        assert pool.begin_for_tcp(question, first.body, None) is first
        other = pool.begin_for_tcp(question, first.body[:9] + b"\1" + question + option_of(1), None)
        assert other is not first
        assert (first.for_tcp, other.for_tcp, first.crowd is other.crowd) == (True, True, True)
        await bench.turn()

    on_bench(test)


def test_what_waits_while_all_is_down_begins_when_a_place_is_free(on_bench):
    async def test(bench):
        bench.upstreams[0].fails = 3
        bench.pool._rate()
        first = bench.ask("a", with_edns=True)
        others = [bench.beside(first, option_of(number)) for number in range(4)]
        assert [len(each._tried) for each in others] == [1, 1, 0, 0]
        others[0].fail("x")
        assert [len(each._tried) for each in others] == [1, 1, 1, 0]
        others[1].fail("x")
        assert [len(each._tried) for each in others] == [1, 1, 1, 1]
        await bench.turn()

    on_bench(test, max_fails=2)


def test_a_port_that_was_changed_lives_anew(on_bench):
    async def test(bench):
        bench.ask("a")
        await bench.turn()
        bench.sinks[0].reply()
        await bench.turn()
        (sock,) = bench.sockets
        bench.loop.now += 5.0
        bench.ask("b")
        bench.ask("c")
        assert bench.sockets == {sock}
        assert (len(sock.pending), sock.uses) == (2, 2)
        await bench.turn()

    on_bench(test)


def test_a_used_socket_is_closed_with_its_last_query(on_bench):
    async def test(bench):
        first = bench.ask("a")
        (used,) = bench.sockets
        used.uses = USES
        bench.ask("b")
        assert len(bench.sockets) == 2
        bench.upstreams[0].cancel(first._open[0])
        assert used not in bench.sockets
        await bench.turn()

    on_bench(test)


def test_a_used_socket_is_closed_also_if_no_other_can_be_opened(on_bench):
    async def test(bench):
        first = bench.ask("a")
        (used,) = bench.sockets
        used.uses = USES
        bench.upstreams[0]._udp._sockaddr = UNREACHABLE
        bench.ask("b")
        bench.upstreams[0].cancel(first._open[0])
        assert bench.sockets == set()
        await bench.turn()

    on_bench(test, max_connect_attempts=1)


def test_only_the_question_that_is_guessed_at_moves(on_bench):
    async def test(bench):
        one, two = bench.ask("a"), bench.ask("b")
        bench.upstreams[0]._udp.guessed(one.question)
        assert [each._open[0].proto for each in (one, two)] == ["tcp", "udp"]
        await bench.turn()

    on_bench(test)


def test_messages_to_a_port_are_counted(on_bench, monkeypatch):
    monkeypatch.setattr(udp, "MOST_GUESSES", 3)

    async def test(bench):
        (upstream,) = bench.upstreams
        (attempt,) = bench.ask("a")._open
        (sock,) = bench.sockets
        told: list[object] = []
        attempt.owner = type("Owner", (), {"question": QUESTION, "guessed": told.append})()
        longer = b"ID" + bytes(10) + b"\1a\1b\0\0\1\0\1"
        counts = []
        for _ in range(7):
            sock._guessed(longer, bench.loop.now)
            counts.append(len(told))
        assert counts == [0, 0, 1, 1, 1, 2, 2]
        assert not upstream.guesses  # of another name
        sock._guessed(b"ID" + bytes(10) + b"\1A\0", bench.loop.now)
        assert upstream.guesses._counts == {QUESTION: (1, bench.loop.now)}
        await bench.turn()

    on_bench(test)


def test_the_least_pause_between_probes(on_bench):
    async def test(bench):
        (check,) = bench.pool._checks.values()
        assert check._interval == 0.01
        assert check.body == b"\0\0\0\1\0\0\0\0\0\0\0\0\2\0\1"
        check.stop()
        check.start()
        await bench.turn()
        assert bench.counts() == [0]

    options = HealthCheckOptions(interval=0.0, recursion_desired=False)
    on_bench(test, max_fails=1, health=options)


def test_a_probe_that_cannot_be_sent_has_failed(on_bench):
    async def test(bench):
        (upstream,) = bench.upstreams
        upstream._udp._sockaddr = UNREACHABLE
        bench.pool.start_checks()
        assert upstream.fails == 1
        bench.loop.now += 0.499
        await bench.turn()
        assert upstream.fails == 1
        bench.loop.now += 0.002
        await bench.turn()
        assert upstream.fails == 2

    on_bench(test, max_fails=2)


def test_a_probe_that_fails_early_and_one_that_gets_no_reply(on_bench):
    async def test(bench):
        (upstream,) = bench.upstreams
        (check,) = bench.pool._checks.values()
        began = bench.loop.now
        bench.pool.start_checks()
        probe = check._attempt
        await bench.turn()
        check.failed(bench.ask("a")._open[0], "x")  # it is not its probe
        assert upstream.fails == 0
        probe.link.forget(probe)
        check.failed(probe, "x")
        assert upstream.fails == 1
        for moment, fails in ((0.501, 1), (1.1, 1), (1.5, 1), (1.502, 2)):
            bench.loop.now = began + moment
            await bench.turn()
            assert upstream.fails == fails
        pending = [each for sock in bench.sockets for each in sock.pending.values()]
        assert {each.owner for each in pending} == set(bench.pool.flights.values())

    on_bench(test, max_fails=2)


def test_the_pause_between_probes_is_short_again_after_another_upstream_was_well(on_bench):
    async def test(bench):
        all_down = True
        probe = HealthProbe(bench.upstreams[0], lambda: all_down)
        found = []
        for all_down in (True, True, False, True, True):  # noqa: B007 - `probe` reads it
            probe._missed()
            found.append(probe._timer.when() - bench.loop.now)
        probe.stop()
        assert found == [0.5, 1.0, 0.5, 0.5, 1.0]

    on_bench(test)


def test_a_probe_is_content_with_any_reply(on_bench):
    async def test(bench):
        (upstream,) = bench.upstreams
        (check,) = bench.pool._checks.values()
        bench.pool.start_checks()
        assert check._attempt.proto == "tcp"
        upstream.fails = 1
        check.doubted(check._attempt, b"", "cookie")
        assert upstream.fails == 0

    on_bench(test, max_fails=2, force_tcp=True)


def test_an_error_of_the_only_attempt_with_failover_rcodes(on_bench):
    async def test(bench):
        exchange = bench.ask("a")
        await bench.turn()
        bench.sinks[0].reply(rcode="SERVFAIL")
        await bench.turn()
        assert (exchange.done, exchange._notes) == (True, ())

    on_bench(test, failover_rcodes=frozenset((SERVFAIL,)))
