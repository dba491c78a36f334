"""The way of spans to a collector that is slow, fails or rejects them; real HTTP on loopback."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from corepy.http.http_client import HTTPClient, HTTPTarget
from corepy.plugin import metrics
from corepy.testing import free_port, until
from corepy.testing.http_recorder import HTTPRecorder
from corepy_trace import reporter as module
from corepy_trace.reporter import Reporter
from corepy_trace.settings import Kind, LocalEndpoint, Settings, target_of
from corepy_trace.span import QueryTrace, Span
from corepy_trace.zipkin import ZipkinFormat

OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
FULL = b"HTTP/1.1 503 Full\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\nfull"
BAD = b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno path"
SOON, NEVER = 0.001, 3600.0


class Sink(list[list[str]]):
    """The spans that a trace passes on, in the order of the calls."""

    def add(self, spans):
        self.append([span.name for span in spans])


def test_the_spans_of_a_trace_are_passed_on_together_and_late_ones_alone():
    sink = Sink()
    trace = QueryTrace(1, sink, 0.0)
    top = Span(trace, "top", 0.0, None, parent=5)
    below, late = (Span(trace, name, 0.0, top) for name in ("below", "late"))
    assert (top.parent, below.parent, late.parent) == (5, top.ident, top.ident)
    for span in (below, top, late):
        trace.end(span)
    assert sink == [["below", "top"], ["late"]]


def settings_of(port, **options):
    target = target_of(Kind.ZIPKIN, f"127.0.0.1:{port}")
    return Settings(Kind.ZIPKIN, target, LocalEndpoint("", 53), **{"interval": SOON, **options})


@asynccontextmanager
async def reporter_to(port, *, timeout=60.0, pause=SOON, **options):
    settings = settings_of(port, **options)
    client = HTTPClient(settings.target, timeout)
    reporter = Reporter(settings, ZipkinFormat(settings), client, first_pause=pause)
    reporter.start()
    try:
        yield reporter
    finally:
        await reporter.close()
        assert reporter.waiting == 0


def spans(*names):
    trace = QueryTrace(1, Sink(), 0.0)
    return [Span(trace, name, 0.0, None) for name in names]


async def next_names(collector):
    """Return the names of the spans in the next request."""
    request = await asyncio.to_thread(collector.next)
    return [span["name"] for span in json.loads(request.body)]


def counted(name, port, *labels):
    (metric,) = [it for it in metrics.registered() if it.name == f"coredns_trace_{name}_total"]
    return metric.labels(f"127.0.0.1:{port}", *labels).value


@pytest.fixture(autouse=True)
def zero():
    """Forget what was counted: the port of a collector may be that of an earlier test."""
    for metric in metrics.registered():
        if metric.name.startswith("coredns_trace_"):
            for values, _ in metric.children():
                metric.remove(*values)


def run(test):
    asyncio.run(asyncio.wait_for(test, 120))


def test_a_full_batch_is_sent_at_once_and_the_rest_after_the_interval():
    async def test():
        async with reporter_to(collector.port, batch=2, interval=NEVER) as reporter:
            reporter.add(spans("a"))
            reporter.add(spans("b"))
            assert await next_names(collector) == ["a", "b"]
            reporter.add(spans("c", "d", "e"))
            assert await next_names(collector) == ["c", "d"]
            assert await next_names(collector) == ["e"]
            reporter.add(spans("f"))
        assert await next_names(collector) == ["f"]
        async with reporter_to(collector.port, batch=100) as reporter:
            reporter.add(spans("g"))
            assert await next_names(collector) == ["g"]

    with HTTPRecorder() as collector:
        run(test())
        assert counted("spans_sent", collector.port) == 7


def test_many_spans_are_sent_in_batches():
    async def test():
        async with reporter_to(collector.port) as reporter:
            reporter.add(spans(*map(str, range(250))))
            sizes = [len(await next_names(collector)) for _ in range(3)]
            assert sizes == [100, 100, 50]

    with HTTPRecorder() as collector:
        run(test())


def test_the_oldest_spans_make_room():
    async def test():
        async with reporter_to(collector.port, backlog=3, interval=NEVER) as reporter:
            reporter.add(spans(*"abcde"))
            assert reporter.waiting == 3
            assert not reporter.is_stalled
        assert await next_names(collector) == ["c", "d", "e"]

    with HTTPRecorder() as collector:
        run(test())
        assert counted("spans_dropped", collector.port, "backlog") == 2


def test_a_batch_is_sent_again_after_a_failure(caplog):
    caplog.set_level("INFO")

    async def test():
        async with reporter_to(collector.port) as reporter:
            reporter.add(spans("a"))
            assert await next_names(collector) == ["a"]
            assert await next_names(collector) == ["a"]
            collector.response = OK
            await until(lambda: not reporter.waiting and not reporter.problem)

    with HTTPRecorder(FULL) as collector:
        run(test())
        assert counted("spans_sent", collector.port) == 1
        assert counted("send_failures", collector.port) >= 2
        assert not counted("spans_dropped", collector.port, "shutdown")
        url = f"http://127.0.0.1:{collector.port}/api/v2/spans"
    first, last = [it.getMessage() for it in caplog.records if it.name == "corepy.plugin.trace"]
    assert first.startswith(f"cannot send spans to {url}: status 503 full; next attempt in ")
    assert last == f"{url} accepts spans again"


def test_a_collector_that_starts_later_gets_the_spans():
    async def test():
        async with reporter_to(port) as reporter:
            reporter.add(spans("a"))
            await until(lambda: reporter.problem)  # a refused connection
            with HTTPRecorder(port=port) as collector:
                assert await next_names(collector) == ["a"]

    port = free_port()
    run(test())


def test_rejected_spans_are_not_sent_again(caplog):
    async def test():
        async with reporter_to(collector.port) as reporter:
            reporter.add(spans("a", "b"))
            assert await next_names(collector) == ["a", "b"]
            await until(lambda: reporter.problem)  # the response
            reporter.add(spans("c"))
            assert await next_names(collector) == ["c"]

    with HTTPRecorder(BAD) as collector:
        run(test())
        dropped = sum(
            counted("spans_dropped", collector.port, it) for it in ("rejected", "shutdown")
        )
        assert dropped == 3
    assert "the spans were rejected with status 404 no path" in caplog.text


def test_pauses_grow_and_obey_the_collector():
    async def test():
        async with reporter_to(collector.port, pause=1.0) as reporter:
            waits = []

            async def failed(result=None):
                reporter._closing = asyncio.Event()
                task = asyncio.create_task(reporter._failed([], "full", result))
                await asyncio.sleep(0)
                loop = asyncio.get_running_loop()
                waits.append(min(it.when() - loop.time() for it in loop._scheduled))
                reporter._closing.set()
                assert await task is False

            for _ in range(8):
                await failed()
            bounds = (1, 2, 4, 8, 16, 32, 60, 60)
            assert all(0.9 * low < it <= 1.5 * low for it, low in zip(waits, bounds, strict=True))
            reporter._pause = 1.0
            waits.clear()
            await failed(module_result(30.0))
            await failed(module_result(86400.0))
            assert 29 < waits[0] <= 30
            assert 59 < waits[1] <= 60

    with HTTPRecorder() as collector:
        run(test())


def module_result(retry_after):
    from corepy.http.http_client import HTTPResult

    return HTTPResult(503, "", retry_after)


def test_a_silent_collector_does_not_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(module, "FLUSH_TIMEOUT", 0.01)

    async def test():
        async with reporter_to(collector.port, backlog=2) as reporter:
            reporter.add(spans("a", "b"))
            assert await next_names(collector) == ["a", "b"]
            assert reporter.waiting == 2
            reporter.add(spans("c"))

    with HTTPRecorder(None) as collector:
        run(test())
        dropped = [counted("spans_dropped", collector.port, it) for it in ("backlog", "shutdown")]
        assert sum(dropped) == 3


def test_a_collector_that_is_too_slow_stalls_the_reporter():
    async def test():
        async with reporter_to(collector.port, timeout=0.01, pause=NEVER, backlog=2) as reporter:
            reporter.add(spans("a", "b"))
            await until(lambda: reporter.problem)  # the time limit of the request
            assert reporter.problem == "no response within 0.01 s"
            assert reporter.is_stalled

    with HTTPRecorder(None) as collector:
        run(test())
        assert counted("spans_dropped", collector.port, "shutdown") == 2


def test_spans_that_end_after_the_end_are_counted():
    async def test():
        async with reporter_to(collector.port) as reporter:
            pass
        reporter.add(spans("a", "b"))
        assert reporter.waiting == 0

    with HTTPRecorder() as collector:
        run(test())
        assert counted("spans_dropped", collector.port, "shutdown") == 2
        assert collector.connections == 0


def test_a_mistake_in_the_encoder_costs_one_batch(caplog):
    async def test():
        async with reporter_to(collector.port) as reporter:
            bad = spans("a")
            bad[0].tags = {"unknown": "tag"}
            reporter.add(bad)
            await until(lambda: counted("spans_dropped", collector.port, "rejected"))
            reporter.add(spans("b"))
            assert await next_names(collector) == ["b"]

    with HTTPRecorder() as collector:
        run(test())
    assert "failed to encode spans: KeyError" in caplog.text


@pytest.mark.parametrize("status", [200, 204])
def test_any_success_will_do(status):
    async def test():
        async with reporter_to(collector.port) as reporter:
            reporter.add(spans("a"))
            await next_names(collector)

    with HTTPRecorder(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status) as collector:
        run(test())
        assert counted("spans_sent", collector.port) == 1


def test_the_target_is_not_a_secret_in_metrics_and_messages():
    target = HTTPTarget("https", "h", 443, "/spans?api_key=secret", "Basic c2VjcmV0")
    client = HTTPClient(target, 1)
    assert (client.target.authority, client.target.url) == ("h", "https://h/spans")
