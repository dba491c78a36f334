"""Decisions of one exchange: which replies it keeps, whom it asks next, and in which form."""

from types import SimpleNamespace
from typing import Any

import pytest

from corepy.dns.constants import SERVFAIL
from corepy.dns.edns import option
from corepy_forward import streams
from corepy_forward.exchange import Exchange
from corepy_forward.failures import NO_REPLY
from corepy_forward.metrics import HEDGED

QUESTION = b"\1a\0\0\1\0\1"
OPT = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
OPT_DO = b"\0\0\x29\4\xd0\0\0\x80\0\0\0"
LARGE = b"\0\0\x29\x10\0\0\0\0\0\0\0"
PLAIN = b"\1\0\0\1\0\0\0\0\0\0" + QUESTION
WITH_EDNS = PLAIN[:9] + b"\1" + QUESTION + OPT
WITH_DO = PLAIN[:9] + b"\1" + QUESTION + OPT_DO
FAILOVER = {"failover_rcodes": frozenset((SERVFAIL,))}
GRACE, RESEND = 0.4, 0.8
"""The documented values; imported ones would change along with a mistake."""

assert streams  # imported before the fixture replaces the clock of each module


def begin(bench, body=PLAIN, *, for_tcp=False):
    """Begin an exchange with this query."""
    return bench.pool.begin(QUESTION, body, for_tcp)


def asked(bench, number=0):
    """Return the queries over UDP that wait at an upstream, without their IDs."""
    bench.sinks[number].queries()
    return [wire[2:] for wire, _ in bench.sinks[number].waiting]


def protos(exchange):
    return [attempt.proto for attempt in exchange._open]


def listen(bench):
    for sink in bench.sinks:
        sink.tcp.listen()


async def connected(bench, exchange):
    """Return the only attempt once its connection is established."""
    (attempt,) = exchange._open
    for _ in range(1000):
        if attempt.link.is_connected:
            return attempt
        await bench.turn(1)
    raise AssertionError("the connection is not established")


def test_a_refusal_is_kept_while_the_query_without_edns_is_in_flight(on_bench):
    async def test(bench):
        exchange = begin(bench, WITH_EDNS)
        await bench.turn()
        bench.sinks[0].reply(rcode="SERVFAIL")
        await bench.turn()
        assert asked(bench) == [PLAIN]
        bench.upstreams[0].broke(exchange._open[0], "x")
        assert (exchange.done, exchange.reply.rcode) == (True, SERVFAIL)
        assert exchange.upstream is bench.upstreams[0]

    on_bench(test, max_connect_attempts=1)


async def both_asked_and_the_first_again(bench):
    exchange = begin(bench)
    await bench.turn()
    exchange.late(exchange._open[0])
    exchange._resend(exchange._open[0])
    await bench.turn()
    assert bench.counts() == [2, 1]
    bench.sinks[0].reply(rcode="SERVFAIL")
    await bench.turn()
    assert not exchange.done
    assert bench.counts() == [1, 1]
    return exchange


@pytest.mark.parametrize("rcode", ["SERVFAIL", "NOERROR"])
def test_failover_waits_for_the_upstreams_asked_already(on_bench, rcode):
    """It ends with one bad reply of each upstream, whatever else is in flight."""

    async def test(bench):
        exchange = await both_asked_and_the_first_again(bench)
        bench.sinks[1].reply(rcode=rcode)
        await bench.turn()
        assert exchange.done
        assert exchange.upstream is bench.upstreams[1]
        assert exchange.reply.rcode == (SERVFAIL if rcode == "SERVFAIL" else 0)

    on_bench(test, 2, **FAILOVER)


def test_failover_waits_for_a_slow_upstream_beside_one_that_fails_twice(on_bench):
    """The second query to the latter replaces none to the former."""

    async def test(bench):
        exchange = begin(bench)
        await bench.turn()
        exchange.late(exchange._open[0])
        await bench.turn()
        bench.sinks[1].reply(rcode="SERVFAIL")
        await bench.turn()
        exchange._retry(bench.loop.now)  # at the slow one again
        exchange._retry(bench.loop.now)
        await bench.turn()
        assert bench.counts() == [2, 1]
        bench.sinks[1].reply(rcode="SERVFAIL")
        await bench.turn()
        assert not exchange.done
        bench.sinks[0].reply()
        await bench.turn()
        assert (exchange.reply.rcode, exchange.upstream) == (0, bench.upstreams[0])

    on_bench(test, 2, max_connect_attempts=4, **FAILOVER)


