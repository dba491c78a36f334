"""/debug/pprof of a running server: in the process of the test, so without CPU profiles."""

import asyncio
import contextlib
import http.client
import socket
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from corepy.testing import serve
from corepy.testing.command import wait_until
from corepy.testing.fuzzing import briefly
from corepy.testing.profiles import decode
from corepy_pprof import answers
from corepy_pprof.endpoint import Pprof
from corepy_pprof.shared import shared

TEXT = ". {{\nbind 127.0.0.1\npprof 127.0.0.1:{port} {{\n{options}\n}}\nwhoami\n}}\n"
PLAIN = ". {\nbind 127.0.0.1\nwhoami\n}\n"
MEASURES = ("profile", "trace", "heap", "allocs", "goroutine", "block", "mutex", "threadcreate")


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No allocations are recorded after a test."""
    yield
    assert not tracemalloc.is_tracing()


def text(options="", port=0):
    return TEXT.format(port=port, options=options)


def port_of(server):
    claim = server.plugins(Pprof)[0]._claim
    assert claim is not None
    return claim.address.port


def get(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request(method, f"/debug/pprof{path}")
        response = connection.getresponse()
        return SimpleNamespace(
            status=response.status, headers=response.headers, body=response.read()
        )
    finally:
        connection.close()


def is_measuring(server):
    return server.call(lambda: shared().measurement.is_active)


@contextlib.contextmanager
def measuring(server, path="/heap?seconds=300"):
    """A measurement in progress; its future answer."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(get, port_of(server), path)
        wait_until(lambda: is_measuring(server))
        yield answer


@pytest.fixture(scope="module")
def port():
    with serve(text()) as server:
        yield port_of(server)


def test_the_index_lists_all(port):
    page = get(port, "/")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    for name in (*MEASURES, "cmdline", "symbol"):
        assert f'<a href="{name}'.encode() in page.body
    bare = get(port, "")
    assert (bare.status, bare.headers["Location"]) == (302, "/debug/pprof/")


def test_small_answers(port):
    line = get(port, "/cmdline")
    assert line.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert line.body.decode() == "\0".join(sys.argv)  # the server runs in this process
    assert get(port, "/symbol").body == b"num_symbols: 0\n"
    assert get(port, "/symbol", "POST").body == b"num_symbols: 0\n"
    assert get(port, "/nonsense").status == 404
    for name in MEASURES:
        head = get(port, f"/{name}", "HEAD")  # measures nothing
        assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("name", ["heap", "allocs"])
def test_memory(port, name):
    answer = get(port, f"/{name}?seconds=0.01&gc=1")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    profile = decode(answer.body)
    assert profile.types == [("inuse_objects", "count"), ("inuse_space", "bytes")]
    assert all(count > 0 and size > 0 for _, (count, size), _ in profile.samples)
    functions = {frame[0] for stack, _, _ in profile.samples for frame in stack}
    assert {"threading.Thread.start", "corepy_pprof.measures.Measures._trace_heap"} <= functions
    assert profile.comments[0] == "only what was allocated during the request"
    assert profile.comments[1].startswith("process ")
    shown = get(port, f"/{name}?seconds=0.01&debug=1")
    assert shown.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert shown.body.startswith(b"heap profile: ")


def test_threads_and_tasks(port):
    profile = decode(get(port, "/goroutine").body)
    assert profile.types == [("goroutine", "count")]
    stacks = [tuple(frame[0] for frame in stack) for stack, _, _ in profile.samples]
    assert any(stack[0] == "corepy_pprof.activities.threads" for stack in stacks)
    assert any("corepy.testing.inprocess.TestServer._main" in stack for stack in stacks)
    assert get(port, "/goroutine?debug=1").body.startswith(b"goroutine profile: total ")
    listed = get(port, "/goroutine?debug=2").body.decode()
    assert listed.startswith("goroutine 1 [running, thread ")
    assert "[awaiting, task " in listed
    assert "[running, task " in listed
    assert "corepy.testing.inprocess.TestServer._main(...)\n\t/" in listed


def test_the_threads_of_the_process(port):
    profile = decode(get(port, "/threadcreate").body)
    assert sum(values[0] for _, values, _ in profile.samples) >= threading.active_count()
    assert all(len(stack) == 1 for stack, _, _ in profile.samples)


