"""Replies that are not final, on the bench: what is asked because of them, and how long it takes."""

from types import SimpleNamespace

import pytest

from corepy.dns.constants import BADVERS, FORMERR, SERVFAIL
from corepy.dns.edns import option
from corepy_forward import metrics, streams

QUESTION = b"\1a\0\0\1\0\1"
OPT = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
LARGE = b"\0\0\x29\x10\0\0\0\0\0\0\0"
PLAIN = b"\1\0\0\1\0\0\0\0\0\0" + QUESTION
WITH_EDNS = PLAIN[:9] + b"\1" + QUESTION + OPT
WITH_OPTION = WITH_EDNS[:-2] + b"\0\4\xfd\xe9\0\0"
TRUNCATED = b"\x83\x80\0\1" + bytes(6) + QUESTION
CUT = b"\x83\x80\0\1\0\2\0\0\0\0" + QUESTION + b"\1x"
MALFORMED = b"\x81" + CUT[1:]
PATIENCE, LEAST_PATIENCE, DEAD = 1.0, 0.75, 60.0
"""The documented values; imported ones would change along with a mistake."""

assert streams  # imported before the fixture replaces the clock of each module


def begin(bench, body=PLAIN, *, for_tcp=False):
    return bench.pool.begin(QUESTION, body, for_tcp)


def protos(exchange):
    return [attempt.proto for attempt in exchange._open]


async def answered(bench, rest, number=0):
    """Let an upstream send this reply, without its ID."""
    await bench.turn()
    bench.sinks[0].reply(number, rest=rest)
    await bench.turn()


async def at(bench, moment):
    bench.loop.now = moment
    await bench.turn()


@pytest.mark.parametrize("for_tcp", [False, True])
def test_a_truncated_reply_while_tcp_is_dead(on_bench, for_tcp):
    """A large reply over UDP is asked for; if that is truncated too, the client's way decides."""

    async def test(bench):
        bench.sinks[0].tcp.listen()
        (upstream,) = bench.upstreams
        upstream.tcp.failed(bench.loop.now)
        exchange = begin(bench, WITH_EDNS, for_tcp=for_tcp)
        await answered(bench, TRUNCATED)
        assert [each.body for each in exchange._open] == [WITH_EDNS[:-11] + LARGE]
        assert (exchange.reply is None) is for_tcp
        await answered(bench, TRUNCATED)
        assert exchange.done is not for_tcp
        assert protos(exchange) == (["tcp"] if for_tcp else [])
        if not for_tcp:
            assert exchange.reply.wire[2:] == TRUNCATED

    on_bench(test, prefer_udp=True)


def test_a_large_reply_that_does_not_arrive(on_bench):
    async def test(bench):
        bench.upstreams[0].tcp.failed(bench.loop.now)
        exchange = begin(bench, WITH_EDNS)
        began = bench.loop.now
        await answered(bench, TRUNCATED)
        await at(bench, began + PATIENCE - 0.001)
        assert not exchange.done
        await at(bench, began + PATIENCE + 0.001)
        assert exchange.done
        assert exchange.reply.wire[2:] == TRUNCATED

    on_bench(test, max_connect_attempts=1)


@pytest.mark.parametrize("is_tcp_in_flight", [False, True])
def test_an_answer_over_udp_while_tcp_is_silent(on_bench, is_tcp_in_flight):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        (upstream,) = bench.upstreams
        if not is_tcp_in_flight:
            upstream.tcp.failed(bench.loop.now)
        exchange = begin(bench, for_tcp=True)
        if is_tcp_in_flight:
            exchange._resend(exchange._open[0])
        bench.loop.now += 0.125
        await answered(bench, b"\x81\x80\0\1" + bytes(6) + QUESTION)
        assert exchange.done
        failed = bench.loop.now if is_tcp_in_flight else bench.loop.now - 0.125
        assert upstream.tcp.dead_until == failed + DEAD

    on_bench(test)


def test_a_malformed_reply_leads_to_tcp_and_no_further(on_bench):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        exchange = begin(bench)
        await answered(bench, MALFORMED)
        assert protos(exchange) == ["tcp"]
        await at(bench, exchange.started + 0.151)
        await at(bench, exchange.started + 0.96)
        assert (exchange.done, protos(exchange), bench.counts()) == (False, ["tcp"], [0])

    on_bench(test)


