"""The spans that collectors get for real queries, checked against the documented formats."""

import ipaddress
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.dns import ANONYMOUS
from corepy.dns.identity import HTTPFacts
from corepy.dns.names import from_text
from corepy.plugin import FastHandler, Handler, ObservingHandler, lookup, metrics
from corepy.testing import Upstream, free_port, helper_module, make_request, serve, with_handlers
from corepy.testing.http_recorder import HTTPRecorder
from corepy_trace.datadog import array_head, floats, strings, text
from corepy_trace.handler import Trace

helpers = helper_module(__file__, "trace_collectors")
KINDS, READERS, ZONE, Got = helpers.KINDS, helpers.READERS, helpers.ZONE, helpers.Got
attributes, spans_of, tags, top_of = (
    helpers.attributes, helpers.spans_of, helpers.tags, helpers.top_of,
)  # fmt: skip
traced, tree, unpack = helpers.traced, helpers.tree, helpers.unpack


@KINDS
def test_a_miss_a_hit_and_a_hit_of_the_packet_cache(kind):
    before = time.time()
    with HTTPRecorder() as collector, Upstream(ZONE) as upstream:
        rest = f"prometheus 127.0.0.1:0\nerrors\ncache\nforward . {upstream.to}"
        # No timer repeats the query to the upstream; the batch is full with the last span.
        text = traced(collector, rest, kind, "zipkin_max_batch_size 7")
        with serve(text, still=True) as server:
            for _ in range(3):
                assert str(server.ask("www.test.").rr[0].rdata) == "192.0.2.1"
            assert server.packet_entries == 1
            miss, hit, repeated = spans_of(collector, 7, kind)
    assert tree(miss) == ["servedns", ["cache", ["forward", ["connect"]]]]
    assert tree(hit) == ["servedns", ["cache"]]
    assert tree(repeated) == ["servedns"]
    assert top_of(miss).tags == top_of(hit).tags == tags()
    assert top_of(repeated).tags == tags(**{"corepy.packet_cache": "true"})
    (attempt,) = [it for it in miss if it.name == "connect"]
    assert attempt.tags == {"peer.address": upstream.to}
    others = [it for it in (*miss, *hit, *repeated) if it is not attempt]
    assert all(not it.error and (it.is_server or not it.tags) for it in others)
    assert before - 1 < top_of(miss).start < time.time() + 1
    length = {"zipkin": 16, "datadog": 32, "otlp": 32}[kind]
    assert {len(it[0].trace) for it in (miss, hit, repeated)} == {length}


@KINDS
def test_the_options_of_the_request(kind):
    options = "service MyDNS\ndatadog_analytics_rate 0.25\nclient_server"
    with HTTPRecorder() as collector, serve(traced(collector, "whoami", kind, options)) as server:
        server.ask("www.test.", tcp=True)
        request = collector.next()
        span, top = READERS[kind](request)
    assert request.method == "POST"
    assert (span.name, top.tags) == ("whoami", tags(proto="tcp"))
    if kind == "zipkin":
        assert request.target == "/api/v2/spans"
        endpoint = json.loads(request.body)[0]["localEndpoint"]
        assert endpoint == {"serviceName": "mydns", "ipv4": "127.0.0.1"}
    elif kind == "datadog":
        assert request.target == "/v0.4/traces"
        ((first, second),), _ = unpack(request.body)
        assert first["service"] == second["service"] == "MyDNS"
        assert second["metrics"] == {"_sampling_priority_v1": 1.0, "_dd1.sr.eausr": 0.25}
    else:
        assert request.target == "/v1/traces"
        resource = json.loads(request.body)["resourceSpans"][0]["resource"]
        assert attributes(resource)["service.name"] == "MyDNS"


class Broken(Handler):
    """Raises for "raise", drops "drop", and answers with an error otherwise."""

    name = "broken"

    async def serve_dns(self, request):
        if request.name.startswith("raise"):
            raise LookupError("no data")
        if request.name.startswith("drop"):
            return request.drop()
        if request.name.startswith("none"):
            return await self.next.serve_dns(request)
        return request.error(9, "the key is bad" if request.name.startswith("error") else None)


@KINDS
def test_failures(kind):
    plugins = with_handlers(broken=Broken)
    with (
        HTTPRecorder() as collector,
        serve(traced(collector, "errors\nbroken", kind), plugins=plugins) as server,
    ):
        for name in ("raise.test.", "error.test.", "fine.test.", "none.test."):
            server.ask(name)
        assert server.drops("drop.test.")
        traces = spans_of(collector, 10, kind)
    found = {top_of(trace).tags["coredns.io/name"]: (top_of(trace), trace) for trace in traces}
    shown = {name: (it.tags["coredns.io/rcode"], it.error) for name, (it, _) in found.items()}
    assert shown == {
        "raise.test.": ("SERVFAIL", "the plugin has failed"),
        "error.test.": ("NOTAUTH", "the key is bad"),
        "fine.test.": ("NOTAUTH", ""),
        "none.test.": ("SERVFAIL", "plugin/broken: no next plugin found"),
        "drop.test.": ("NOERROR", ""),
    }
    failed = [it.name for _, trace in found.values() for it in trace if it.error and it.parent]
    assert failed == ["broken"]