@pytest.mark.parametrize("name", ["block", "mutex"])
def test_without_the_option_there_are_no_delays(port, name):
    profile = decode(get(port, f"/{name}").body)
    assert profile.types == [("contentions", "count"), ("delay", "nanoseconds")]
    assert profile.samples == []


def test_a_change(port):
    profile = decode(get(port, "/threadcreate?seconds=0.01").body)
    assert profile.types == [("threadcreate", "count")]
    assert profile.duration > 0


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        (
            "/profile?seconds=0",
            400,
            "invalid value for \"seconds\": '0'; use a number of up to 300",
        ),
        (
            "/heap?seconds=9999",
            400,
            "invalid value for \"seconds\": '9999'; use a number of up to 300",
        ),
        ("/block?seconds=1&debug=1", 400, "seconds and debug cannot be combined"),
        ("/profile", 503, "no CPU profile: the event loop does not run in the main thread"),
        ("/trace", 503, "no CPU profile: the event loop does not run in the main thread"),
    ],
)
def test_refusals(port, path, status, reason):
    answer = get(port, path)
    assert (answer.status, answer.body.decode()) == (status, f"{reason}\n")
    assert answer.headers["X-Go-Pprof"] == "1"  # go tool pprof prints the reason


@pytest.mark.parametrize("path", ["/goroutine", "/threadcreate?debug=1", "/block"])
def test_profiles_of_one_moment_are_taken_one_after_the_other(port, path, monkeypatch):
    """Each has a thread while it is encoded, with which the event loop shares the interpreter."""
    active, most = [], []
    for name in ("encode", "as_text"):
        real = getattr(answers, name)

        def counted(profile, real=real):
            active.append(1)
            most.append(len(active))
            try:
                return real(profile)
            finally:
                active.pop()

        monkeypatch.setattr(answers, name, counted)
    with ThreadPoolExecutor(8) as pool:
        assert [it.status for it in pool.map(lambda _: get(port, path), range(16))] == [200] * 16
    assert most == [1] * 16


