"""A mistake in a plugin costs its query, hook or directive: never the process, never others' queries.

Every test runs a real server with a plugin that misbehaves in one block, and asks another block.
"""

import asyncio
import gc
import logging
import math
import signal
import socket
import struct
import threading
import time
from contextlib import contextmanager

import dnslib
import pytest

from corepy.corefile import CorefileError
from corepy.dns import Reply, names
from corepy.dns.reply_validation import reply_problem
from corepy.loading.registry import find
from corepy.plugin import (
    Cacheability,
    FastHandler,
    Handler,
    ObservingHandler,
    Pending,
    StartupError,
    Wakeups,
    hookimpl,
    lookup,
)
from corepy.plugin.failures import FAILURES
from corepy.server.build import generation
from corepy.server.contain import loop_watchdog
from corepy.server.contain.failure_report import PANICS, InvalidReplyError
from corepy.server.contain.guard import Guard
from corepy.server.listen import query_timeout
from corepy.testing import (
    free_port,
    http_get,
    inline,
    make_request,
    query,
    run_command,
    serve,
    with_handlers,
)
from corepy.testing.client import read_frame
from corepy.testing.command import wait_until
from corepy_whoami.whoami import Whoami

RCODE = dnslib.RCODE
NAME = "bad.test."

OF_OTHER_TYPE = pytest.mark.pure_form("a value of another type is refused at once")
HUGE = pytest.param(10**400, marks=OF_OTHER_TYPE, id="huge")  # no float


class Outcry(BaseException):
    """An exception that nobody expects."""


class Mute(Exception):
    def __str__(self):
        raise ValueError("no words")


class Leaving(Exception):
    def __str__(self):
        raise SystemExit(4)


class Good(Handler):
    name = "good"

    async def serve_dns(self, request):
        return request.reply(answer=dnslib.RR.fromZone(f"{request.name} 60 IN A 192.0.2.1"))


class Bad(Handler):
    """Does what a test says."""

    name = "bad"

    def __init__(self, behave):
        self.behave = behave

    async def serve_dns(self, request):
        result = self.behave(self, request)
        return await result if asyncio.iscoroutine(result) else result


def plugins(behave, **more):
    return {**with_handlers(bad=lambda: Bad(behave), good=Good), **more}


def counted(kind, plugin="bad"):
    return FAILURES.labels(plugin, kind).value


@pytest.fixture(autouse=True)
def _log(monkeypatch):
    monkeypatch.setattr(logging.getLogger("corepy"), "propagate", True)


@contextmanager
def misbehaving(behave, above="", order="", **options):
    """A server with a bad block (for bad.test) and a good one."""
    text = f"bad.test {{\n{above}\nbad\ngood\n}}\ngood.test {{\ngood\n}}"
    with serve(text, plugins=plugins(behave, **options), order=order) as server:
        yield server
        assert server.ask("x.good.test.").rr, "another block goes on"


def servfails(server, times=1):
    for _ in range(times):
        for tcp in (False, True):
            reply = server.ask(NAME, tcp=tcp)
            assert reply.header.rcode == RCODE.SERVFAIL
            assert str(reply.q.qname) == NAME
            assert not reply.rr


def afresh(error):
    """Forget where it was raised before: the same one is raised in many tests."""
    return error.with_traceback(None)


def raising(error):
    def behave(handler, request):
        raise afresh(error)

    return behave


def raising_late(error):
    async def behave(handler, request):
        await asyncio.sleep(0)
        raise afresh(error)

    return behave