class Alias(Handler):
    """Answers "alias" with a look-up, and "zone" with a series of one message."""

    name = "alias"

    async def serve_dns(self, request):
        if request.name.startswith("alias"):
            found = await lookup(request, from_text("target.test."))
            return request.error(found.rcode)
        if request.name.startswith("zone"):
            return request.reply_series(self.messages(request))
        return request.error(0)

    def messages(self, request):
        yield request.error(5)


class Seen(ObservingHandler):
    """Records the label of each query."""

    name = "seen"

    def __init__(self):
        self.labels = {}

    def observe(self, request, reply):
        self.labels[request.name] = request.metadata.get("trace/traceid")


@KINDS
def test_look_ups_belong_to_their_query_and_the_label_is_the_id(kind):
    plugins = with_handlers(alias=Alias, seen=Seen)
    order = "seen after trace\nseen before errors"
    with HTTPRecorder() as collector:
        text = traced(collector, "seen\nalias", kind)
        with serve(text, plugins=plugins, order=order) as server:
            server.ask("alias.test.")
            server.ask("zone.test.", "AXFR", tcp=True)
            server.ask("plain.test.")
            found = spans_of(collector, 7, kind)
            (seen,) = server.plugins(Seen)
    names = ("alias.test.", "zone.test.", "plain.test.")
    by_name = {top_of(it).tags["coredns.io/name"]: it for it in found}
    alias, zone, plain = (by_name[name] for name in names)
    assert tree(alias) == ["servedns", ["alias", ["alias"]]]
    assert tree(zone) == tree(plain) == ["servedns", ["alias"]]
    assert top_of(zone).tags["coredns.io/rcode"] == "REFUSED"  # that of the message
    assert seen.labels["alias.test."] == alias[0].trace
    assert seen.labels["plain.test."] == plain[0].trace


class Client(FastHandler):
    """Gives each query the header of a client's trace; its name is the value of `b3`."""

    name = "client"

    def begin_dns(self, request):
        value = request.name.partition(".")[0]
        request.identity = replace(ANONYMOUS, http=HTTPFacts("GET", "/", (("b3", value),)))
        return self.next.begin_dns(request)


TRACE, SPAN, ABOVE = "64fe8b2a57d3eff7", "e457b5a2e4d86bd1", "05e3ac9a4f6e3b90"


@pytest.mark.parametrize("shared", [False, True])
@KINDS
def test_a_client_s_trace_continues(kind, shared):
    plugins = with_handlers(client=Client)
    options = f"client_server {str(shared).lower()}"
    with HTTPRecorder() as collector:
        text = traced(collector, "client\nwhoami", kind, options)
        with serve(text, plugins=plugins, order="client before trace") as server:
            server.ask("0.test.")
            server.ask(f"{TRACE}-{SPAN}-0.test.")
            server.ask(f"{TRACE}-{SPAN}-1-{ABOVE}.test.")
            server.ask("nonsense.test.")
            known: list[Any] = []
            new: list[Any] = []
            while not new:
                request = collector.next()
                for span in (
                    READERS["zipkin"](request) if kind == "zipkin" else loose(kind, request)
                ):
                    (known if span.trace.endswith(TRACE) else new).append(span)
    assert [it.name for it in known] == ["whoami", "servedns"]
    own, top = known
    assert own.parent == top.ident
    if kind == "zipkin" and shared:
        assert (top.ident, top.parent) == (SPAN, ABOVE)
        assert b'"shared":true' in request.body or known
    else:
        assert (top.ident != SPAN, top.parent) == (True, SPAN)


def loose(kind, request):
    """Return the spans of a request whose traces have IDs of 64 bits."""
    if kind == "otlp":
        return list(READERS[kind](request))
    found = []
    for trace in unpack(request.body)[0]:
        for span in trace:
            assert "_dd.p.tid" not in span["meta"] or span["trace_id"] != int(TRACE, 16)
            found.append(
                Got(f"{span['trace_id']:016x}", f"{span['span_id']:016x}",
                    f"{span['parent_id']:016x}", span["name"], 0, 0, True, {}, "")
            )  # fmt: skip
    return found


def test_one_of_several_queries():
    """Queries that the packet cache answers are counted, but not traced."""
    with HTTPRecorder() as collector, Upstream(ZONE) as upstream:
        rest = f"cache\nforward . {upstream.to}"
        with serve(traced(collector, rest, options="every 3")) as server:
            (handler,) = server.plugins(Trace)
            for name in ("a", "b", "c", "d"):
                server.ask(f"{name}.test.")
            ((*_, top),) = spans_of(collector, 4)
            assert top.tags == tags("NXDOMAIN", "c.test.")
            for _ in range(2):  # a miss and a hit; the reply counts its repetitions
                server.ask("www.test.", tcp=True)
            (trace,) = spans_of(collector, 2)
            assert tree(trace) == ["servedns", ["cache"]]
            server.call(handler.count_hits, 100)
            server.ask("e.test.")
            (trace,) = spans_of(collector, 4)
            assert top_of(trace).tags == tags("NXDOMAIN", "e.test.")
            server.ask("f.test.")
    assert collector.requests.empty()


