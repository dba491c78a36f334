"""A pool of upstreams whose sockets and clock are in the test's hand: nothing waits in real time.

A datagram over loopback is there when sendto(2) returns, so a turn of the event loop delivers it.
"""

import asyncio
import os
import socket
import sys

import pytest

from corepy.plugin import Pending
from corepy.testing.helper_module import helper_module
from corepy_forward.handler import Forward
from corepy_forward.pool import Pool
from corepy_forward.settings import Settings
from corepy_forward.targets import Target

signed_world = helper_module(__file__, "signed_world")

TURNS = 8
OPT = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
RCODES = {"NOERROR": 0, "SERVFAIL": 2, "REFUSED": 5}


class Loop(asyncio.SelectorEventLoop):
    """Its time moves when the test says so."""

    now = 1000.0

    def time(self):
        return self.now


class Sink:
    """The socket of an upstream; its TCP port refuses connections until `tcp` listens."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:  # until a port is free for both
            self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self.tcp.bind(("127.0.0.1", 0))
            try:
                self.sock.bind(self.tcp.getsockname())
                break
            except OSError:
                self.tcp.close()
        self.sock.setblocking(False)
        self.tcp.setblocking(False)
        self.target = Target("127.0.0.1", self.sock.getsockname()[1])
        self.waiting = []

    def queries(self):
        """Return how many queries are there; they wait for `reply`."""
        while True:
            try:
                self.waiting.append(self.sock.recvfrom(4096))
            except BlockingIOError:
                return len(self.waiting)

    def reply(self, number=0, rcode="NOERROR", rest=None):
        """Answer the query `number` of those that wait, without records."""
        self.queries()
        wire, address = self.waiting.pop(number)
        end = wire.index(b"\0", 12) + 5
        header = wire[:2] + b"\x81" + bytes((0x80 | RCODES[rcode],)) + b"\0\1" + bytes(6)
        self.sock.sendto(header + wire[12:end] if rest is None else wire[:2] + rest, address)


class Bench:
    """See the module. `sinks` are the upstreams, in order."""

    def __init__(self, loop, count, settings):
        self.loop = loop
        self.sinks = [Sink() for _ in range(count)]
        given = {"max_fails": 0, "policy": "sequential", "read_timeout": 30.0, "cookies": False}
        self.pool = Pool(Settings(**(given | settings)), [sink.target for sink in self.sinks])
        self.upstreams = list(self.pool.upstreams)
        self.woken = []

    def ask(self, name="a", with_edns=False):
        """Begin an exchange for a name of one label; its end is noted in `woken`."""
        question = bytes((len(name),)) + name.encode() + b"\0\0\1\0\1"
        body = b"\1\0\0\1\0\0\0\0\0" + (b"\1" if with_edns else b"\0") + question
        exchange = self.pool.begin(question, body + (OPT if with_edns else b""), for_tcp=False)
        exchange.waiters.append(Pending(self.pool.wakeups, lambda _: self.woken.append(name)))
        return exchange

    async def turn(self, times=TURNS):
        """Let the event loop do what there is to do now."""
        for _ in range(times):
            await asyncio.sleep(0)

    async def let_pass(self, seconds):
        """Move the clock in steps of a millisecond."""
        until = self.loop.now + seconds
        while self.loop.now < until:
            self.loop.now = min(self.loop.now + 0.001, until)
            await self.turn(2)
        await self.turn()

    async def end_of(self, exchange):
        """Return when an exchange has ended; time stands still meanwhile."""
        for _ in range(100_000):
            if exchange.done:
                return
            await asyncio.sleep(0)
        raise AssertionError("the exchange waits for the clock")

    def beside(self, first, options, *, for_tcp=False, client=b"\x7f\0\0\1"):
        """Begin or join an exchange for the question of `first` with other EDNS options."""
        body = first.body[:9] + b"\1" + first.question + options
        return self.pool.begin_beside(first, body, for_tcp, client)

    @property
    def sockets(self):
        """The open UDP sockets to the first upstream."""
        return self.upstreams[0]._udp._open

    def counts(self):
        """Return how many queries wait at each upstream."""
        return [sink.queries() for sink in self.sinks]


@pytest.fixture
def on_bench(monkeypatch):
    """Return what runs a coroutine function with a bench; it raises what the event loop heard of."""
    problems = []

    async def all_of_it(test, count, settings):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: problems.append(context))
        for name, module in list(sys.modules.items()):
            if name.startswith("corepy_forward") and hasattr(module, "monotonic"):
                monkeypatch.setattr(module, "monotonic", loop.time)
        bench = Bench(loop, count, settings)
        try:
            await test(bench)
            await bench.turn()
        finally:
            bench.pool.close()
            for sink in bench.sinks:
                sink.sock.close()
                sink.tcp.close()

    def run(test, count=1, **settings):
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(all_of_it(test, count, settings))
        assert problems == []

    return run


@pytest.fixture
def in_flight():
    """Return a function of a server with one upstream, which counts what waits for replies.

    It returns the number of queries at the upstream's sockets and the number of clients.
    """

    def of(server):
        (forward,) = server.plugins(Forward)

        def count():
            (upstream,) = forward.pool.upstreams
            queries = sum(len(sock.pending) for sock in upstream._udp._open)
            return queries, len(forward.pool.places.requests)

        return server.call(count)

    return of


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The zones of `signed_world`, and `resolver`, the address of a resolver for them.

    The processes of pytest-xdist share the files of the zones, since signing takes seconds.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    made = signed_world.World(tmp_path_factory.mktemp("world"), shared / "signed-zones")
    with made.serve() as resolver:
        made.resolver = resolver
        yield made