ERRORS = [
    ValueError("boom"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError(),
    Outcry("out"),
    Mute(),
    Leaving(),
    MemoryError(),
    StopIteration(1),
]


@pytest.mark.parametrize("above", ["", "errors\nlog\ncache\nprometheus 127.0.0.1:0\nmetadata"])
@pytest.mark.parametrize("make", [raising, raising_late])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_query_raises(error, make, above, caplog):
    panics, before = PANICS.labels().value, counted("exception")
    with misbehaving(make(error), above, order="bad after minimal\ngood after bad") as server:
        servfails(server, times=2)
    assert counted("exception") - before >= 1
    assert PANICS.labels().value - panics >= 1
    lines = [it for it in caplog.records if "answered SERVFAIL" in it.getMessage()]
    assert {it.name for it in lines} == {"corepy.plugin.bad"}


async def endless(handler, request):
    return await handler.serve_dns(request)


def test_endless_recursion(caplog):
    before = counted("exception")
    with misbehaving(endless) as server:
        servfails(server, times=2)
    assert counted("exception") == before + 4
    assert "RecursionError" in caplog.text


def reply_with(**values):
    def behave(handler, request):
        reply = request.reply(answer=dnslib.RR.fromZone(f"{request.name} 60 IN A 192.0.2.1"))
        for name, value in values.items():
            setattr(reply, name, value(reply) if callable(value) else value)
        return reply

    return behave


def about(name, qtype="A"):
    def behave(handler, request):
        reply = Reply(b"")
        reply.set_record(dnslib.DNSRecord.question(name, qtype).reply())
        return reply

    return behave


@pytest.mark.parametrize("above", ["", "errors\nlog\ncache\nprometheus 127.0.0.1:0\nminimal"])
@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (lambda h, r: None, "returned NoneType instead of a Reply"),
        (lambda h, r: "nonsense", "returned str instead of a Reply"),
        (lambda h, r: r, "returned Request instead of a Reply"),
        (lambda h, r: h.serve_dns, "returned method instead of a Reply"),
        pytest.param(reply_with(wire=None), "not made of bytes", marks=OF_OTHER_TYPE),
        pytest.param(
            reply_with(wire=lambda it: bytearray(it.wire)), "not made of bytes", marks=OF_OTHER_TYPE
        ),
        (reply_with(wire=b""), "not a response message"),
        (reply_with(wire=lambda it: it.wire[:14]), "not a response message"),
        (reply_with(wire=lambda it: it.wire + bytes(70000)), "not a response message"),
        (lambda h, r: Reply(r.wire), "not a response message"),
        (about("other.test."), "different question"),
        (about(NAME, "AAAA"), "different question"),
        (reply_with(wire=lambda it: it.wire[:4] + b"\0\0" + it.wire[6:]), "not a response message"),
        (reply_with(wire=lambda it: it.wire[:-2]), "malformed reply"),
        (reply_with(wire=lambda it: it.wire[:7] + b"\x09" + it.wire[8:]), "malformed reply"),
        (reply_with(options=b"\0\x03\0\x09x"), "malformed reply"),
        pytest.param(reply_with(options="text"), "not made of bytes", marks=OF_OTHER_TYPE),
        pytest.param(reply_with(deadline="soon"), "not in seconds", marks=OF_OTHER_TYPE),
        pytest.param(reply_with(since=None), "not in seconds", marks=OF_OTHER_TYPE),
        (reply_with(extended_rcode=1000), "rcode that is out of range"),
        pytest.param(reply_with(hit_counters=None), "not a tuple", marks=OF_OTHER_TYPE),
    ],
)
def test_nonsense_is_not_sent(behave, words, above, caplog):
    before = counted("nonsense")
    with misbehaving(behave, above, order="bad after minimal\ngood after bad") as server:
        servfails(server)
    assert counted("nonsense") - before >= 1
    assert words in caplog.text
    lines = [it for it in caplog.records if "answered SERVFAIL" in it.getMessage()]
    assert {it.name for it in lines} == {"corepy.plugin.bad"}


def validated_reply(request, **values):
    """A reply that a guard has validated before, changed since."""
    reply = request.error(0)
    assert reply_problem(request, reply) is None
    assert reply.validated is reply.wire
    for name, value in values.items():
        setattr(reply, name, value)
    return reply


COUNTERS: tuple[object, ...] = ((), (object(),), [])
TIMES_AND_COUNTERS = [
    {"deadline": deadline, "since": since, "hit_counters": hit_counters}
    for deadline in (None, 1.5, 2, "soon")
    for since in (0.0, 1.5, 2, None)
    for hit_counters in COUNTERS
]


@OF_OTHER_TYPE
@pytest.mark.parametrize("extended_rcode", [0, 1, 256, -1, None])
@pytest.mark.parametrize("options", [b"", b"\0\x03\0\1x", b"\0\x03\0\x09x", ""])
def test_a_guard_accepts_what_reply_problem_accepts(extended_rcode, options):
    request, other = make_request(NAME), make_request("other.test.")
    values = {"extended_rcode": extended_rcode, "options": options}

    class Bad(FastHandler):
        name = "bad"

        def begin_dns(self, asked):
            return validated_reply(request, **values)

    for more in TIMES_AND_COUNTERS:
        values |= more
        for asked in (request, other):
            problem = reply_problem(asked, validated_reply(request, **values))
            if problem is None:
                assert Guard(Bad()).begin_dns(asked).answered_by == "bad"
            else:
                with pytest.raises(InvalidReplyError, match=problem):
                    Guard(Bad()).begin_dns(asked)


class Timed(FastHandler):
    """Lets the packet cache repeat its replies until `deadline`."""

    name = "bad"
    cacheability = Cacheability.SETS_DEADLINE

    def __init__(self, deadline, since):
        self.deadline, self.since = deadline, since

    def begin_dns(self, request):
        reply = request.reply(answer=dnslib.RR.fromZone(f"{request.name} 60 IN A 192.0.2.1"))
        reply.deadline, reply.since = self.deadline, self.since
        return reply


