"""The spans `connect` of attempts at upstreams; what they cost a query that is not traced."""

import sys
import time
from typing import Any

import pytest

from corepy.plugin import FastHandler
from corepy.plugin.protocols import AttemptObserver, UpstreamAttempt
from corepy.testing import Upstream, free_port, helper_module, serve, with_handlers
from corepy.testing.http_recorder import HTTPRecorder
from corepy_forward.handler import Forward
from corepy_trace.handler import CURRENT, Trace
from corepy_trace.span import QueryTrace, Span

helpers = helper_module(__file__, "trace_collectors")
KINDS, spans_of, traced, tree = helpers.KINDS, helpers.spans_of, helpers.traced, helpers.tree
ZONE = helpers.ZONE


def attempts_of(trace):
    found = sorted((it for it in trace if it.name == "connect"), key=lambda it: it.start)
    (forward,) = [it for it in trace if it.name == "forward"]
    for each in found:
        assert each.parent == forward.ident
        assert each.tags.keys() == {"peer.address"}
        assert forward.start - 1e-6 <= each.start
        assert each.start + each.seconds <= forward.start + forward.seconds + 1e-5
    return [(it.tags["peer.address"], it.error) for it in found]


@KINDS
def test_each_attempt_is_a_span(kind):
    closed = f"127.0.0.1:{free_port()}"
    with HTTPRecorder() as collector, Upstream(ZONE) as good:
        rest = f"forward . {closed} {good.to} {{\npolicy sequential\nmax_fails 0\n}}"
        with serve(traced(collector, rest, kind)) as server:
            assert server.ask("www.test.").rr
            trace = list(helpers.READERS[kind](collector.next()))
    found = attempts_of(trace)
    assert [it for it in found if not it[1]] == [(good.to, "")]
    for peer, error in found:  # more than two if the machine is so busy that an upstream is late
        assert peer in (closed, good.to)
        assert (peer, error) != (closed, "")


@KINDS
def test_an_upstream_that_does_not_answer(kind, monkeypatch):
    from corepy_forward import pool

    monkeypatch.setattr(pool, "BUDGET", 0.2)
    monkeypatch.setattr(pool, "BUDGET_DOWN", 0.2)
    with HTTPRecorder() as collector, Upstream("silent") as upstream:
        rest = f"forward . {upstream.to} {{\nmax_fails 0\nread_timeout 100ms\nmax_connect_attempts 1\n}}"
        with serve(traced(collector, rest, kind)) as server:
            assert server.ask("www.test.").header.rcode == 2
            (trace,) = spans_of(collector, 3, kind)
    ((peer, error),) = attempts_of(trace)
    assert (peer, error) == (upstream.to, "i/o timeout")


class Twice(FastHandler):
    """Raises in `observe_attempt`."""

    name = "twice"
    call_label = CURRENT

    def begin_dns(self, request):
        return self.next.begin_dns(request)

    def observe_attempt(self, request, attempt):
        raise LookupError("no data")


def test_an_observer_that_fails_costs_no_query(caplog):
    with HTTPRecorder() as collector, Upstream(ZONE) as upstream:
        options = "zipkin_max_batch_size 4"  # so that no timer has to send the spans
        text = traced(collector, f"twice\nforward . {upstream.to}", options=options)
        plugins = with_handlers(twice=Twice)
        with serve(text, plugins=plugins, still=True) as server:
            assert isinstance(server.plugins(Twice)[0], AttemptObserver)
            assert server.ask("www.test.").rr
            (trace,) = spans_of(collector, 4)
    assert tree(trace) == ["servedns", ["twice", ["forward", ["connect"]]]]
    assert "failed to observe an attempt: LookupError: no data" in caplog.text


class Sink(list[Span]):
    def add(self, spans):
        self.extend(spans)


class Query:
    def __init__(self, span):
        self.metadata = {CURRENT: span}


@pytest.mark.parametrize(("sent", "start"), [(90.0, 100.0), (101.0, 101.0)])
def test_a_shared_attempt_begins_with_the_query(sent, start):
    """A query may join an exchange that another one has begun."""
    sink = Sink()
    trace = QueryTrace(1, sink, time.monotonic())
    top = Span(trace, "top", 100.0, None)
    attempt = UpstreamAttempt(("2001:db8::1", 53), "tcp", sent, 102.0, "reset")
    unused: Any = None
    query: Any = Query(top)
    Trace.observe_attempt(unused, query, attempt)
    trace.end(top)
    connect = sink[0]
    assert (connect.start, connect.end, connect.above) == (start, 102.0, top)
    assert (connect.tags, connect.error) == ({"peer": "[2001:db8::1]:53"}, "reset")


def calls_of_a_query(server):
    """Return the Python and C functions that are called for a query."""
    names: list[str] = []

    def profile(frame, event, function):
        if event == "call":
            names.append(frame.f_code.co_qualname)
        elif event == "c_call":
            names.append(getattr(function, "__qualname__", ""))

    server.call(sys.setprofile, profile)
    server.ask("www.test.")
    server.call(sys.setprofile, None)
    first, last = names.index("Trace.begin_dns"), names.index("_reply_of")
    return names[first:last]


@pytest.mark.pure_form("compiled functions are not profiled")
def test_a_query_that_is_not_traced_costs_no_call():
    """A miss below *trace* that selects another query, with and without observers of attempts."""
    with HTTPRecorder() as collector, Upstream(ZONE) as upstream:
        text = traced(collector, f"forward . {upstream.to}", options="every 1000000")
        with serve(text, still=True) as server:
            (forward,) = server.plugins(Forward)
            server.ask("www.test.")
            observed = calls_of_a_query(server)
            assert len(forward._clients.observers) == 1
            forward._clients.observers = ()
            assert calls_of_a_query(server) == observed
    assert "Clients._conclude" in observed
