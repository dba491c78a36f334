"""Queries through a real server to upstreams that behave and misbehave."""

import concurrent.futures
import socket
import struct
import threading
from functools import partial

import dnslib
import pytest

from corepy.testing import Upstream
from corepy.testing import serve as serve_with_timers
from corepy.testing.behaviours import End
from corepy.testing.command import wait_until
from corepy_forward.handler import Forward
from corepy_forward.upstream import FIRST_PATIENCE, SUSPICION

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine

RECORDS = {"example.org. A": ["example.org. 60 IN A 192.0.2.1"]}
PATIENT = "max_fails 0\nread_timeout 30s"


def answer(query, _proto=""):
    reply = query.reply(ra=1, aa=0)
    reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 IN A 192.0.2.7"))
    return reply


def silent(_query, _proto):
    return None


def behind(gate):
    """Return a behaviour that answers when the event `gate` is set."""

    def behave(query, proto):
        gate.wait(60)
        return answer(query, proto)

    return behave


def rcode(number):
    def behave(query, _proto):
        reply = query.reply()
        reply.header.rcode = number
        return reply

    return behave


def corefile(*upstreams, options=""):
    return f".:0 {{\nforward . {' '.join(up.to for up in upstreams)} {{\n{options}\n}}\n}}"


def client_queries(upstream):
    """What clients asked: health checks left out."""
    return [(text, proto) for text, proto in upstream.queries if text != ". NS"]


def test_answers_over_udp_and_tcp_as_the_client_asks():
    with Upstream(RECORDS) as upstream, serve(corefile(upstream)) as server:
        assert server.ask("example.org").rr[0].rdata.data == (192, 0, 2, 1)
        assert server.ask("example.org", tcp=True).rr
        assert server.ask("nothing.example.org").header.rcode == 3
        protos = [proto for _, proto in client_queries(upstream)]
        assert protos == ["udp", "tcp", "udp"]


@pytest.mark.parametrize(
    ("options", "tcp", "proto"),
    [
        ("force_tcp", False, "tcp"),
        ("force_tcp", True, "tcp"),
        ("prefer_udp", False, "udp"),
        ("prefer_udp", True, "udp"),
        ("force_tcp\nprefer_udp", True, "tcp"),
    ],
)
def test_transport(options, tcp, proto):
    with Upstream(RECORDS) as upstream, serve(corefile(upstream, options=options)) as server:
        assert server.ask("example.org", tcp=tcp).rr
        assert client_queries(upstream) == [("example.org. A", proto)]


def test_question_keeps_the_clients_case_and_edns_is_ours():
    seen = []

    def behave(query, proto):
        seen.append(query)
        return answer(query)

    with Upstream(behave) as upstream, serve(corefile(upstream)) as server:
        reply = server.ask("eXaMple.ORG", do=True, cd=1, ad=1, rd=0, edns=4096)
        assert str(reply.q.qname) == "eXaMple.ORG."
        query = next(q for q in seen if q.q.qtype == 1)
        assert str(query.q.qname) == "example.org."
        assert (query.header.rd, query.header.cd, query.header.ad) == (0, 1, 1)
        opt = query.ar[0]
        assert (opt.edns_len, opt.edns_do) == (1232, 1)


def lies(query, _proto):
    """Send everything that is not the answer first."""
    good = bytes(answer(query).pack())
    ident = struct.unpack("!H", good[:2])[0]
    wrong_id = struct.pack("!H", ident ^ 1) + good[2:]
    other = dnslib.DNSRecord.question("other.example")
    other.header.id = ident
    wrong_question = bytes(answer(other).pack())
    return [b"", b"\0", wrong_id, wrong_question, bytes(query.pack()), good[:2] + b"\x81", good]


def test_what_is_no_answer_is_dropped_and_the_wait_goes_on():
    with Upstream(lies) as upstream, serve(corefile(upstream)) as server:
        assert server.ask("example.org").rr[0].rdata.data == (192, 0, 2, 7)
        assert client_queries(upstream) == [("example.org. A", "udp")]


