"""UDP to one upstream: connected sockets, each on a port of the system's choice.

RFC 5452 section 9.2 wants ports that nobody can guess, and different ones for queries that wait at
the same time. A query that finds nothing waiting gets a port of its own: the socket is disconnected
and connected again (4 us; a new one takes 18). Under load a socket takes a few queries at once, for
no longer than a second, and is then replaced; it is closed when its last reply is in. Sharing helps
no forger to guess: an ID belongs to one question, few queries for one question are in flight at a
time (`crowd`), and a port is gone before a scan has found it. What does not fit is counted
(`guesses`).

The kernel drops what comes from another address. Everything that does not answer a query in flight
is counted and the wait goes on, without a new deadline.

The queries of one turn of the event loop are sent at its end, one right after the other: to wake an
upstream for each of them took a tenth of the time of a miss. Receiving one by one is as cheap here
as in batches (measured: recvmmsg through ctypes 0.82 us a datagram, recv 0.87): replies come to
many sockets, a few each.
"""

from __future__ import annotations

import ctypes
import socket
import time
from typing import TYPE_CHECKING, Any

from corepy.net.descriptors import descriptor_limit
from corepy_forward.attempt import Attempt, answers, draw_ident, is_bare
from corepy_forward.guesses import MOST as MOST_GUESSES
from corepy_forward.problems import explain

if TYPE_CHECKING:
    from corepy_forward.upstream import Upstream

USES = 32
"""Queries that one port takes while others wait at it."""

LIFETIME = 1.0
"""Seconds for which it takes them."""

MOST_SOCKETS = 512
"""Open at one upstream, or fewer where few descriptors are allowed. While an upstream is silent all
of them wait, and those with the fewest queries take some more.
"""

_SHARE = 8
"""The part of the descriptors of this process that one upstream may have: one in so many."""

RECEIVE_SIZE = 4096
"""Bytes of a reply that are read; a longer one is cut, found malformed and asked again over TCP."""

_PER_EVENT = 256

_connect = ctypes.CDLL(None).connect
_connect.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_UNSPECIFIED = bytes(16)
"""A sockaddr of the family AF_UNSPEC: connect(2) dissolves the association, and Linux gives the
port back with it.
"""


class UDPSocket:
    """One socket and the attempts that wait for a reply at it."""

    __slots__ = (
        "_mismatched",
        "_pool",
        "_receive",
        "last_used",
        "opened",
        "pending",
        "send",
        "sock",
        "uses",
    )

    is_connected = has_answered = True
    heard = 0.0

    def __init__(self, pool: UDPPool, sock: socket.socket) -> None:
        self._pool = pool
        self.sock = sock
        self.send = sock.send
        self._receive = sock.recv
        self.pending: dict[bytes, Attempt] = {}
        self.last_used = 0.0
        self.renew(0.0)

    def renew(self, now: float) -> None:
        """Begin with another port."""
        self.uses = self._mismatched = 0
        self.opened = now

    def on_readable(self) -> None:
        """Take the replies that have come."""
        pending, receive, upstream = self.pending, self._receive, self._pool.upstream
        now, is_proving = time.monotonic(), upstream.proofs.are_wanted
        upstream.wakeups.hold()
        try:
            for _ in range(_PER_EVENT):
                wire = receive(RECEIVE_SIZE)
                ident = wire[:2]
                attempt = pending.get(ident)
                if attempt is None:
                    upstream.dropped("id")
                    self._guessed(wire, now)
                elif answers(wire, attempt) or is_bare(wire, attempt):
                    del pending[ident]
                    if is_proving:
                        upstream.prove(attempt, wire, now)
                    else:
                        upstream.arrived(attempt, wire, now)
                else:
                    attempt.mismatched += 1
                    upstream.dropped("question")
                    self._guessed(wire, now)
                if not pending:
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            self.fail(error)
        finally:
            upstream.wakeups.release()
        if not pending:
            self._pool.drained(self)

    def _guessed(self, wire: bytes, now: float) -> None:
        """Count a message that answers nothing; see `guesses`."""
        self._mismatched += 1
        if self._mismatched == MOST_GUESSES:
            self._mismatched = 0
            for attempt in list(self.pending.values()):
                attempt.owner.guessed(attempt)
            return
        asked = wire[12:].lower()
        for attempt in self.pending.values():
            question = attempt.owner.question
            if asked.startswith(question[:-4]):
                if self._pool.upstream.guesses.count(question, now):
                    self._pool.guessed(question)
                return

    def fail(self, error: OSError) -> None:
        """End all that wait here: the system says that they wait in vain (ICMP)."""
        waiting = list(self.pending.values())
        self.pending.clear()
        for attempt in waiting:
            attempt.upstream.broke(attempt, explain(error, "read"))

    def forget(self, attempt: Attempt) -> None:
        """Stop waiting for the reply to `attempt`."""
        self.pending.pop(attempt.ident, None)
        if not self.pending:
            self._pool.drained(self)


