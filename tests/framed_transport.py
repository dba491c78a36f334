"""A transport for tests: DNS over TCP with a byte in front of each message.

`tests/test_transports.py` installs a copy of this file as a distribution of its own. No other code
knows it.
"""

import asyncio
import sys
import time
from typing import Any

from corepy.plugin import Debug
from corepy.server.listen.chain_runner import ChainRunner
from corepy.server.listen.stream_listener import StreamConnection, StreamListener
from corepy.server.listen.transport import Transport
from corepy.server.listen.udp import UDPListener

MARK = b"*"
_HEADER = 3
GRACE = 0.2


def pack(message):
    return MARK + len(message).to_bytes(2, "big") + message


class FramedConnection(StreamConnection):
    """Answers the messages of one client; one that is not marked ends the connection."""

    def __init__(self, listener):
        self.runner = ChainRunner(self._deliver)
        self.last_activity = time.monotonic()
        self._listener = listener
        self._received = b""
        self._draining = False

    @property
    def pending(self):
        return self.runner

    @property
    def is_idle(self):
        return not self.runner.waiting

    def connection_made(self, transport):
        self._transport = transport
        self._peer, self._local = (transport.get_extra_info(it) for it in ("peername", "sockname"))
        self._listener.admit(self, self._peer)
        if self._listener.draining:
            self.drain()

    def connection_lost(self, exc):
        self._listener.forget_connection(self)
        self.runner.cancel()

    def data_received(self, data):
        self.last_activity = now = time.monotonic()
        self._received += data
        while len(self._received) >= _HEADER:
            if not self._received.startswith(MARK):
                self._transport.abort()
                return
            end = _HEADER + int.from_bytes(self._received[1:_HEADER], "big")
            if len(self._received) < end:
                return
            message, self._received = self._received[_HEADER:end], self._received[end:]
            self._answer(message, now)

    def _answer(self, message, now):
        pipeline = self._listener.pipeline
        entry = pipeline.packets.find(message[2:], now)
        if entry is not None:
            reply = message[:2] + entry.body
        else:
            reply = pipeline.begin(message, now, self._peer, self._local, self.runner)
        if reply:
            self._send(reply)

    def _deliver(self, query, reply):
        self._send(self._listener.pipeline.complete(query.request, reply))

    def _send(self, reply):
        if reply:  # otherwise a plugin has dropped the query
            self._transport.write(pack(reply))
        if self._draining and self.is_idle:
            self.finish()

    def drain(self):
        """Leave a client time to send the query for which it has connected, then close."""
        asyncio.get_running_loop().call_later(GRACE, self._finish_if_idle)

    def _finish_if_idle(self):
        self._draining = True
        if self.is_idle:
            self.finish()

    def finish(self):
        self._transport.close()

    def make_room(self):
        self._transport.abort()


class FramedListener(StreamListener):
    protocol = "framed"

    def new_connection(self):
        return FramedConnection(self)


def find_problem(config):
    return "framed:// blocks cannot be debugged" if config.get(Debug).tracebacks else None


TRANSPORT = Transport("framed", 5300, (FramedListener,), find_problem=find_problem)
ALONE = Transport("alone", None, (FramedListener,), is_shardable=False)
"""The same, for one process only."""

BARE = FramedListener
"""Not a transport."""


class FailsToOpen(FramedListener):
    def __init__(self, sock, context):
        raise ValueError("no certificate")


class FailsToSwap(FramedListener):
    def swap(self, router, config):
        raise ValueError("no certificate")


class FailsToClose(FailsToSwap):
    def close(self):
        raise ValueError("not open")


class FailsInFollower(FramedListener):
    def __init__(self, sock, context):
        super().__init__(sock, context)
        if sys.argv[0].endswith("follower.py"):
            sys.exit("no certificate")


def find_none(config):
    raise ValueError("no certificate")


# Each fails at the step of its name; "half" when the first of its listeners has been created.
OPENS = Transport("opens", None, (FailsToOpen,))
HALF = Transport("half", None, (UDPListener, FailsToOpen))
SWAPS = Transport("swaps", None, (FailsToSwap,))
CLOSES = Transport("closes", None, (FailsToClose,))
_WRONG: Any = "5300", FramedConnection  # types that no transport has
PORT = Transport("port", _WRONG[0], (FramedListener,))
EMPTY = Transport("empty", 5300, ())
LISTENER = Transport("listener", 5300, (_WRONG[1],))
TWICE = Transport("twice", 5300, (FramedListener, FramedListener))
FOLLOWS = Transport("follows", None, (UDPListener, FailsInFollower))
CHECKS = Transport("checks", None, (FramedListener,), find_problem=find_none)

FAULTS: dict[str, list[BaseException | None]] = {}
"""By method of the listener below, the exceptions of its next calls; None for a call that works."""


class Faulty(FramedListener):
    """Raises the exceptions in `FAULTS`."""

    is_checkable = True

    @property
    def is_drained(self):
        _fail("is_drained")
        return super().is_drained

    async def check(self, address):
        _fail("check")
        return True


def _fail(method):
    planned = FAULTS.get(method)
    error = planned.pop(0) if planned else None
    if error is not None:
        raise error


def _failing(name):
    def method(self, *args, **more):
        _fail(name)
        return getattr(super(Faulty, self), name)(*args, **more)

    return method


for _name in ("swap", "start", "pause", "stop", "close", "forget", "waiting", "new_connection"):
    setattr(Faulty, _name, _failing(_name))
FAULTY = Transport("faulty", None, (Faulty,))
EXITS = Transport("exits", None, (FramedListener,), find_problem=lambda config: sys.exit("no"))