def test_truncated_reply_is_asked_again_over_tcp():
    def behave(query, proto):
        reply = answer(query)
        if proto == "udp":
            reply.header.tc = 1
            reply.rr.clear()
        return reply

    with Upstream(behave) as upstream, serve(corefile(upstream)) as server:
        reply = server.ask("example.org")
        assert reply.rr
        assert not reply.header.tc
        assert [proto for _, proto in client_queries(upstream)] == ["udp", "tcp"]
        (forward,) = server.plugins(Forward)
        (upstream_of_it,) = forward.pool.upstreams
        assert upstream_of_it.tcp._usual >= 0  # the next one waits for TCP as long as it takes


def test_reply_cut_without_tc_is_asked_again_over_tcp():
    def behave(query, proto):
        wire = bytes(answer(query).pack())
        return wire[:-3] if proto == "udp" else wire

    with Upstream(behave) as upstream, serve(corefile(upstream)) as server:
        assert server.ask("example.org").rr


def test_truncated_reply_is_passed_on_if_tcp_fails():
    def behave(query, proto):
        reply = query.reply()
        reply.header.tc = 1
        return reply if proto == "udp" else [End.CLOSE]

    with Upstream(behave) as upstream:
        options = "max_connect_attempts 1"
        with serve(corefile(upstream, options=options)) as server:
            reply = server.ask("example.org")
            assert (reply.header.rcode, reply.header.tc) == (0, 1)


def test_edns_is_left_out_for_an_upstream_that_refuses_it():
    def behave(query, _proto):
        if query.ar:
            refusal = query.reply()
            refusal.header.rcode = 1
            return bytes(refusal.pack())[:4] + bytes(8)
        return answer(query)

    with Upstream(behave) as upstream, serve(corefile(upstream)) as server:
        assert server.ask("example.org", do=True).rr
        assert server.ask("www.example.org", do=True).rr
        # With EDNS and a cookie, with EDNS, without; the second question without trying.
        assert len(client_queries(upstream)) == 4


def test_formerr_for_some_questions_does_not_end_edns():
    """Else one client's odd question would take DNSSEC from all."""

    def behave(query, _proto):
        return rcode(1)(query, _proto) if "odd" in str(query.q.qname) else answer(query)

    seen = []
    with (
        Upstream(lambda q, p: seen.append(bool(q.ar)) or behave(q, p)) as upstream,
        serve(corefile(upstream, options="max_fails 0")) as server,
    ):
        assert server.ask("odd.example.org").header.rcode == 1
        assert server.ask("example.org").rr
    assert seen == [True, True, False, True]  # first without the cookie


def test_a_formerr_about_the_question_reaches_the_client():
    with Upstream(rcode(1)) as upstream, serve(corefile(upstream)) as server:
        assert server.ask("example.org").header.rcode == 1


@pytest.mark.parametrize("policy", ["random", "round_robin", "sequential"])
def test_next_upstream_is_asked_when_one_is_silent(policy):
    with (
        Upstream(silent) as dead,
        Upstream(RECORDS) as alive,
        serve_with_timers(corefile(dead, alive, options=f"policy {policy}")) as server,
    ):
        for _ in range(6):
            assert server.ask("example.org").rr


@pytest.mark.parametrize("policy", ["random", "round_robin", "sequential"])
def test_a_silent_upstream_costs_one_patience_a_few_times(on_bench, policy):
    """The other one is asked as well, and soon instead; no query waits for the read timeout."""

    async def test(bench):
        _, alive = bench.sinks
        took = []
        for number in range(60):
            began, exchange = bench.loop.now, bench.ask(f"n{number}")
            while not exchange.done:
                await bench.turn()
                if alive.queries():
                    alive.reply()
                    await bench.end_of(exchange)
                else:
                    await bench.let_pass(0.001)
            took.append(bench.loop.now - began)
        assert max(took) <= FIRST_PATIENCE + 0.002
        assert sum(seconds > 0 for seconds in took) <= SUSPICION

    on_bench(test, 2, policy=policy, max_fails=2, read_timeout=2.0)


def test_refused_port_is_left_at_once():
    with Upstream(RECORDS) as alive:
        with Upstream(silent) as closed:
            pass
        with serve(corefile(closed, alive, options="policy sequential")) as server:
            for tcp in (False, True):
                assert server.ask("example.org", tcp=tcp).rr


