"""Upstreams without EDNS and upstreams without TCP: found out, remembered, tried again."""

import threading
import time
from functools import partial

import dnslib
import pytest

from corepy.testing import Upstream
from corepy.testing import serve as serve_with_timers
from corepy_forward.forms import (
    AVOIDED,
    DOUBTS,
    LEAST_TCP_PATIENCE,
    MOST_TCP_PATIENCE,
    SETTLED,
    TCP_DEAD,
    EdnsSupport,
    TcpSupport,
)
from corepy_forward.handler import Forward

serve = partial(serve_with_timers, still=True)  # nothing becomes late, however busy the machine

PATIENT = "max_fails 0\nread_timeout 30s"
"""An outcome that took the time of one attempt would take longer than the tests wait."""


def corefile(*upstreams, options=PATIENT):
    return f".:0 {{\nforward . {' '.join(up.to for up in upstreams)} {{\n{options}\n}}\n}}"


def good(query, _proto=""):
    reply = query.reply(ra=1, aa=0)
    reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 IN A 192.0.2.7"))
    if query.ar:
        reply.add_ar(dnslib.EDNS0(flags="do" if query.ar[0].edns_do else "", udp_len=1232))
    return reply


def dropped(_query):
    return None


def refusal(rcode, with_opt=False):
    def refuse(query):
        reply = query.reply(ra=1, aa=0)
        reply.header.rcode = rcode & 15
        if with_opt:
            reply.add_ar(dnslib.EDNS0(ext_rcode=rcode >> 4))
        return reply

    return refuse


def echo(query):
    """Send the query back as it came, with QR set."""
    wire = bytes(query.pack())
    return wire[:2] + bytes((wire[2] | 0x80,)) + wire[3:]


def echo_of_a_query(query):
    return bytes(query.pack())


def without_edns(react):
    """Do with queries that have EDNS what `react` does, answer the others."""

    def behave(query, proto):
        return react(query) if query.ar else good(query, proto)

    return behave


WITHOUT_EDNS = {
    "drops": dropped,
    "FORMERR": refusal(1),
    "FORMERR with OPT": refusal(1, with_opt=True),
    "SERVFAIL": refusal(2),
    "SERVFAIL with OPT": refusal(2, with_opt=True),
    "NOTIMP": refusal(4),
    "REFUSED": refusal(5),
    "REFUSED with OPT": refusal(5, with_opt=True),
    "BADVERS": refusal(16, with_opt=True),
    "echo": echo,
    "echo without QR": echo_of_a_query,
}


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("edns", [{}, {"edns": 1232}, {"edns": 1232, "do": True}], ids=str)
@pytest.mark.parametrize("react", WITHOUT_EDNS.values(), ids=WITHOUT_EDNS)
def test_an_upstream_without_edns(react, edns, tcp):
    with Upstream(without_edns(react)) as upstream, serve_with_timers(corefile(upstream)) as server:
        for name in ("a.example", "b.example", "c.example", "d.example"):
            reply = server.ask(name, tcp=tcp, **edns)
            assert (reply.header.rcode, len(reply.rr)) == (0, 1)
            assert bool(reply.ar) is bool(edns)
        # By now it is known: one query for one question, even if its reply takes long.
        server.call(server._loop.stop_clock)
        assert server.ask("known.example", tcp=tcp, **edns).rr
        assert [text for text, _ in upstream.queries].count("known.example. A") == 1


@pytest.mark.parametrize(("rcode", "is_settled"), [(1, True), (4, True), (2, False), (5, False)])
def test_which_refusals_settle_it_for_clients_that_need_edns(rcode, is_settled):
    """SERVFAIL and REFUSED have other causes as well."""
    with Upstream(without_edns(refusal(rcode))) as upstream, serve(corefile(upstream)) as server:
        assert server.ask("a.example").rr
        (forward,) = server.plugins(Forward)
        edns = forward.pool.upstreams[0].edns
        now = time.monotonic()
        assert edns.is_off(now, needed=False)
        assert edns.is_off(now, needed=True) is is_settled