def test_no_query():
    text = "whoami", "", "every 0"
    with HTTPRecorder() as collector, serve(traced(collector, *text)) as server:
        (handler,) = server.plugins(Trace)
        assert server.ask("www.test.").ar
        assert handler.reporter is None
    assert collector.connections == 0


def test_a_reload_sends_the_remaining_spans_and_changes_the_collector():
    late = "zipkin_max_batch_interval 1h"
    with HTTPRecorder() as first, HTTPRecorder() as second:
        with serve(traced(first, "whoami", options=late)) as server:
            server.ask("a.test.")
            assert first.requests.empty()
            server.reload(traced(second, "whoami", "otlp", options=late))
            (trace,) = spans_of(first, 2)
            assert top_of(trace).tags["coredns.io/name"] == "a.test."
            server.ask("b.test.")
            server.reload(". {\nbind 127.0.0.1\nwhoami\n}")
            (trace,) = spans_of(second, 2, "otlp")
            assert top_of(trace).tags["coredns.io/name"] == "b.test."
            server.reload(traced(first, "whoami", options=late))
            server.ask("c.test.")
        (trace,) = spans_of(first, 2)  # sent at the end of the server
        assert top_of(trace).tags["coredns.io/name"] == "c.test."


def test_an_unreachable_collector_costs_no_answer(caplog):
    port = free_port()
    options = "zipkin_max_backlog_size 5\nzipkin_max_batch_size 2"
    text = (
        f". {{\nbind 127.0.0.1\ntrace 127.0.0.1:{port} {{\n{options}\n"
        "zipkin_max_batch_interval 1ms\n}\nwhoami\n}"
    )
    with serve(text) as server:
        (handler,) = server.plugins(Trace)
        while not server.call(lambda: handler.reporter.is_stalled):
            assert server.ask("www.test.").ar
        skipped = value("coredns_trace_queries_skipped_total", f"127.0.0.1:{port}")
        server.ask("www.test.")
        assert value("coredns_trace_queries_skipped_total", f"127.0.0.1:{port}") == skipped + 1
        state = server.call(handler.explain_state, None)
        assert (state["state"], state["spans waiting"]) == ("traces", 5)
        assert state["problem"] == "Connection refused"
    (record,) = [it for it in caplog.records if it.name == "corepy.plugin.trace"]
    start = f"cannot send spans to http://127.0.0.1:{port}/api/v2/spans: Connection refused; "
    assert record.getMessage().startswith(start)
    assert "up to 5 spans are kept" in record.getMessage()
    dropped = value("coredns_trace_spans_dropped_total", f"127.0.0.1:{port}", "shutdown")
    assert dropped == 5


def value(name, *labels):
    (metric,) = [it for it in metrics.registered() if it.name == name]
    return metric.labels(*labels).value


def test_explained_questions_are_not_traced():
    with HTTPRecorder() as collector, serve(traced(collector, "whoami")) as server:
        (handler,) = server.plugins(Trace)
        copied = handler.copy_for_trace(handler.next)
        assert copied is not handler
        assert copied._left == float("inf")
        assert handler._left == 1
        assert handler.explain_state(make_request("a.test.")) == {
            "state": "traces", "every": 1, "spans waiting": 0,
            "collector": f"http://127.0.0.1:{collector.port}/api/v2/spans",
        }  # fmt: skip


LENGTHS = [0, 31, 32, 255, 256, 65535, 65536]
WORDS = st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=15)
NUMBERS = st.dictionaries(st.text(max_size=9), st.floats(allow_nan=False), max_size=15)


@pytest.mark.parametrize("length", LENGTHS)
def test_msgpack_of_texts(length):
    data = text("a" * length)
    assert unpack(data) == ("a" * length, len(data))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(WORDS, NUMBERS)
def test_msgpack_of_maps(words, numbers):
    for value, data in ((words, strings(words)), (numbers, floats(numbers))):
        assert unpack(data) == (value, len(data))


@pytest.mark.parametrize("size", [0, 15, 16, 65535, 65536])
def test_msgpack_of_arrays(size):
    data = array_head(size) + b"\1" * size
    assert unpack(data) == ([1] * size, len(data))


def test_the_address_of_the_block_is_that_of_the_spans():
    with HTTPRecorder() as collector:
        text = traced(collector, "whoami", before="bind ::1").replace(". {", ".:0 {", 1)
        with serve(text) as server:
            server.ask("www.test.")
            endpoint = json.loads(collector.next().body)[0]["localEndpoint"]
    assert ipaddress.ip_address(endpoint["ipv6"]) == ipaddress.ip_address("::1")