def test_a_reply_that_is_truncated_and_malformed_is_held_back(on_bench):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        exchange = begin(bench)
        began = bench.loop.now
        await answered(bench, CUT)
        await at(bench, began + PATIENCE - 0.001)
        assert (exchange.done, protos(exchange)) == (False, ["tcp"])
        await at(bench, began + PATIENCE + 0.001)
        assert exchange.done
        assert exchange.reply.wire[2:] == TRUNCATED

    on_bench(test)


@pytest.mark.parametrize(
    ("rcode", "for_tcp", "ends"), [(5, False, True), (0, False, True), (5, True, True)]
)
def test_a_bare_header_over_udp(on_bench, rcode, for_tcp, ends):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        exchange = begin(bench, for_tcp=for_tcp)
        began = bench.loop.now
        await answered(bench, bytes((0x81, 0x80 | rcode)) + bytes(8))
        assert (protos(exchange), bench.counts()) == (["tcp"], [0])
        expected = b"\0\0\x81" + bytes((0x80 | rcode,)) + b"\0\1" + bytes(6) + QUESTION
        assert (exchange.reply and exchange.reply.wire) == (expected if rcode else None)
        await at(bench, began + PATIENCE - 0.001)
        assert not exchange.done
        await at(bench, began + PATIENCE + 0.001)
        assert exchange.done is ends

    on_bench(test, prefer_udp=True)


def test_a_bare_header_without_error_is_nothing_for_a_client_over_tcp(on_bench):
    async def test(bench):
        bench.sinks[0].tcp.listen()
        exchange = begin(bench, for_tcp=True)
        await answered(bench, b"\x81\x80" + bytes(8))
        await at(bench, exchange.started + PATIENCE + 0.001)
        assert not exchange.done

    on_bench(test, prefer_udp=True)


def test_a_bare_header_as_the_last_attempt(on_bench):
    async def test(bench):
        (upstream, _) = bench.upstreams
        upstream.tcp.failed(bench.loop.now)
        exchange = begin(bench)
        await answered(bench, b"\x81\x85" + bytes(8))
        assert exchange.done
        assert exchange.reply.wire[2:6] == b"\x81\x85\0\1"

    on_bench(test, 2, max_connect_attempts=1)


async def with_earlier_data(bench):
    """Return an exchange whose query moved to a connection with earlier data."""
    (upstream,) = bench.upstreams
    bench.sinks[0].tcp.listen()
    upstream.tcp.took(0.01)
    exchange = begin(bench)
    await answered(bench, TRUNCATED)
    (attempt,) = exchange._open
    for _ in range(1000):
        if attempt.link.is_connected:
            return exchange
        await bench.turn(1)
    raise AssertionError("the connection is not established")


@pytest.mark.parametrize(("heard", "is_held"), [(-0.1, False), (0.1, True)])
def test_data_that_arrived_before_the_query_moved_is_no_part_of_its_reply(on_bench, heard, is_held):
    async def test(bench):
        exchange = await with_earlier_data(bench)
        began = bench.loop.now
        exchange._open[0].link._heard = began + heard
        await at(bench, began + LEAST_PATIENCE - 0.001)
        assert not exchange.done
        await at(bench, began + LEAST_PATIENCE + 0.001)
        assert exchange.done is not is_held
        assert bench.upstreams[0].tcp.is_dead(bench.loop.now) is not is_held

    on_bench(test)


NOTHING, NO_COOKIE, NO_EDNS = "accepted", "without the cookie", "without EDNS"