def test_failover_to_an_upstream_that_fails(on_bench):
    async def test(bench):
        one, two = bench.upstreams
        exchange = begin(bench)
        await bench.turn()
        bench.sinks[0].reply(rcode="SERVFAIL")
        await bench.turn()
        two.broke(exchange._open[0], "x")
        assert (exchange.done, exchange.reply.rcode, exchange.upstream) == (True, SERVFAIL, one)
        assert exchange._notes == (
            f"read udp {one.address} (attempt 1 of 2, 0.000s): answered SERVFAIL",
            f"read udp {two.address} (attempt 2 of 2, 0.000s): x",
        )

    on_bench(test, 2, max_connect_attempts=2, **FAILOVER)


def test_failover_without_a_further_attempt(on_bench):
    async def test(bench):
        exchange = begin(bench)
        await bench.turn()
        bench.sinks[0].reply(rcode="SERVFAIL")
        await bench.turn()
        assert (exchange.done, exchange.reply.rcode) == (True, SERVFAIL)
        assert bench.counts() == [0, 0]

    on_bench(test, 2, max_connect_attempts=1, **FAILOVER)


def test_a_lost_query_is_answered_without_edns(on_bench):
    async def test(bench):
        exchange = begin(bench, WITH_EDNS)
        exchange._resend(exchange._open[0])
        await bench.turn()
        assert asked(bench) == [WITH_EDNS, PLAIN]
        bench.sinks[0].reply(1)
        await bench.turn()
        assert exchange.done

    on_bench(test)


@pytest.mark.parametrize("losses", [0, 1])
@pytest.mark.parametrize("is_answered", [False, True])
def test_a_client_that_needs_edns_waits_for_the_answer_with_it(on_bench, losses, is_answered):
    """Not if EDNS has been lost before."""

    async def test(bench):
        bench.upstreams[0].edns._losses = losses
        exchange = begin(bench, WITH_DO)
        exchange._resend(exchange._open[0])
        await bench.turn()
        assert asked(bench) == [WITH_DO, PLAIN]
        bench.sinks[0].reply(1)
        await bench.turn()
        assert exchange.done is bool(losses)
        if losses:
            return
        assert exchange.reply is not None
        kept = exchange.reply
        bench.loop.now += GRACE - 0.001
        await bench.turn()
        assert not exchange.done
        if is_answered:
            bench.sinks[0].reply()
        else:
            bench.loop.now += 0.002
        await bench.turn()
        assert exchange.done
        assert (exchange.reply is kept) is not is_answered

    on_bench(test)


def test_the_third_query_to_an_upstream_goes_over_tcp(on_bench):
    async def test(bench):
        exchange = begin(bench, WITH_EDNS)
        exchange._resend(exchange._open[0])
        exchange._resend(exchange._open[0])
        assert protos(exchange) == ["udp", "udp", "tcp"]
        assert [each.body for each in exchange._open] == [WITH_EDNS, PLAIN, WITH_EDNS]
        bench.upstreams[0].tcp.failed(bench.loop.now)
        exchange._resend(exchange._open[0])
        assert protos(exchange) == ["udp", "udp", "tcp", "udp"]

    on_bench(test)


@pytest.mark.parametrize(
    ("is_expected", "works", "body", "may"),
    [
        (False, False, WITH_EDNS, True),
        (False, False, WITH_DO, True),
        (False, True, WITH_EDNS, True),
        (False, True, WITH_DO, False),
        (True, False, WITH_EDNS, False),
    ],
)
def test_what_may_be_repeated_without_edns(on_bench, is_expected, works, body, may):
    async def test(bench):
        (upstream,) = bench.upstreams
        upstream.cookies.is_expected = is_expected
        upstream.edns._works_until = bench.loop.now + 1 if works else 0.0
        exchange = begin(bench, body)
        assert exchange._may_go_without(upstream, bench.loop.now) is may

    on_bench(test)


@pytest.mark.parametrize(("body", "sent"), [(WITH_EDNS, PLAIN), (WITH_DO, WITH_DO)])
def test_one_sign_against_edns(on_bench, body, sent):
    async def test(bench):
        bench.upstreams[0].lost_edns(bench.loop.now)
        begin(bench, body)
        await bench.turn()
        assert asked(bench) == [sent]

    on_bench(test)