@pytest.mark.parametrize("since", [0.0, math.nan, math.inf, -math.inf, HUGE])
@pytest.mark.parametrize("deadline", [math.nan, math.inf, HUGE, 1e9])
def test_a_time_that_is_out_of_range_is_not_cached(deadline, since):
    """The query has its answer, and the memory of the packet caches is not used up."""
    with serve(
        "bad.test {\nbad\n}\ngood.test {\ngood\n}",
        plugins=with_handlers(bad=lambda: Timed(deadline, since), good=Good),
    ) as server:
        for tcp in (False, False, True, True):
            assert server.ask(NAME, tcp=tcp).rr
        cached = 2 if (deadline, since) == (1e9, 0.0) else 0
        packets = [
            it.pipeline.packets for it in next(iter(server.server.endpoints.values())).listeners
        ]
        assert sum(len(it.entries) for it in packets) == cached
        assert bool(server.server._memory_pool.used) == bool(cached)


class Hasty(FastHandler):
    """Answers without a coroutine, in a callback, or with a coroutine of its own."""

    name = "bad"

    def __init__(self, behave, how):
        self.behave = behave
        self.how = how

    def begin_dns(self, request):
        if self.how == "at once":
            return self.behave(self, request)
        if self.how == "coroutine":
            return self.later(request)
        wakeups = Wakeups(asyncio.get_running_loop())
        pending = Pending(wakeups, lambda _: self.behave(self, request))
        pending.wake()
        return pending

    async def later(self, request):
        return self.behave(self, request)


class Above(ObservingHandler):
    name = "above"

    def observe(self, request, reply):
        assert reply.is_substitute or reply.ancount


@pytest.mark.parametrize("above", ["", "above", "cache", "log\nabove\ncache"])
@pytest.mark.parametrize("how", ["at once", "pending", "coroutine"])
@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (lambda h, r: None, "NoneType"),
        (about("other.test."), "different question"),
        (reply_with(wire=lambda it: it.wire[:-2]), "malformed reply"),
        (raising(ValueError("boom")), "ValueError: boom"),
        (raising(SystemExit(3)), "raised SystemExit: 3"),
        (reply_with(), ""),
    ],
)
def test_answers_without_a_coroutine(behave, words, how, above, caplog):
    found = with_handlers(bad=lambda: Hasty(behave, how), good=Good, above=Above)
    text = f"bad.test {{\n{above}\nbad\n}}\ngood.test {{\ngood\n}}"
    order = "bad after minimal\nabove after log\nabove before cache"
    with serve(text, plugins=found, order=order) as server:
        if words:
            servfails(server)
        else:
            assert server.ask(NAME).rr
            assert server.ask(NAME, tcp=True).rr
        assert server.ask("x.good.test.").rr
    lines = [it for it in caplog.records if "answered SERVFAIL" in it.getMessage()]
    assert {it.name for it in lines} == ({"corepy.plugin.bad"} if words else set())
    assert words in caplog.text


@pytest.mark.parametrize("how", ["pending", "coroutine"])
def test_whoever_awaits_a_reply_gets_an_ordinary_exception(how):
    """SystemExit would pass by `except Exception` and end a task in the background."""
    seen = []

    class Careful(Handler):
        name = "careful"

        async def serve_dns(self, request):
            try:
                return await self.next.begin_dns(request)
            except Exception as error:
                seen.append(error)
                return request.error(RCODE.REFUSED)

    found = with_handlers(careful=Careful, bad=lambda: Hasty(raising(SystemExit(3)), how))
    text, order = "bad.test {\ncareful\nbad\n}", "bad after careful"
    with serve(text, plugins=found, order=order) as server:
        assert server.ask(NAME).header.rcode == RCODE.REFUSED
    (error,) = seen
    assert "SystemExit: 3" in str(error)
    assert isinstance(error.__cause__, SystemExit)


def test_a_pending_reply_that_never_comes_is_named(monkeypatch, caplog):
    class Silent(FastHandler):
        name = "bad"

        def begin_dns(self, request):
            return Pending(Wakeups(asyncio.get_running_loop()), lambda _: None)

    monkeypatch.setenv(query_timeout.SWITCH, "0.3")
    found = with_handlers(bad=Silent)
    with serve("bad.test {\ncache\nbad\n}", plugins=found, order="bad after cache") as server:
        assert server.ask(NAME, timeout=20).header.rcode == RCODE.SERVFAIL
    lines = [it for it in caplog.records if "no answer after 0.3 s" in it.getMessage()]
    assert {it.name for it in lines} == {"corepy.plugin.bad"}


@pytest.mark.parametrize("above", ["", "errors\nlog\ncache"])
def test_plugins_of_the_tree_are_treated_alike(above, monkeypatch, caplog):
    async def nothing(self, request):
        return None

    monkeypatch.setattr(Whoami, "serve_dns", nothing)
    before = counted("nonsense", "whoami")
    with serve(f". {{\n{above}\nwhoami\n}}") as server:
        assert server.ask("www.test.").header.rcode == RCODE.SERVFAIL
    assert counted("nonsense", "whoami") == before + 1
    assert "returned NoneType instead of a Reply" in caplog.text


