"""Queries that exceed the limit of *cancel*, in a real server."""

import asyncio

import dnslib
import pytest
from dnslib import RR

from corepy.plugin import FastHandler, Handler, Pending, Wakeups
from corepy.server.listen import query_timeout
from corepy.testing import Upstream, query, serve, with_handlers
from corepy.testing.command import wait_until

SERVFAIL = 2


class Hangs(Handler):
    """Answers at the end of the test, or at once if the name begins with `now`."""

    name = "hangs"

    def __init__(self):
        self.cancelled = 0
        self.end = asyncio.Event()

    async def serve_dns(self, request):
        if not request.name.startswith("now."):
            try:
                await self.end.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return request.error(0)


class Silent(FastHandler):
    """A chain without coroutines whose reply never comes."""

    name = "hangs"

    def begin_dns(self, request):
        return Pending(Wakeups(asyncio.get_running_loop()), lambda _: None)


def block(*lines, zone="."):
    return f"{zone} {{\nbind 127.0.0.1\n" + "".join(f"{line}\n" for line in lines) + "}\n"


@pytest.mark.parametrize("kind", [Hangs, Silent])
@pytest.mark.parametrize("tcp", [False, True])
def test_a_slow_query_gets_servfail(kind, tcp, caplog):
    text = block("cancel 100ms", "hangs")
    with serve(text, plugins=with_handlers(hangs=kind)) as server:
        wire = query("slow.test")
        expected = dnslib.DNSRecord.parse(wire).reply(ra=0, aa=0)
        expected.header.rcode = SERVFAIL
        assert server.exchange(wire, tcp=tcp) == expected.pack()
    messages = [it.getMessage() for it in caplog.records if it.name == "corepy.plugin.hangs"]
    assert len(messages) == 1
    assert messages[0].startswith("slow.test. A from 127.0.0.1: no answer after 0.1 s (waiting at ")


def test_only_the_block_with_cancel_has_the_limit(monkeypatch):
    """A hanging query of the other block waits until the end."""
    monkeypatch.setenv(query_timeout.SWITCH, "600")
    text = block("cancel 100ms", "hangs", zone="a.test") + block("hangs", zone="b.test")
    with serve(text, plugins=with_handlers(hangs=Hangs)) as server:
        with pytest.raises(TimeoutError):
            server.exchange(query("x.b.test"), timeout=0.001)
        for _ in range(3):
            assert server.ask("x.a.test").header.rcode == SERVFAIL
            assert server.ask("now.a.test").header.rcode == 0
        (endpoint,) = server.server.endpoints.values()
        assert [it.request.name for it in server.call(endpoint.waiting)] == ["x.b.test."]
        handlers = server.plugins(Hangs)
        assert sorted(it.cancelled for it in handlers) == [0, 3]
        for handler in handlers:
            server.call(handler.end.set)


def test_a_reload_changes_the_limit(monkeypatch):
    """Without a limit of the process, too: the check starts with the block that has one."""
    monkeypatch.setenv(query_timeout.SWITCH, "0")
    with serve(block("hangs"), plugins=with_handlers(hangs=Hangs)) as server:
        assert server.ask("now.test").header.rcode == 0
        server.reload(block("cancel 100ms", "hangs"))
        assert server.ask("slow.test").header.rcode == SERVFAIL


def test_the_limit_of_the_process_is_not_extended(monkeypatch, caplog):
    monkeypatch.setenv(query_timeout.SWITCH, "0.2")
    with serve(block("cancel 1h", "hangs"), plugins=with_handlers(hangs=Hangs)) as server:
        assert server.ask("slow.test").header.rcode == SERVFAIL
    assert "no answer after 0.2 s" in caplog.text


@pytest.mark.parametrize(
    ("of_process", "limits", "interval"),
    [
        ("10", [0.0, 5.001], 1.0),
        ("10", [0.0], 1.0),
        ("10", [1.5, 5.001], 0.75),
        ("10", [0.01], 0.05),
        ("0.4", [5.001], 0.2),
        ("0", [0.5], 0.25),
        ("0", [0.0], None),
    ],
)
def test_the_interval_of_the_check(of_process, limits, interval, monkeypatch):
    monkeypatch.setenv(query_timeout.SWITCH, of_process)

    async def run():
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: 100.0)
        timeouts = query_timeout.QueryTimeouts(lambda: ())
        timeouts.start([0.05])
        timeouts.start(limits)
        timer = timeouts._timer
        monkeypatch.undo()
        assert (timer and timer.when()) == (interval and 100.0 + interval)
        timeouts.stop()

    asyncio.run(run())


def test_cache_and_forward_below():
    """A hit is answered, a miss of a silent upstream is cancelled; the packet cache stays on."""
    zone = {"www.test. A": ["www.test. 60 IN A 192.0.2.1"]}
    with Upstream(zone) as upstream:
        text = block("cancel 200ms", "cache", f"forward . {upstream.to}")
        with serve(text) as server:
            wait_until(
                lambda: server.ask("www.test").rr
            )  # *forward* may need longer than the limit
            for _ in range(2):
                assert str(server.ask("www.test").rr[0].rdata) == "192.0.2.1"
            assert server.packet_entries == 1
            upstream.behave(lambda asked, proto: None)
            assert server.ask("other.test").header.rcode == SERVFAIL
            assert str(server.ask("www.test").rr[0].rdata) == "192.0.2.1"


class Once(Hangs):
    """Answers the first query with a record that is valid for a second, and no other query."""

    def __init__(self):
        super().__init__()
        self.has_answered = False

    async def serve_dns(self, request):
        if self.has_answered:
            return await super().serve_dns(request)
        self.has_answered = True
        return request.reply(answer=RR.fromZone("www.test. 1 IN A 192.0.2.1"))


def test_a_stale_answer_instead_of_a_cancelled_query():
    """*cache* waits for a new answer first (`verify`), but less than the limit."""
    stale = "cache 1 {\nsuccess 100 1 0\nserve_stale 1h verify 0 30s\n}"
    found, order = with_handlers(hangs=Once), "hangs after cache"
    with serve(block("cancel 800ms", stale, "hangs"), plugins=found, order=order) as server:
        for ttl in (1, 30):
            wait_until(lambda ttl=ttl: [rr.ttl for rr in server.ask("www.test").rr] == [ttl])
        (handler,) = server.plugins(Once)
        server.call(handler.end.set)