@pytest.mark.parametrize("react", [dropped, refusal(2), refusal(5), refusal(1)])
def test_two_upstreams_without_edns(react):
    behave = without_edns(react)
    with (
        Upstream(behave) as one,
        Upstream(behave) as two,
        serve_with_timers(corefile(one, two)) as server,
    ):
        for name in ("a.example", "b.example"):
            assert server.ask(name).rr


class Flaky:
    """Answers with EDNS, but for one question in some other way the first time."""

    def __init__(self, react):
        self._react = react
        self._seen: set[str] = set()
        self.with_edns: list[bool] = []

    def __call__(self, query, proto):
        name = str(query.q.qname)
        self.with_edns.append(bool(query.ar))
        if name.startswith("flaky") and name not in self._seen:
            self._seen.add(name)
            return self._react(query)
        return good(query, proto)


@pytest.mark.parametrize("react", [dropped, refusal(2), refusal(5)])
def test_one_mishap_does_not_end_edns_for_who_needs_it(react):
    behave = Flaky(react)
    with Upstream(behave) as upstream, serve_with_timers(corefile(upstream)) as server:
        assert server.ask("example.org").rr
        server.ask("flaky.example")
        assert server.ask("signed.example", edns=1232, do=True).rr
        assert behave.with_edns[-1]
        assert server.ask("plain.example").rr
        assert behave.with_edns[-1]


@pytest.mark.parametrize("rcode", [2, 5])
def test_an_error_of_an_upstream_with_edns_is_believed(rcode):
    behave = Flaky(refusal(rcode))
    with Upstream(behave) as upstream, serve(corefile(upstream)) as server:
        assert server.ask("example.org").rr
        assert server.ask("flaky.example").header.rcode == rcode
        assert behave.with_edns == [True, True]


def test_an_answer_with_edns_that_is_late_is_better_than_one_without_for_dnssec():
    behind = threading.Event()

    def behave(query, proto):
        if query.ar:
            behind.wait(60)
            return good(query, proto)
        threading.Timer(0.05, behind.set).start()
        return good(query, proto)

    with Upstream(behave) as upstream, serve_with_timers(corefile(upstream)) as server:
        reply = server.ask("example.org", edns=1232, do=True)
        assert reply.rr
        (forward,) = server.plugins(Forward)
        assert forward.pool.upstreams[0].edns.works(time.monotonic())


def test_signs_against_edns():
    edns, now = EdnsSupport(), 1000.0
    edns.lost(now)
    assert edns.is_off(now, needed=False)
    assert not edns.is_off(now, needed=True)
    assert not edns.is_off(now + AVOIDED, needed=False)  # and then it is tried again
    edns.lost(now + AVOIDED)
    assert edns.is_off(now + AVOIDED, needed=True)
    assert not edns.is_off(now + AVOIDED + SETTLED, needed=True)


def test_a_refusal_of_edns_needs_no_second_one():
    edns, now = EdnsSupport(), 1000.0
    edns.refused(now)
    assert edns.is_off(now, needed=True)
    assert not edns.is_limited(now + SETTLED)


QUERY = b"\1\0\0\1\0\0\0\0\0\1" + b"\1a\0\0\1\0\1" + b"\0\0\x29\4\xd0\0\0\0\0\0\0"


def test_losses_of_an_upstream_that_has_answered_with_edns():
    edns, now = EdnsSupport(), 1000.0
    answer = b"\0\0\x81\x80\0\1\0\0\0\0\0\0\1a\0\0\1\0\1"
    edns.learn(QUERY, answer, now)
    for _ in range(DOUBTS - 1):
        edns.lost(now)
        assert not edns.is_limited(now)
    edns.lost(now)
    assert edns.is_limited(now)
    edns.learn(QUERY, answer, now)
    assert not edns.is_off(now, needed=False)


def large(query, proto):
    """Answer with 2 KB, as the size of the query and the transport allow."""
    reply = query.reply(ra=1, aa=0)
    lines = "\n".join(f"{query.q.qname} 60 IN A 192.0.2.{i}" for i in range(120))
    reply.add_answer(*dnslib.RR.fromZone(lines))
    limit = 65535 if proto == "tcp" else query.ar[0].edns_len if query.ar else 512
    if len(reply.pack()) > limit:
        reply.rr.clear()
        reply.header.tc = 1
    return reply