def test_edns_that_is_refused_is_left_out_from_the_next_query_on(on_bench):
    async def test(bench):
        (upstream,) = bench.upstreams
        upstream.refused_edns(bench.loop.now)
        assert upstream.is_limited
        begin(bench, WITH_DO)
        await bench.turn()
        assert asked(bench) == [PLAIN]

    on_bench(test)


def test_a_query_after_a_lost_one_has_no_cookie(on_bench):
    async def test(bench):
        (upstream,) = bench.upstreams
        assert upstream.cookies.option
        upstream.lost_edns(bench.loop.now)
        assert (upstream.cookies.option, upstream.is_limited) == (b"", True)
        bench.loop.now += 60.0
        begin(bench)
        assert not upstream.is_limited  # EDNS is tried again

    on_bench(test, cookies=True)


@pytest.mark.parametrize(
    ("is_connected", "body", "works", "proto", "sent"),
    [
        (True, WITH_EDNS, False, "tcp", PLAIN),
        (True, WITH_EDNS, True, "udp", PLAIN[:9] + b"\1" + QUESTION + LARGE),
        (True, PLAIN, False, "udp", PLAIN),
        (False, WITH_EDNS, False, "udp", PLAIN[:9] + b"\1" + QUESTION + LARGE),
    ],
)
def test_a_query_over_tcp_is_repeated(on_bench, is_connected, body, works, proto, sent):
    async def test(bench):
        listen(bench)
        (upstream,) = bench.upstreams
        upstream.edns._works_until = bench.loop.now + 1 if works else 0.0
        exchange = begin(bench, body, for_tcp=True)
        attempt = await connected(bench, exchange)
        if not is_connected:
            attempt.link._transport, transport = None, attempt.link._transport
        hedged = HEDGED.labels(upstream.address)
        before = hedged.value
        exchange._resend(attempt)
        assert protos(exchange) == ["tcp", proto]
        assert exchange._open[1].body == sent
        assert hedged.value == before + 1
        if not is_connected:
            attempt.link._transport = transport

    on_bench(test)


@pytest.mark.parametrize(
    ("age", "heard", "sent", "waits"),
    [
        (RESEND, RESEND - 0.1, 0.0, True),
        (RESEND, RESEND - GRACE, 0.0, False),
        (RESEND, RESEND - 0.2, RESEND - 0.1, False),  # data of earlier replies
        (2 * RESEND - 0.01, 2 * RESEND - 0.02, 0.0, True),
        (2 * RESEND, 2 * RESEND - 0.02, 0.0, False),
    ],
)
def test_a_query_over_tcp_is_not_repeated_while_data_arrives(on_bench, age, heard, sent, waits):
    async def test(bench):
        listen(bench)
        bench.upstreams[0]._watched.patience = 30.0  # only this test calls `_resend`
        exchange = begin(bench, for_tcp=True)
        attempt = await connected(bench, exchange)
        attempt.link._heard = exchange.started + heard
        attempt.sent = exchange.started + sent
        bench.loop.now = exchange.started + age
        exchange._resend(attempt)
        assert protos(exchange) == (["tcp"] if waits else ["tcp", "udp"])
        if waits:
            bench.loop.now += GRACE - 0.001
            await bench.turn()
            assert protos(exchange) == ["tcp"]
            bench.loop.now += 0.002
            await bench.turn()
            assert protos(exchange) == ["tcp", "udp"]

    on_bench(test)


def test_a_query_that_has_failed_is_not_repeated(on_bench):
    async def test(bench):
        exchange = begin(bench)
        exchange.late(exchange._open[0])
        failed = exchange._open[0]
        bench.upstreams[0].broke(failed, "x")
        await bench.turn()
        before = bench.counts()
        exchange._resend(failed)
        await bench.turn()
        assert bench.counts() == before

    on_bench(test, 2, max_connect_attempts=9)


def test_nothing_is_repeated_after_the_end(on_bench):
    async def test(bench):
        exchange = begin(bench, for_tcp=True)
        exchange.late(exchange._open[0])
        first, second = exchange._open
        exchange.replied(second, b"ID\x81\x80\0\1" + bytes(6) + QUESTION)
        assert exchange.done
        exchange._resend(first)
        exchange.late(first)
        await bench.turn()
        assert bench.counts() == [0, 0]

    on_bench(test, 2)


