"""Connections and sockets: how many, how old, how idle; what metrics and metadata say."""

import asyncio
import concurrent.futures
import itertools
import socket
import struct
import threading
import time
from functools import partial

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.plugin import metrics
from corepy.testing import Upstream, make_request
from corepy.testing import serve as serve_with_timers
from corepy.testing.command import wait_until
from corepy_forward import pool as pool_module
from corepy_forward import streams
from corepy_forward.attempt import Attempt, answers, is_bare
from corepy_forward.handler import Forward
from corepy_forward.limits import LEAST, LIMIT, MOST, Limit
from corepy_forward.metrics import PROXY

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine

PATIENT = ("max_fails 0", "read_timeout 30s")


def answer(query, _proto=""):
    reply = query.reply(ra=1, aa=0)
    reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 IN A 192.0.2.7"))
    return reply


def behind(gate):
    """Return a behaviour that answers when the event `gate` is set."""

    def behave(query, proto):
        gate.wait(60)
        return answer(query, proto)

    return behave


def refuses_behind(gate):
    """Return a behaviour that answers SERVFAIL when the event `gate` is set."""

    def behave(query, _proto):
        gate.wait(60)
        reply = query.reply()
        reply.header.rcode = 2
        return reply

    return behave


def handler_of(server):
    return server.plugins(Forward)[0]


def corefile(upstream, *options):
    lines = "\n".join(options)
    return f".:0 {{\nforward . {upstream.to} {{\n{lines}\n}}\n}}"


def value(name, *labels):
    metric = next(m for m in metrics.registered() if m.name == name)
    return metric.labels(*labels).value


def test_at_most_four_connections():
    with Upstream(answer) as upstream, serve(corefile(upstream, "force_tcp")) as server:
        names = [f"n{i}.example" for i in range(600)]
        with concurrent.futures.ThreadPoolExecutor(200) as pool:
            assert all(reply.rr for reply in pool.map(server.ask, names))
        assert 1 <= upstream.connections <= 4


def test_max_idle_conns_is_a_lower_limit(in_flight):
    gate = threading.Event()
    options = ("force_tcp", "max_idle_conns 1", *PATIENT)
    with Upstream(behind(gate)) as upstream, serve(corefile(upstream, *options)) as server:
        names = [f"n{i}.example" for i in range(100)]
        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            asked = [pool.submit(server.ask, name) for name in names]
            wait_until(lambda: in_flight(server)[1] == len(names))
            gate.set()
            assert all(future.result().rr for future in asked)
        assert upstream.connections == 1


def test_idle_sockets_are_closed():
    with Upstream(answer) as upstream, serve(corefile(upstream, "expire 100s")) as server:
        before = time.monotonic()
        assert server.ask("a.example").rr
        assert server.ask("a.example", tcp=True).rr
        after = time.monotonic()
        (only,) = handler_of(server).pool.upstreams
        for now, sockets in ((before + 99, (1, 1)), (after + 101, (0, 0))):
            server.call(only.tidy, now)
            assert (only.streams.connections, len(only._udp._open)) == sockets
        assert server.ask("a.example").rr
        assert server.ask("a.example", tcp=True).rr
        assert upstream.connections == 2


def test_old_connections_are_left_though_busy(monkeypatch):
    monkeypatch.setattr(pool_module, "TIDY_INTERVAL", 0.05)
    options = ("force_tcp", "expire 50ms", "max_age 200ms")
    with Upstream(answer) as upstream, serve_with_timers(corefile(upstream, *options)) as server:
        numbers = itertools.count()

        def is_third() -> bool:
            assert server.ask(f"n{next(numbers)}.example").rr
            return upstream.connections >= 3

        wait_until(is_third)


def test_metrics():
    with Upstream(answer) as upstream, serve(corefile(upstream, "max_fails 0")) as server:
        for _ in range(3):
            assert server.ask("a.example").rr
        assert server.ask("a.example", tcp=True).rr
        labels = (PROXY, upstream.to)
        assert value("coredns_proxy_conn_cache_misses_total", *labels, "udp") == 1
        assert value("coredns_proxy_conn_cache_hits_total", *labels, "udp") == 2
        assert value("coredns_proxy_conn_cache_misses_total", *labels, "tcp") == 1
        durations = next(
            m for m in metrics.registered() if m.name == "coredns_proxy_request_duration_seconds"
        )
        assert sum(durations.labels(*labels, "NOERROR").counts) == 4


def test_lies_are_counted():
    def lie(query, _proto):
        good = bytes(answer(query).pack())
        return [bytes((good[0] ^ 1,)) + good[1:], good[:12] + b"\1x\0" + good[-20:], good]

    with Upstream(lie) as upstream, serve(corefile(upstream, "max_fails 0")) as server:
        assert server.ask("a.example").rr
        assert value("corepy_forward_dropped_replies_total", upstream.to, "id") == 1
        assert value("corepy_forward_dropped_replies_total", upstream.to, "question") == 1