def small_only(query, proto):
    """Truncate over UDP whatever the client can take, as most servers do."""
    query.ar.clear()
    return large(query, proto)


def tcp_silent(behave):
    return lambda query, proto: None if proto == "tcp" else behave(query, proto)


class NoTcp:
    """An upstream whose port refuses connections."""

    def __init__(self, behave):
        self._upstream = Upstream(behave)

    def __enter__(self):
        upstream = self._upstream.__enter__()
        upstream._tcp.shutdown(2)
        upstream._tcp.close()
        return upstream

    def __exit__(self, *exc):
        self._upstream._tcp = _Closed()  # type: ignore[assignment]  # as far as it is used
        self._upstream.__exit__(*exc)


class _Closed:
    def shutdown(self, how):
        pass

    def close(self):
        pass


WITHOUT_TCP = {
    "refused": NoTcp,
    "silent": lambda behave: Upstream(tcp_silent(behave)),
}


@pytest.mark.parametrize("start", WITHOUT_TCP.values(), ids=WITHOUT_TCP)
def test_a_truncated_answer_is_released_where_tcp_brings_nothing(start):
    with start(small_only) as upstream, serve_with_timers(corefile(upstream)) as server:
        for name in ("a.example", "b.example", "c.example"):
            reply = server.ask(name)
            assert (reply.header.rcode, reply.header.tc) == (0, 1)
        # It is remembered: no further connection is tried.
        (forward,) = server.plugins(Forward)
        assert forward.pool.upstreams[0].tcp.is_dead(time.monotonic())
        before = upstream.queries.count(("d.example. A", "tcp"))
        assert server.ask("d.example").header.tc
        assert upstream.queries.count(("d.example. A", "tcp")) == before == 0


@pytest.mark.parametrize("start", WITHOUT_TCP.values(), ids=WITHOUT_TCP)
def test_clients_over_tcp_get_what_an_upstream_without_tcp_has(start):
    with start(large) as upstream, serve_with_timers(corefile(upstream)) as server:
        for name in ("a.example", "b.example"):
            reply = server.ask(name, tcp=True)
            assert (reply.header.rcode, reply.header.tc, len(reply.rr)) == (0, 0, 120)
        before = len(upstream.queries)
        assert server.ask("c.example", tcp=True).rr
        assert len(upstream.queries) == before + 1
        # The way of a client over UDP: its answer does not fit, so it comes over TCP.
        assert server.ask("d.example").header.tc
        assert len(server.ask("d.example", tcp=True).rr) == 120


@pytest.mark.parametrize("start", WITHOUT_TCP.values(), ids=WITHOUT_TCP)
def test_a_truncated_answer_is_none_for_clients_over_tcp(start):
    options = "max_fails 0\nread_timeout 300ms\nmax_connect_attempts 1"
    with (
        start(small_only) as upstream,
        serve_with_timers(corefile(upstream, options=options)) as server,
    ):
        reply = server.ask("a.example", tcp=True, edns=1232)
        assert (reply.header.rcode, reply.header.tc) == (2, 0)
        assert b"no upstream sent a usable answer" in reply.ar[0].rdata[0].data


def test_force_tcp_means_it():
    with NoTcp(good) as upstream:
        text = corefile(upstream, options="max_fails 0\nforce_tcp\nmax_connect_attempts 2")
        with serve(text) as server:
            assert server.ask("a.example", tcp=True).header.rcode == 2
            assert server.ask("a.example").header.rcode == 2
        assert upstream.queries == []


def test_tcp_is_tried_again_and_how_long_it_takes_is_learned():
    tcp = TcpSupport()
    assert tcp.patience == MOST_TCP_PATIENCE
    tcp.failed(1000.0)
    assert tcp.is_dead(1000.0 + TCP_DEAD - 1)
    assert not tcp.is_dead(1000.0 + TCP_DEAD)
    tcp.took(0.3)
    assert not tcp.is_dead(1000.0)
    assert 0.89 < tcp.patience < 0.91
    for _ in range(50):
        tcp.took(0.001)
    assert tcp.patience == LEAST_TCP_PATIENCE
    for _ in range(50):
        tcp.took(5.0)
    assert tcp.patience == MOST_TCP_PATIENCE