def test_an_observing_handler_that_changes_the_reply(caplog):
    class Meddler(ObservingHandler):
        name = "bad"

        def observe(self, request, reply):
            reply.wire = b"nonsense"

    found = with_handlers(bad=Meddler, good=Good)
    with serve(". {\nerrors\nbad\ngood\n}", plugins=found) as server:
        assert server.ask("www.test.").header.rcode == RCODE.SERVFAIL
    assert "changed a reply that it only observes" in caplog.text
    assert "corepy.plugin.bad" in {it.name for it in caplog.records}


def test_a_class_that_replaces_serve_dns_alone():
    """Its base class has a `begin_dns`, and an `observe`; neither is what the author wants now."""

    class Base(FastHandler):
        name = "bad"

        def begin_dns(self, request):
            raise AssertionError

    class Derived(Base):
        async def serve_dns(self, request):
            return await self.next.serve_dns(request)

    class Refuses(Above):
        async def serve_dns(self, request):
            return request.error(RCODE.REFUSED)

    found = with_handlers(bad=Derived, above=Refuses, good=Good)
    for text in ("bad\ngood", "log\nbad\ngood"):
        with serve(f". {{\n{text}\n}}", plugins=found) as server:
            assert server.ask("www.test.").rr
    with serve(". {\nabove\ngood\n}", plugins=found) as server:
        assert server.ask("www.test.").header.rcode == RCODE.REFUSED


def test_a_wrong_id_and_capitals_are_no_matter():
    with misbehaving(reply_with(wire=lambda it: b"\xff\xff" + it.wire[2:])) as server:
        assert server.ask("BAD.test.").rr


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (None, "exception"),
        ("text", "exception"),
        (Reply(b""), "nonsense"),
        (ValueError("x"), "exception"),
        (SystemExit(), "exception"),
    ],
)
def test_a_method_that_is_no_coroutine_function(result, kind):
    class Plain(Handler):
        name = "plain"

        def serve_dns(self, request):
            if isinstance(result, BaseException):
                raise result
            return result

    text = "bad.test {\nplain\n}\ngood.test {\ngood\n}"
    before = counted(kind, "plain")
    with serve(text, plugins={**find(), **with_handlers(plain=Plain, good=Good)}) as server:
        servfails(server)
        assert server.ask("x.good.test.").rr
    assert counted(kind, "plain") == before + 2


def test_a_request_that_was_spoilt():
    """The reply to it cannot be sent; those of the same turn of the loop are."""

    async def behave(handler, request):
        await asyncio.sleep(0.01)
        if request.name.startswith("spoil."):
            request.peer = request.wire = None
        return await handler.next.serve_dns(request)

    with misbehaving(behave) as server:
        with pytest.raises(TimeoutError):
            server.ask(f"spoil.{NAME}", timeout=0.3)
        assert server.ask(f"other.{NAME}").rr


@pytest.mark.parametrize(
    "behave", [raising(SystemExit(1)), raising_late(ValueError("x")), lambda h, r: None]
)
def test_a_lookup_in_another_block(behave):
    """It gets what a client would get: SERVFAIL; the block that asks goes on."""

    class Asker(Handler):
        name = "asker"

        async def serve_dns(self, request):
            reply = await lookup(request, names.from_text(NAME))
            rr = dnslib.RR.fromZone(f'{request.name} 60 TXT "{reply.rcode}"')
            return request.reply(answer=rr)

    text = "bad.test {\nbad\n}\nasks.test {\nasker\n}"
    with serve(text, plugins={**plugins(behave), **with_handlers(asker=Asker)}) as server:
        assert str(server.ask("asks.test.").rr[0].rdata) == '"2"'


# Queries that have no end; `self` makes the functions methods of the handler for the log


async def hangs(self, request):
    await asyncio.Event().wait()


async def hangs_on(self, request):
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


async def spins(self, request):
    while True:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass


@pytest.mark.parametrize("behave", [hangs, hangs_on, spins])
def test_a_query_that_never_returns(behave, monkeypatch, caplog):
    monkeypatch.setenv(query_timeout.SWITCH, "0.3")
    before = counted("timeout")
    with misbehaving(behave) as server:
        servfails(server)
        assert server.ask("x.good.test.").rr
        (endpoint,) = server.server.endpoints.values()
        wait_until(lambda: not server.call(endpoint.waiting))
    assert counted("timeout") == before + 2
    lines = [it for it in caplog.records if "no answer after 0.3 s" in it.getMessage()]
    assert lines
    assert {it.name for it in lines} == {"corepy.plugin.bad"}
    assert f"in {behave.__name__}" in caplog.text