def test_metadata_only_where_somebody_asks():
    with Upstream(answer) as upstream, serve(corefile(upstream)) as server:
        handler = handler_of(server)
        server.ask("a.example")
        request = make_request("a.example")
        asyncio.run_coroutine_threadsafe(handler.serve_dns(request), server._loop).result()
        assert request.metadata == {}
        handler.with_metadata = True
        asyncio.run_coroutine_threadsafe(handler.serve_dns(request), server._loop).result()
        assert request.metadata == {"forward/upstream": upstream.to}


def test_limit_follows_the_memory():
    limit = Limit()
    for memory, most in ((None, MOST), (64 << 20, 2048), (1 << 20, LEAST), (1 << 40, MOST)):
        limit.configure(memory)
        assert limit.most == most


class Asker:
    question = b"\1A\1b\0\0\x41\0\1".lower()[:-4] + b"\0\x41\0\1"
    body = b"\1\0\0\1\0\0\0\0\0\1" + question + b"\0\0\x29\4\xd0\0\0\0\0\0\0"


def attempt():
    return Attempt(Asker(), None, Asker.body, "udp", 0.0)  # type: ignore[arg-type]  # not looked at


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_no_answer_or_one(wire):
    asked = attempt()
    if answers(wire, asked):
        assert wire[12 : 12 + len(Asker.question)].lower() == Asker.question.lower()
    is_bare(wire, asked)


def bare(flags):
    return struct.pack("!HHQ", 0x4242, flags, 0)


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (bare(0x8101), True),  # FORMERR
        (bare(0x8184), True),  # NOTIMP, with RA
        (bare(0x8105), True),  # REFUSED
        (bare(0x8100), True),  # NOERROR
        (bare(0x0101), False),  # a query
        (bare(0xA901), False),  # opcode UPDATE
        (bare(0xA101), False),  # opcode NOTIFY
        (bare(0x9104), False),  # opcode STATUS
        (bare(0x8101)[:-1], False),
        (bare(0x8101) + b"\0", False),
        (bare(0x8101)[:5] + b"\1" + bytes(6), False),  # a question that is not there
    ],
)
def test_what_counts_as_a_refusal_without_a_question(wire, expected):
    assert is_bare(wire, attempt()) is expected


def test_type_is_not_compared_as_letters():
    """Type 65 and 97 differ by what tells "A" from "a"."""
    header = b"\0\0\x81\x80\0\1\0\0\0\0\0\0"
    assert answers(header + Asker.question, attempt())
    assert answers(header + b"\1A\1B\0\0\x41\0\1", attempt())
    assert not answers(header + b"\1A\1B\0\0\x61\0\1", attempt())
    assert not answers(b"\0\0\1\0" + header[4:] + Asker.question, attempt())
    assert not answers(header[:5] + b"\2" + header[6:] + Asker.question, attempt())


def test_silent_upstreams_of_one_line_leave_room_for_another(monkeypatch):
    monkeypatch.setattr("corepy_forward.limits.LEAST", 8)
    monkeypatch.setattr("corepy_forward.limits.BYTES_EACH", 1 << 60)
    monkeypatch.setattr("corepy_forward.handler.cgroup_limit", lambda: 1)
    gate = threading.Event()
    with Upstream(refuses_behind(gate)) as dead, Upstream(answer) as alive:
        options = "\n".join(PATIENT)
        text = f".:0 {{\nforward example.org {dead.to} {{\n{options}\n}}\nforward . {alive.to}\n}}"
        with serve(text) as server, concurrent.futures.ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(server.ask, f"n{i}.example.org") for i in range(20)]
            wait_until(lambda: sum(future.done() for future in waiting) >= 15)
            assert server.ask("a.example").rr
            assert sum(future.done() for future in waiting) == 15  # one client has 5 of the 6
            gate.set()
            assert {future.result().header.rcode for future in waiting} == {2}
    monkeypatch.undo()
    LIMIT.configure(None)


def test_a_dial_that_failed_counts_for_a_while(monkeypatch):
    """What is asked meanwhile fails with it, without a dial of its own."""
    monkeypatch.setattr(streams, "REDIAL_PAUSE", 60.0)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen
        to = "{}:{}".format(*deaf.getsockname())
        with serve(f".:0 {{\nforward . {to} {{\nforce_tcp\nmax_fails 0\n}}\n}}") as server:
            for number in range(5):
                assert server.ask(f"n{number}.example").header.rcode == 2
    assert value("coredns_proxy_conn_cache_misses_total", PROXY, to, "tcp") == 1