def test_repeating_waits_for_a_place_at_any_upstream(on_bench, monkeypatch):
    async def test(bench):
        full = set(bench.upstreams)
        monkeypatch.setattr(Exchange, "is_full", lambda _self, upstream: upstream in full)
        exchange = begin(bench)
        first = exchange._open[0]
        exchange._resend(first)
        assert len(exchange._open) == 1
        bench.loop.now += GRACE - 0.001
        await bench.turn()
        full.clear()
        assert len(exchange._open) == 1
        bench.loop.now += 0.002
        await bench.turn()
        assert bench.counts() == [1, 1]
        full.add(bench.upstreams[0])
        exchange._resend(first)
        await bench.turn()
        assert bench.counts() == [1, 2]

    on_bench(test, 2)


@pytest.mark.parametrize(("for_tcp", "proto"), [(False, "udp"), (True, "tcp")])
def test_the_end_of_the_time_names_the_last_upstream(on_bench, for_tcp, proto):
    async def test(bench):
        exchange = begin(bench, for_tcp=for_tcp)
        exchange.late(exchange._open[0])
        assert exchange._tried == bench.upstreams
        exchange.out_of_time(exchange.started + 0.5)
        to = bench.upstreams[1].address
        assert exchange.reason == f"read {proto} {to} (gave up after 0.50s): {NO_REPLY}"

    on_bench(test, 2)


def test_the_end_of_the_time_of_an_exchange_that_has_not_begun(on_bench):
    async def test(bench):
        now = bench.loop.now
        exchange = Exchange(bench.pool, QUESTION, PLAIN, False, now)
        exchange.out_of_time(now)
        assert exchange.reason == (
            "gave up after 0.00s of waiting for 4 other queries for this name: i/o timeout"
        )

    on_bench(test)


@pytest.mark.pure_form("replaces methods of an object")
@pytest.mark.parametrize(
    ("body", "unusualness", "most"),
    [
        (WITH_EDNS, 0, 4),
        (b"\1\x20" + WITH_EDNS[2:], 0, 4),  # AD
        (b"\1\x10" + WITH_EDNS[2:], 1, 3),  # CD
        (WITH_DO, 1, 3),
        (b"\0" + WITH_EDNS[1:], 2, 2),  # without RD
        (WITH_EDNS[:-2] + b"\0\4\xfd\xe9\0\0", 2, 2),
    ],
)
def test_how_many_queries_for_one_question(on_bench, body, unusualness, most):
    async def test(bench):
        one, two = bench.upstreams
        exchange = Exchange(bench.pool, QUESTION, body, False, bench.loop.now)
        assert exchange.unusualness == unusualness
        at_one: Any = SimpleNamespace(upstream=one)
        for count in range(6):
            exchange._open = [at_one] * count
            assert exchange.is_full(one) is (count >= most)
            assert not exchange.is_full(two)
            found = [exchange.queries_at(one, least) for least in range(3)]
            assert found == [count] * (unusualness + 1) + [0] * (2 - unusualness)

    on_bench(test, 2)


def learn_cookie(upstream):
    assert upstream.proofs.given(option(10, upstream.cookies.option[4:12] + b"SERVER!!"))
    assert upstream.cookies.is_expected


def test_a_cookie_stays_expected_after_a_reply_over_tcp_without_one(on_bench):
    """Only a reply that was asked for because of the cookie shows that there is none."""

    async def test(bench):
        (upstream,) = bench.upstreams
        learn_cookie(upstream)
        exchange = begin(bench, WITH_EDNS, for_tcp=True)
        ede = option(15, b"\0\3")
        opt = OPT[:-1] + bytes((len(ede),)) + ede
        wire = b"ID\x81\x80\0\1\0\0\0\0\0\1" + QUESTION + opt
        exchange.replied(exchange._open[0], wire)
        assert (exchange.done, exchange.reply.options) == (True, ede)
        assert upstream.cookies.is_expected

    on_bench(test, cookies=True)


def test_an_answer_over_tcp_says_nothing_of_cookies(on_bench):
    async def test(bench):
        (upstream,) = bench.upstreams
        exchange = begin(bench, WITH_EDNS, for_tcp=True)
        assert exchange.detours.without_cookie is None
        exchange.replied(exchange._open[0], b"ID\x81\x80\0\1" + bytes(6) + QUESTION)
        assert exchange.done
        assert upstream.cookies.option != b""

    on_bench(test, cookies=True)