def test_failover():
    with Upstream(rcode(2)) as servfail, Upstream(rcode(5)) as refused, Upstream(RECORDS) as good:
        ups = (servfail, refused, good)
        with serve(
            corefile(*ups, options="policy sequential\nfailover ServFail Refused")
        ) as server:
            assert server.ask("example.org").rr
        with serve(corefile(*ups, options="policy sequential")) as server:
            assert server.ask("example.org").header.rcode == 2
        both = "policy sequential\nfailover SERVFAIL REFUSED"
        with serve(corefile(servfail, refused, options=both)) as server:
            assert server.ask("example.org").header.rcode == 5  # the last one's


@pytest.mark.parametrize("beside", ["", "prometheus 127.0.0.1:0"])  # puts marks into the chain
@pytest.mark.parametrize(
    ("option", "first", "answered"),
    [
        ("next NXDOMAIN", rcode(3), True),
        ("next SERVFAIL", rcode(3), False),
        ("next_on_nodata", rcode(0), True),
        ("", rcode(0), False),
    ],
)
def test_next_forward_of_the_block(option, first, answered, beside):
    with Upstream(first) as one, Upstream(RECORDS) as two:
        lines = f"{beside}\nforward . {one.to} {{\n{option}\n}}\nforward . {two.to}"
        text = f".:0 {{\nbind 127.0.0.1\n{lines}\n}}"
        with serve(text) as server:
            assert bool(server.ask("example.org").rr) is answered


def test_zones_and_exceptions():
    with Upstream(RECORDS) as upstream:
        text = (
            f".:0 {{\nforward example.org {upstream.to} {{\nexcept sub.example.org\n}}\nwhoami\n}}"
        )
        with serve(text) as server:
            assert server.ask("example.org").rr
            for name in ("a.sub.example.org", "sub.example.org", "notexample.org"):
                assert not server.ask(name).rr
            assert client_queries(upstream) == [("example.org. A", "udp")]


def test_identical_questions_in_flight_share_one_exchange(in_flight):
    gate = threading.Event()
    with Upstream(behind(gate)) as upstream, serve(corefile(upstream, options=PATIENT)) as server:
        names = ["example.org", "EXAMPLE.org"] * 20
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            asked = [pool.submit(server.ask, name) for name in names]
            wait_until(lambda: in_flight(server)[1] == len(names))
            gate.set()
            replies = [future.result() for future in asked]
        assert [str(reply.q.qname) for reply in replies] == [name + "." for name in names]
        assert all(reply.rr for reply in replies)
        # One, and the ones that a late reply is worth.
        assert len(client_queries(upstream)) <= 4


def test_max_concurrent(in_flight):
    gate = threading.Event()
    with (
        Upstream(behind(gate)) as upstream,
        serve(corefile(upstream, options=f"{PATIENT}\nmax_concurrent 2")) as server,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
        asked = [pool.submit(server.ask, name) for name in ("a.org", "b.org")]
        wait_until(lambda: in_flight(server)[1] == 2)
        assert [server.ask(name).header.rcode for name in ("c.org", "d.org")] == [2, 2]
        gate.set()
        assert [future.result().header.rcode for future in asked] == [0, 0]


def test_all_silent_is_servfail_before_a_stub_gives_up(on_bench):
    with Upstream(silent) as dead, serve_with_timers(corefile(dead)) as server:
        reply = server.ask("example.org", edns=1232)
        assert reply.header.rcode == 2
        assert reply.ar[0].rdata[0].code == 15
        assert reply.ar[0].rdata[0].data[:2] == b"\0\x16"  # no reachable authority

    async def test(bench):
        bench.pool.start_checks()
        exchange = bench.ask()
        await bench.let_pass(2.1)
        assert (exchange.done, exchange.reply) == (True, None)

    on_bench(test, max_fails=2, read_timeout=2.0)


def test_dying_connections_lose_nothing():
    with (
        Upstream(answer, delay=0.02) as upstream,
        serve(corefile(upstream, options=f"{PATIENT}\nforce_tcp")) as server,
    ):
        names = [f"name{i}.org" for i in range(100)]
        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            replies = [pool.submit(server.ask, name) for name in names]
            wait_until(lambda: len(client_queries(upstream)) >= 10)
            for stream in list(upstream._streams):
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.shutdown(socket.SHUT_RDWR)
            assert all(reply.result().rr for reply in replies)
        assert upstream.connections <= 8