@pytest.mark.pure_form("has a stand-in for an object of a compiled class")
@pytest.mark.parametrize(
    ("body", "rcode", "works", "options", "asked"),
    [
        # options of the reply: None without OPT
        (WITH_EDNS, SERVFAIL, False, None, NO_EDNS),
        (WITH_EDNS, SERVFAIL, False, b"", NO_EDNS),
        (WITH_EDNS, SERVFAIL, False, option(15, b"\0\6"), NOTHING),
        (WITH_EDNS, SERVFAIL, True, None, NOTHING),
        (WITH_OPTION, SERVFAIL, False, None, NOTHING),
        (WITH_EDNS, FORMERR, False, None, NO_COOKIE),
        (WITH_EDNS, FORMERR, False, b"", NO_COOKIE),
        (WITH_EDNS, FORMERR, True, None, NO_EDNS),
        (WITH_EDNS, FORMERR, True, b"", NOTHING),
        (WITH_EDNS, BADVERS, True, b"", NO_EDNS),
        (PLAIN, FORMERR, False, None, NOTHING),
    ],
)
def test_what_is_asked_after_a_refusal(on_bench, body, rcode, works, options, asked):
    async def test(bench):
        (upstream,) = bench.upstreams
        upstream.edns._works_until = bench.loop.now + 1 if works else 0.0
        exchange = begin(bench, body)
        attempt = exchange._open.pop()
        reply = None if options is None else SimpleNamespace(options=options)
        assert exchange._ask_plainer(attempt, rcode, reply) is (asked != NOTHING)
        bodies = {NOTHING: [], NO_COOKIE: [body], NO_EDNS: [PLAIN]}[asked]
        assert [each.body for each in exchange._open] == bodies
        assert [each.number for each in exchange._open] == [1] * len(bodies)
        detours = exchange.detours
        assert detours.without_cookie is (upstream if asked == NO_COOKIE else None)
        assert detours.refused_by is (upstream if asked == NO_EDNS else None)
        assert detours.refused_with == (rcode if asked == NO_EDNS else 0)

    on_bench(test, cookies=True)


@pytest.mark.parametrize("rcode", [6, 9])
def test_errors_that_edns_cannot_cause(on_bench, rcode):
    """YXDOMAIN and NOTAUTH."""

    async def test(bench):
        exchange = begin(bench, WITH_EDNS)
        await answered(bench, bytes((0x81, 0x80 | rcode)) + b"\0\1" + bytes(6) + QUESTION)
        assert (exchange.done, exchange.reply.rcode, bench.counts()) == (True, rcode, [0])

    on_bench(test)


def test_a_refusal_of_a_query_without_a_cookie(on_bench):
    """There is only EDNS to leave out."""

    async def test(bench):
        exchange = begin(bench, WITH_EDNS)
        attempt = exchange._open.pop()
        assert exchange._ask_plainer(attempt, FORMERR, None)
        assert [each.body for each in exchange._open] == [PLAIN]

    on_bench(test)


@pytest.mark.parametrize("is_dead", [False, True])
def test_a_reply_without_proof(on_bench, is_dead):
    async def test(bench):
        (upstream,) = bench.upstreams
        dropped = metrics.DROPPED.labels(upstream.address, "case")
        before = dropped.value
        if is_dead:
            upstream.tcp.failed(bench.loop.now)
        exchange = begin(bench)
        (attempt,) = exchange._open
        attempt.link.pending.clear()
        attempt.body = PLAIN.replace(b"a", b"A")
        upstream.prove(attempt, b"ID\x81\x80\0\1" + bytes(6) + QUESTION, bench.loop.now)
        assert dropped.value == before + 1
        assert exchange.done is is_dead
        assert exchange._open == ([] if is_dead else [attempt])
        assert upstream.proofs.mixes_case(bench.loop.now) is not is_dead
        if not is_dead:
            assert attempt.proto == "tcp"
            assert exchange.detours.lacked == {attempt: "case"}

    on_bench(test, random_case=True)


def test_a_reply_without_proof_after_the_end(on_bench):
    async def test(bench):
        (upstream,) = bench.upstreams
        exchange = begin(bench)
        (attempt,) = exchange._open
        exchange.fail("x")
        exchange.doubted(attempt, b"", "cookie")
        assert upstream._watched.young == {}
        assert attempt.link.pending == {}
        assert protos(exchange) == ["udp"]

    on_bench(test)


@pytest.mark.parametrize("prevented", ["", "dead", "done", "not in flight"])
def test_a_question_that_may_be_guessed_at_moves_to_tcp(on_bench, prevented):
    async def test(bench):
        (upstream,) = bench.upstreams
        exchange = begin(bench)
        (attempt,) = exchange._open
        sock = attempt.link
        if prevented == "dead":
            upstream.tcp.failed(bench.loop.now)
        elif prevented == "done":
            exchange.done = True
        elif prevented:
            exchange._open.clear()
        exchange.guessed(attempt)
        assert upstream.is_limited
        assert attempt.proto == ("udp" if prevented else "tcp")
        assert exchange._open == ([] if prevented == "not in flight" else [attempt])
        assert list(sock.pending.values()) == ([attempt] if prevented else [])

    on_bench(test)
