"""Failures of collectors that need a whole server, a raw socket, or odd queries.

Those of a dead, a rejecting and a silent collector are in `test_trace_reporter.py`.
"""

import asyncio
import json
import socket
import struct
import threading

import dnslib
import pytest

from corepy.http.http_client import HTTPClient
from corepy.testing import helper_module, make_request, serve, until
from corepy.testing.http_recorder import HTTPRecorder
from corepy_trace.reporter import Reporter
from corepy_trace.settings import Kind, LocalEndpoint, Settings, target_of
from corepy_trace.span import QueryTrace, Span
from corepy_trace.zipkin import ZipkinFormat

helpers = helper_module(__file__, "trace_collectors")
KINDS, spans_of, traced, top_of = (
    helpers.KINDS, helpers.spans_of, helpers.traced, helpers.top_of,
)  # fmt: skip

OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
RESET = struct.pack("ii", 1, 0)


def reporter_to(port, timeout=60.0, **options):
    settings = Settings(
        Kind.ZIPKIN, target_of(Kind.ZIPKIN, f"127.0.0.1:{port}"), LocalEndpoint("", 53),
        interval=0.001, **options,
    )  # fmt: skip
    client = HTTPClient(settings.target, timeout)
    return Reporter(settings, ZipkinFormat(settings), client, first_pause=0.001)


async def close(reporter):
    """Close it, and let its connection be closed before the loop is."""
    await reporter.close()
    await asyncio.sleep(0)


class Sink(list[Span]):
    def add(self, spans):
        self.extend(spans)


def spans(number, error=""):
    made = [Span(QueryTrace(1, Sink(), 0.0), str(it), 0.0, None) for it in range(number)]
    for span in made:
        span.error = error
    return made


def test_a_collector_that_accepts_and_never_reads():
    """The request is longer than the buffers of the kernel, so that it cannot be sent."""

    async def test(port):
        reporter = reporter_to(port, timeout=0.1)
        reporter.add(spans(50, error="e" * 500_000))
        reporter.start()
        await until(lambda: reporter.problem)  # the time limit of the request
        await close(reporter)
        return reporter.problem

    with socket.create_server(("127.0.0.1", 0)) as listener:
        problem = asyncio.run(test(listener.getsockname()[1]))
    assert problem == "no response within 0.1 s"


def test_a_collector_that_resets_the_connection():
    received: list[bytes] = []

    def collect(listener):
        for ending in (RESET, RESET, None):
            stream, _ = listener.accept()
            with stream:
                stream.settimeout(60)
                data = stream.recv(1 << 20)
                if ending is not None:
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ending)
                    continue
                while not data.endswith(b"]"):
                    data += stream.recv(1 << 20)
                received.append(data)
                stream.sendall(OK)

    async def test(port):
        reporter = reporter_to(port)
        reporter.add(spans(1))
        reporter.start()
        await asyncio.to_thread(thread.join)
        await close(reporter)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=collect, args=(listener,), daemon=True)
        thread.start()
        asyncio.run(asyncio.wait_for(test(listener.getsockname()[1]), 60))
    assert len(received) == 1


def test_a_request_that_is_too_large_is_split(caplog):
    def names_in(request):
        return [span["name"] for span in json.loads(request.body)]

    async def test():
        reporter = reporter_to(collector.port, batch=8)
        reporter.add(spans(8))
        reporter.start()
        requests = [await asyncio.to_thread(collector.next) for _ in range(6)]
        await close(reporter)
        return [names_in(each) for each in (*requests, *drain(collector))]

    with HTTPRecorder(lambda it: TOO_LARGE if len(names_in(it)) > 2 else OK) as collector:
        found = asyncio.run(test())
    pairs = [["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"]]
    assert found == [[*"01234567"], [*"0123"], *pairs]
    url = f"http://127.0.0.1:{collector.port}/api/v2/spans"
    assert caplog.messages[:2] == [
        f"{url} rejects a request with {was} spans: status 413; now up to {now} are sent at once"
        for was, now in ((8, 4), (4, 2))
    ]


def drain(collector):
    while not collector.requests.empty():
        yield collector.requests.get()


LABEL = "x" * 63
HUGE = f"{LABEL}.{LABEL}.{LABEL}.{'y' * 61}."
ODD = bytes(range(1, 64))


@pytest.mark.parametrize("name", [HUGE, dnslib.DNSLabel([ODD, ODD, ODD])])
@KINDS
def test_the_longest_and_oddest_names(kind, name):
    with HTTPRecorder() as collector, serve(traced(collector, "whoami", kind)) as server:
        server.ask(name)
        (trace,) = spans_of(collector, 2, kind)
    assert top_of(trace).tags["coredns.io/name"] == make_request(name).name


def test_reloads_under_load_lose_no_span():
    asked = []
    with HTTPRecorder() as first, HTTPRecorder() as second:
        with serve(traced(first, "whoami")) as server:

            def ask():
                assert server.ask("www.test.").ar
                asked.append(1)

            for collector in (second, first, second):
                server.reload_under(ask, traced(collector, "whoami"), times=2)
        bodies = [it.body for each in (first, second) for it in drain(each)]
    names = [span["name"] for body in bodies for span in json.loads(body)]
    assert sorted(names) == sorted(["servedns", "whoami"] * len(asked))