def test_many_that_hang_are_one_line(monkeypatch, caplog):
    monkeypatch.setenv(query_timeout.SWITCH, "2")
    with misbehaving(hangs) as server:
        wires = b"".join(
            struct.pack("!H", len(it)) + it for it in (query(f"{n}.{NAME}") for n in range(50))
        )
        with socket.create_connection(server.address) as client:
            client.settimeout(20)
            client.sendall(wires)
            assert {read_frame(client)[3] & 15 for _ in range(50)} == {RCODE.SERVFAIL}
    lines = [it.getMessage() for it in caplog.records if "no answer after" in it.getMessage()]
    assert len(lines) <= 2
    assert " more: no answer after 2 s" in lines[0]


@pytest.mark.parametrize(
    ("text", "seconds"), [("3.5", 3.5), ("0", 0), ("-1", 0), ("soon", query_timeout.LIMIT)]
)
def test_the_limit_can_be_set(text, seconds, monkeypatch):
    monkeypatch.setenv(query_timeout.SWITCH, text)
    assert query_timeout.limit() == seconds
    monkeypatch.setenv(loop_watchdog.SWITCH, text)
    assert loop_watchdog.limit() == (seconds if text != "soon" else loop_watchdog.LIMIT)


# The event loop


def block_until_named(plugin):
    """Block this thread until the watchdog has found the plugin."""
    before, deadline = counted("blocked", plugin), time.monotonic() + 20
    while counted("blocked", plugin) == before and time.monotonic() < deadline:
        time.sleep(0.01)


def blocks(handler, request):
    if request.name.startswith("block."):
        block_until_named("bad")
    return handler.next.serve_dns(request)


def test_who_blocks_the_loop_is_named(monkeypatch, caplog):
    monkeypatch.setenv(loop_watchdog.SWITCH, "0.5")
    before = counted("blocked")
    with misbehaving(blocks) as server:
        assert server.ask(f"block.{NAME}", timeout=30).rr
        wait_until(lambda: "was blocked for" in caplog.text)
        assert loop_watchdog.BLOCKED.labels("bad").value > 0
    assert counted("blocked") - before >= 1
    lines = [it for it in caplog.records if "event loop" in it.getMessage()]
    assert {it.name for it in lines} == {"corepy.plugin.bad"}
    assert "tests/test_containment.py:" in lines[0].getMessage()


def test_a_hook_that_blocks_is_named(monkeypatch, caplog):
    monkeypatch.setenv(loop_watchdog.SWITCH, "0.1")

    class Hooks:
        @hookimpl
        def stopping(self):
            block_until_named("hooks")

    before = counted("blocked", "hooks")
    extra = inline("hooks", lambda controller: controller.register(Hooks()))
    with serve(". {\nhooks\nwhoami\n}", plugins={**find(), "hooks": extra}):
        pass
    assert counted("blocked", "hooks") > before
    assert "plugin.hooks" in caplog.text


class FakeLoop:
    """An event loop that answers the watchdog, or else keeps the callbacks that it gets."""

    def __init__(self, *, answers):
        self.answers = answers
        self.callbacks = []

    def call_soon_threadsafe(self, callback):
        self.callbacks.append(callback)
        if self.answers:
            callback()

    def is_closed(self):
        return False


class FakeCpu:
    """The CPU time of a thread that gets none until `is_fed`."""

    def __init__(self):
        self.is_fed = False
        self.asked = 0

    def ran(self):
        return 0.0

    def is_starved(self, since, seconds):
        self.asked += 1
        return not self.is_fed


@contextmanager
def watched(monkeypatch, loop, cpu):
    monkeypatch.setenv(loop_watchdog.SWITCH, "0.01")
    watchdog = loop_watchdog.LoopWatchdog(loop, cpu)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()


def test_a_loop_that_works_is_left_alone(monkeypatch, caplog):
    loop, cpu = FakeLoop(answers=True), FakeCpu()
    with watched(monkeypatch, loop, cpu):
        wait_until(lambda: len(loop.callbacks) >= 10)
    assert "event loop" not in caplog.text
    assert not cpu.asked


def test_a_loop_that_gets_no_cpu_is_left_alone(monkeypatch, caplog):
    loop, cpu = FakeLoop(answers=False), FakeCpu()
    with watched(monkeypatch, loop, cpu):
        wait_until(lambda: cpu.asked >= 10)
        loop.callbacks[0]()
        wait_until(lambda: len(loop.callbacks) == 2)
        assert "event loop" not in caplog.text
        cpu.is_fed = True
        wait_until(lambda: "the event loop is blocked for more than 0.01 s" in caplog.text)


def test_the_watch_ends_with_the_server():
    def watches():
        return {thread for thread in threading.enumerate() if thread.name == "loop watch"}

    before = watches()  # those of servers that other tests share
    with misbehaving(blocks):
        (added,) = watches() - before
    wait_until(lambda: added not in watches())


# What runs behind the server's back