class UDPPool:
    """The sockets to one upstream: one that takes queries, and those that only wait."""

    def __init__(
        self, upstream: Upstream, sockaddr: Any, family: int, source: str, expire: float
    ) -> None:
        """`source` is the address to send from, or ""; `expire` how many seconds one may idle."""
        self.upstream = upstream
        self._sockaddr = sockaddr
        self._family = family
        self._source = source
        self._expire = expire
        self._most = min(MOST_SOCKETS, descriptor_limit() // _SHARE)
        self._active: UDPSocket | None = None
        self._open: set[UDPSocket] = set()
        self._out: list[tuple[UDPSocket, Attempt]] = []
        self._hits, self._misses = upstream.connection_counters("udp")

    def send(self, attempt: Attempt) -> None:
        """Send the attempt's query; raises OSError."""
        current, now = self._active, attempt.sent
        if current is None or (
            current.pending and (current.uses >= USES or now - current.opened > LIFETIME)
        ):
            current = self._next(now)
        else:
            if not current.pending:
                self._change_port(current, now)
            self._hits.value += 1
        current.uses += 1
        current.last_used = now
        pending = current.pending
        ident = draw_ident()
        while ident in pending:
            ident = draw_ident()
        attempt.ident = ident
        attempt.link = current
        pending[ident] = attempt
        if not self._out:
            self.upstream.loop.call_soon(self._flush)
        self._out.append((current, attempt))

    def _flush(self) -> None:
        """Send what has come together, at once: the upstream is woken once and finds it all."""
        out, self._out = self._out, []
        for current, attempt in out:
            try:
                current.send(attempt.ident + attempt.body)
            except OSError as error:
                if current.pending.pop(attempt.ident, None) is not None:
                    self._abandon(current, error)
                    self.upstream.broke(attempt, explain(error, "write"))

    def _abandon(self, current: UDPSocket, error: OSError) -> None:
        """Use another socket from now on: this one has an error, perhaps about an earlier query.

        One that has taken its place already stays there: forgotten while idle, it would be open for
        as long as the pool.
        """
        if self._active is current:
            self._active = None
        if isinstance(error, BlockingIOError) and current.pending:
            return
        self.upstream.loop.call_soon(self._fail_abandoned, current, error)

    def _fail_abandoned(self, current: UDPSocket, error: OSError) -> None:
        current.fail(error)
        self.drained(current)

    def _change_port(self, idle: UDPSocket, now: float) -> None:
        """Give a socket at which nothing waits another port; raises OSError."""
        try:
            _connect(idle.sock.fileno(), _UNSPECIFIED, len(_UNSPECIFIED))
            idle.sock.connect(self._sockaddr)
        except OSError:
            self._active = None
            self._close(idle)
            raise
        idle.renew(now)

    def _next(self, now: float) -> UDPSocket:
        """Return the socket that takes the next queries: a new one, unless there are too many."""
        if len(self._open) < self._most:
            return self._replace(now)
        least = self._active = min(self._open, key=_load)
        least.uses, least.opened = 0, now
        return least

    def _replace(self, now: float) -> UDPSocket:
        self._misses.value += 1
        before, self._active = self._active, None
        if before is not None and not before.pending:
            self._close(before)
        sock = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if self._source:
                sock.bind((self._source, 0))
            sock.connect(self._sockaddr)
        except OSError:
            sock.close()
            raise
        opened = UDPSocket(self, sock)
        opened.opened = now
        self.upstream.loop.add_reader(sock.fileno(), opened.on_readable)
        self._open.add(opened)
        self._active = opened
        return opened

    def guessed(self, question: bytes) -> None:
        """Tell all that wait for replies to a question that somebody guesses them."""
        waiting = [each for sock in self._open for each in sock.pending.values()]
        for attempt in waiting:
            if attempt.owner.question == question:
                attempt.owner.guessed(attempt)

    def drained(self, idle: UDPSocket) -> None:
        """Close a socket on which nothing waits any more, unless it takes queries still."""
        if idle is not self._active and idle in self._open and not idle.pending:
            self._close(idle)

    def _close(self, old: UDPSocket) -> None:
        self._open.discard(old)
        self.upstream.loop.remove_reader(old.sock.fileno())
        old.sock.close()

    def tidy(self, now: float) -> None:
        """Close the active socket if it has been idle for `expire`."""
        current = self._active
        if current is not None and not current.pending and now - current.last_used >= self._expire:
            self._active = None
            self._close(current)

    def close(self) -> None:
        """Close all, without a word to those who wait."""
        self._active = None
        for each in list(self._open):
            self._close(each)


def _load(each: UDPSocket) -> int:
    return len(each.pending)