def test_one_measurement_at_a_time():
    with serve(text()) as server:
        with measuring(server) as answer:
            for path in ("/heap", "/allocs", "/profile", "/trace", "/goroutine?seconds=1"):
                busy = get(port_of(server), path)
                assert busy.status == 409
                assert busy.body.startswith(b"heap is being measured, for another ")
            assert get(port_of(server), "/goroutine").status == 200
            server.call(lambda: shared().measurement.end())
            assert answer.result().status == 200
        assert get(port_of(server), "/heap?seconds=0.01").status == 200


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
def test_a_client_that_leaves_ends_the_measurement(how):
    with serve(text()) as server:
        client = socket.create_connection(("127.0.0.1", port_of(server)))
        client.sendall(b"GET /debug/pprof/heap?seconds=300 HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: is_measuring(server))
        assert tracemalloc.is_tracing()
        if how == "half-close":
            client.shutdown(socket.SHUT_WR)
        else:
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        wait_until(lambda: not is_measuring(server))
        assert not tracemalloc.is_tracing()
        client.close()


def test_a_reload_keeps_the_measurement_and_the_address():
    with serve(text()) as server:
        port = port_of(server)
        server.reload(text(port=port))
        assert port_of(server) == port
        with measuring(server) as answer:
            server.reload(text("block", port))
            assert is_measuring(server)
            assert server.call(lambda: shared().stalls._thread) is not None
            server.reload(PLAIN)  # no more pprof: the client gets what there is within a second
            with contextlib.suppress(http.client.RemoteDisconnected):
                assert decode(answer.result().body).types[0] == ("inuse_objects", "count")
        assert server.call(lambda: shared().stalls._thread) is None
        with pytest.raises(OSError, match="refused"):
            get(port, "/")


def test_a_reload_with_another_address_ends_the_measurement():
    with serve(text()) as server:
        before = port_of(server)
        with measuring(server) as answer:
            server.reload(text(port=0).replace("127.0.0.1:0", "127.0.0.2:0"))
            claim = server.plugins(Pprof)[0]._claim
            assert claim is not None
            assert claim.address.host == "127.0.0.2"
            wait_until(lambda: not is_measuring(server))
            with contextlib.suppress(http.client.RemoteDisconnected):  # its connection is closed
                answer.result()
        with pytest.raises(OSError, match="refused"):
            get(before, "/")


def test_a_client_that_never_reads_costs_nothing():
    with serve(text()) as server:
        clients = []
        for _ in range(3):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect(("127.0.0.1", port_of(server)))
            client.sendall(b"GET /debug/pprof/goroutine?debug=2 HTTP/1.1\r\nHost: h\r\n\r\n" * 99)
            clients.append(client)
        assert get(port_of(server), "/heap?seconds=0.01").status == 200
        assert server.ask("example.org.").header.rcode == 0
    for client in clients:
        client.close()


def test_memory_from_the_start():
    with serve(text("heap 3")) as server:
        port = port_of(server)
        assert tracemalloc.get_traceback_limit() == 3
        profile = decode(get(port, "/heap").body)
        assert profile.comments[0].startswith("process ")
        assert 0 < max(len(stack) for stack, _, _ in profile.samples) <= 3
        server.reload(text("heap 3", port))
        assert tracemalloc.is_tracing()
        server.reload(text("", port))
        assert not tracemalloc.is_tracing()


def test_tracing_of_others_goes_on():
    tracemalloc.start(2)
    try:
        with serve(text("heap 3")) as server:
            assert get(port_of(server), "/heap").status == 200
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


def test_an_address_that_cannot_be_bound_costs_only_the_profiles(caplog):
    with serve(text().replace("pprof 127.0.0.1:0", "pprof 192.0.2.1:6053")) as server:
        assert server.ask("example.org.").header.rcode == 0
    (message,) = [it.getMessage() for it in caplog.records if "pprof" in it.name]
    assert "192.0.2.1:6053" in message
    assert message.endswith("; there will be no profiles until the next reload")


def test_two_blocks_share_what_is_measured():
    other = text("block 50").replace(". {", "example.org {", 1)
    with serve(text("block 90") + other) as server:
        first, second = server.plugins(Pprof)
        assert first._claim is not None
        assert second._claim is not None
        assert server.call(lambda: shared().stalls._rate) == 50
        assert get(second._claim.address.port, "/").status == 200


PATHS = (
    *(f"/{name}" for name in MEASURES if name != "heap"),
    "/",
    "",
    "/cmdline",
    "/symbol",
    "/..",
)
QUERIES = (
    b"", b"?", b"?seconds=0.001", b"?seconds=-1", b"?seconds=nan", b"?seconds=%", b"?seconds=1e9",
    b"?debug=1", b"?debug=2", b"?debug=-1", b"?gc=1", b"?" + b"a&" * 40, b"?" + b"x" * 3000,
    b"?seconds=%F0%9F", b"?seconds=0.001&debug=1", b"?debug=%00", b"?seconds=;drop",
)  # fmt: skip
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS")


def test_any_request_gets_an_answer(port):
    def check(data):
        numbers = [*data[:6], *bytes(6)]
        path = b"/debug/pprof" + PATHS[numbers[0] % len(PATHS)].encode()
        query = QUERIES[numbers[1] % len(QUERIES)]
        if b"allocs" in path and b"seconds=0.001" not in query:
            query = b"?seconds=0"  # the default would measure for seconds
        method = METHODS[numbers[2] % len(METHODS)]
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(60)
            head = b"%s %s%s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            client.sendall(head % (method, path, query))
            answer = b""
            while piece := client.recv(65536):
                answer += piece
        assert int(answer.split(b" ", 2)[1]) in (200, 302, 400, 404, 503), answer[:200]

    briefly(check, 60)


def test_tasks_are_collected_in_slices(monkeypatch):
    from corepy_pprof import activities

    turns: list[int] = []

    async def run():
        gate = asyncio.Event()
        waiting = [asyncio.create_task(gate.wait(), name=f"w{number}") for number in range(7)]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(turns.append, 1)
        found = await activities.tasks()
        gate.set()
        await asyncio.gather(*waiting)
        return found

    monkeypatch.setattr(activities, "CHUNK", 2)
    found = asyncio.run(run())
    assert turns == [1]
    assert {it.name for it in found if it.name.startswith("w")} == {f"w{it}" for it in range(7)}
    (one,) = {it.stack for it in found if it.name.startswith("w")}
    assert [code.co_name for code in one.codes] == ["wait"]