@pytest.mark.parametrize(
    "error", [ValueError("boom"), SystemExit(1), KeyboardInterrupt(), Outcry()]
)
@pytest.mark.parametrize("how", ["task", "callback", "timer"])
def test_tasks_and_callbacks(how, error, caplog):
    async def task():
        raise afresh(error)

    def callback():
        raise afresh(error)

    class Starter(Bad):
        def begin(self):
            loop = asyncio.get_running_loop()
            if how == "task":
                self.tasks = {it for it in getattr(self, "tasks", ()) if not it.done()}
                self.tasks.add(loop.create_task(self.fail()))
            elif how == "callback":
                loop.call_soon(self.fail_now)
            else:
                loop.call_later(0, self.fail_now)

        async def fail(self):
            raise afresh(error)

        def fail_now(self):
            raise afresh(error)

        async def serve_dns(self, request):
            self.begin()
            return await self.next.serve_dns(request)

    before = counted("task")
    text = "bad.test {\nbad\ngood\n}\ngood.test {\ngood\n}"
    with serve(text, plugins=with_handlers(bad=lambda: Starter(None), good=Good)) as server:
        for _ in range(3):
            assert server.ask(NAME).rr
            assert server.ask(NAME, tcp=True).rr
        assert server.ask("x.good.test.").rr
        server.call(lambda: [vars(it).pop("tasks", 0) for it in server.plugins(Starter)])
        gc.collect()
        wait_until(lambda: counted("task") >= before + 6)
    assert "corepy.plugin.bad" in {record.name for record in caplog.records}


class Listener:
    """A hit listener whose methods raise."""

    def count_hits(self, times):
        raise SystemExit(times)

    def on_hit(self, ident, peer, received):
        raise ValueError(ident)


def test_hit_counters_and_listeners():
    class Watching(Bad):
        cacheability = Cacheability.OBSERVES
        listens_to_hits = True

        async def serve_dns(self, request):
            reply = await self.next.serve_dns(request)
            if reply.deadline is not None:
                reply.hit_counters += (Listener(),)
            return reply

    text = "bad.test {\nbad\ncache\ngood\n}\ngood.test {\ngood\n}"
    before = counted("task", "server")
    found = {**find(), **with_handlers(bad=lambda: Watching(None), good=Good)}
    with serve(text, plugins=found, order="good after cache") as server:
        for tcp in (False, True):
            for _ in range(5):
                assert server.ask(NAME, tcp=tcp).rr
        server.call(server.server.forget)
        assert server.ask("x.good.test.").rr
    assert counted("task", "server") > before


# Setup


def refused(setup, text=". {\nbad\nwhoami\n}", **attributes):
    found = {**find(), "bad": inline("bad", setup, **attributes)}
    with pytest.raises(CorefileError) as caught, serve(text, plugins=found):
        pass
    return str(caught.value)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_setup_raises(error):
    before = counted("setup")

    def setup(controller):
        raise afresh(error)

    printed = refused(setup)
    assert printed.startswith("Corefile:2:1: plugin/bad (from corepy-bad) failed in setup: ")
    assert type(error).__name__ in printed
    assert counted("setup") == before + 1


def test_what_cannot_be_loaded_is_counted():
    before = counted("setup")
    assert "has no function setup" in refused(None, ". {\nbad\n}\na.test {\nbad\n}")
    assert counted("setup") == before + 1


class Shared(Good):
    name = "bad"


SHARED = Shared()


class Nameless(Handler):
    async def serve_dns(self, request):
        return request.error(0)


class Unequal(Good):
    """Two of a kind, says Python; not a handler that could be in a set."""

    name = "bad"

    def __eq__(self, other):
        return True

    __hash__ = None  # type: ignore[assignment]  # as in bad plugins


class Touchy(Good):
    name = "bad"

    @property
    def something(self):
        raise SystemExit("do not look")


async def setup_later(controller):
    pass


def adding(*handlers):
    def setup(controller):
        for handler in handlers:
            controller.add_handler(handler)

    return setup


def hooks(**functions):
    body = {name: hookimpl(function) for name, function in functions.items()}
    return lambda controller: controller.register(type("Hooks", (), body)())


async def ready_later(self):
    return True


@pytest.mark.parametrize(
    ("setup", "words"),
    [
        (setup_later, "setup is a coroutine function"),
        (adding(5), "added int, which is not a Handler"),
        (adding(None), "added NoneType, which is not a Handler"),
        (adding(Good), "added type, which is not a Handler"),
        (adding(Nameless()), "Nameless needs a name"),
        (adding(Unequal()), "has __eq__ but no __hash__"),
        (adding(SHARED, SHARED), "is already in a chain"),
        (
            lambda c: c.add_handler(type("P", (Good,), {"cacheability": "pure"})()),
            "is not a Cacheability",
        ),
        (hooks(redy=lambda self: True), "unknown hook 'redy' (did you mean 'ready'?)"),
        (hooks(ready=lambda self, request: True), "request"),
        (hooks(ready=ready_later), "'ready' must be an ordinary function"),
        (lambda c: (_ for _ in ()).throw(CorefileError("only a text")), "only a text"),  # type: ignore[arg-type]  # as in bad plugins
        (lambda c: (_ for _ in ()).throw(CorefileError()), "failed in setup"),
    ],
)
def test_setups_that_make_nonsense(setup, words):
    printed = refused(setup)
    assert words in printed
    assert "Corefile:2:1: " in printed


def test_one_handler_in_two_blocks_is_refused():
    """It would send the queries of one block into the other's chain."""
    text = "a.test {\nbad\n}\nb.test {\nbad\n}"
    shared = Shared()
    with serve(text, plugins=with_handlers(bad=Shared)) as server:
        assert server.ask("a.test.").rr
    setup = adding(shared)
    found = {**find(), "bad": inline("bad", setup)}
    with serve("a.test {\nbad\n}", plugins=found) as server:
        with pytest.raises(CorefileError, match="is already in a chain"):
            server.reload("a.test {\nbad\n}")
        assert server.ask("a.test.").rr


def test_attributes_are_not_looked_at():
    with serve(". {\nbad\n}", plugins=with_handlers(bad=Touchy)) as server:
        assert server.ask(NAME).rr


@pytest.mark.parametrize("attribute", [{"before": 5}, {"after": None}, {"before": {"cache"}}])
def test_wishes_that_are_nonsense(attribute):
    assert "must be a tuple of directive names" in refused(lambda c: None, **attribute)


# Hooks of a generation's life


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("hook", ["before_listen", "serving"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_starting_hook_raises(error, hook, late):
    """The start fails with a message; at a reload the old configuration stays in use."""

    async def later(self):
        await asyncio.sleep(0)
        raise afresh(error)

    def at_once(self):
        raise afresh(error)

    before = counted("hook")
    found = {**plugins(None), "bad": inline("bad", hooks(**{hook: later if late else at_once}))}
    with (
        pytest.raises(StartupError, match="plugin/bad: "),
        serve(". {\nbad\ngood\n}", plugins=found),
    ):
        pass
    with serve(". {\ngood\n}", plugins=found) as server:
        with pytest.raises(StartupError, match="plugin/bad: "):
            server.reload(". {\nbad\ngood\n}")
        assert server.ask(NAME).rr
        server.reload(". {\ngood\n}")
    assert counted("hook") == before + 2


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("hook", ["stopping", "shutdown"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_stopping_hook_raises(error, hook, late, caplog):
    called = []

    async def later(self):
        await asyncio.sleep(0)
        raise afresh(error)

    def at_once(self):
        raise afresh(error)

    def setup(controller):
        hooks(**{hook: lambda self: called.append("first")})(controller)
        hooks(**{hook: later if late else at_once})(controller)
        hooks(**{hook: lambda self: called.append("last")})(controller)

    before = counted("hook")
    found = {**plugins(None), "bad": inline("bad", setup)}
    with serve(". {\nbad\ngood\n}", plugins=found) as server:
        server.reload(". {\nbad\ngood\n}")
        assert called == ["last", "first"]
        assert server.ask(NAME).rr
    assert called == ["last", "first"] * 2
    assert counted("hook") == before + 2
    assert f"{hook} failed: " in caplog.text
    assert type(error).__name__ in caplog.text


@pytest.mark.parametrize("stubborn", [False, True])
def test_hooks_that_never_return(stubborn, monkeypatch, caplog):
    monkeypatch.setattr(generation, "PATIENCE_ELSE", 0.2)
    monkeypatch.setitem(generation.PATIENCE, "stopping", 0.2)

    async def never(self):
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if not stubborn:
                    raise

    found = {**plugins(None), "bad": inline("bad", hooks(before_listen=never))}
    found["slow"] = inline("slow", hooks(stopping=never, shutdown=never))
    with serve(". {\nslow\ngood\n}", plugins=found) as server:
        with pytest.raises(
            StartupError, match="plugin/bad: TimeoutError: before_listen has not returned"
        ):
            server.reload(". {\nbad\ngood\n}")
        assert server.ask(NAME).rr
    assert "stopping failed: TimeoutError" in caplog.text
    assert "shutdown failed: TimeoutError" in caplog.text


# Hooks that others call


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_ready_that_raises(error, caplog):
    def ready(self):
        raise afresh(error)

    port = free_port()
    found = {**plugins(None), "bad": inline("bad", hooks(ready=ready))}
    before = counted("hook")
    with serve(f". {{\nready 127.0.0.1:{port}\nbad\ngood\n}}", plugins=found) as server:
        for _ in range(2):
            page = http_get(port, "/ready", timeout=60)
            assert (page.status, page.text) == (503, "bad")
        assert server.ask(NAME).rr
    assert counted("hook") == before + 2


@pytest.mark.parametrize("result", [*ERRORS, "text", 5, [1]], ids=repr)
def test_metadata_that_is_nonsense(result, caplog):
    def metadata(self, request):
        if isinstance(result, BaseException):
            raise result
        return result

    found = {**plugins(None), "bad": inline("bad", hooks(metadata=metadata))}
    before = counted("hook")
    text = '. {\nmetadata\nlog . "{name} {/bad/label}"\nbad\ngood\n}'
    with serve(text, plugins=found) as server:
        assert server.ask(NAME).rr
        assert server.ask(NAME, tcp=True).rr
    assert counted("hook") == before + 2


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_dropped_that_raises(error):
    def dropped(self, request, reply):
        raise afresh(error)

    found = {**plugins(None), "bad": inline("bad", hooks(dropped=dropped))}
    with serve("good.test {\nbad\ngood\n}", plugins=found) as server:
        assert server.ask(NAME).header.rcode == RCODE.REFUSED
        assert server.ask(NAME, tcp=True).header.rcode == RCODE.REFUSED
        assert server.ask("x.good.test.").rr


# The real command, with a distribution that does all of it

MODULE = """
import asyncio, sys, time
from pathlib import Path
from corepy.plugin import Handler, hookimpl
from corepy.plugin.failures import FAILURES

api_version = 1

if Path(__file__).with_name("broken").exists():
    sys.exit("at import")

class Wild(Handler):
    name = "wild"

    async def serve_dns(self, request):
        word = request.name.split(".")[0]
        if word == "exit":
            sys.exit("in a query")
        if word == "task":
            self.task = asyncio.create_task(leave())
        if word == "timer":
            asyncio.get_running_loop().call_later(0, sys.exit, "in a timer")
        if word == "block":
            compute()
        if word == "hang":
            await asyncio.Event().wait()
        return await self.next.serve_dns(request)

    @hookimpl
    async def shutdown(self):
        sys.exit("in shutdown")

async def leave():
    raise KeyboardInterrupt

def compute():
    # Until the watchdog has named this; -supervise replaces a worker after half a second of it.
    blocked = FAILURES.labels("wild", "blocked")
    while not blocked.value:
        time.sleep(0.01)

def setup(controller):
    controller.next()
    controller.add_handler(Wild())
"""
COREFILE = """
wild.test {
    bind 127.0.0.1
    wild
    whoami
}
good.test {
    bind 127.0.0.1
    prometheus 127.0.0.1:%d
    whoami
}
"""


@pytest.fixture
def wild(tmp_path):
    """A folder for PYTHONPATH with the distribution corepy-wild."""
    (tmp_path / "corepy_wild").mkdir()
    (tmp_path / "corepy_wild" / "__init__.py").write_text(MODULE)
    info = tmp_path / "corepy_wild-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: corepy-wild\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[corepy.plugins]\nwild = corepy_wild\n")
    return tmp_path


@pytest.mark.parametrize("flags", [(), ("-supervise",)])
def test_the_process_survives(wild, flags):
    port = free_port()
    env = {"PYTHONPATH": str(wild), query_timeout.SWITCH: "1"}
    with run_command(COREFILE % port, *flags, env=env) as server:

        def fine():
            return server.ask("x.good.test.").header.rcode == RCODE.NOERROR

        for word, rcode in {"exit": 2, "task": 0, "timer": 0, "block": 0, "hang": 2}.items():
            assert server.ask(f"{word}.wild.test.", timeout=60).header.rcode == rcode
            assert fine()
        server.wait_for(
            "[ERROR] plugin/wild: exit.wild.test. A from 127.0.0.1: raised SystemExit: in a query"
        )
        server.wait_for(
            "plugin/wild: a task or callback tried to end the process: KeyboardInterrupt"
        )
        server.wait_for("a task or callback tried to end the process: SystemExit: in a timer")
        server.wait_for("[WARNING] plugin/wild: the event loop was blocked for at least ")
        server.wait_for("corepy_wild/__init__.py:")
        server.wait_for(
            "[ERROR] plugin/wild: hang.wild.test. A from 127.0.0.1: no answer after 1 s"
        )
        page = http_get(port, "/metrics", timeout=60).text
        for kind in ("exception", "task", "blocked", "timeout"):
            labels = f'{{kind="{kind}",plugin="wild"}}'
            assert f"corepy_plugin_failures_total{labels} " in page
        server.send_signal(signal.SIGUSR1)
        server.wait_for("Reloading complete")
        server.wait_for("plugin/wild: shutdown failed: SystemExit: in shutdown")
        assert fine()
        assert not [line for line in server.lines if "worker" in line and "ended" in line]
        assert server.stop() == 0


def test_an_import_that_exits_leaves_the_old_configuration(wild):
    (wild / "corepy_wild" / "broken").touch()
    without = ". {\n    bind 127.0.0.1\n    whoami\n}\n"
    with run_command(without, env={"PYTHONPATH": str(wild)}) as server:
        server.conf.write_text(without.replace("whoami", "wild\n    whoami"))
        server.send_signal(signal.SIGUSR1)
        server.wait_for("plugin/wild (from corepy-wild): cannot be imported: SystemExit: at import")
        assert server.ask("x.test.").header.rcode == RCODE.NOERROR
        assert server.stop() == 0
