"""Sends queries to one upstream over UDP, through connected sockets on ports chosen by the kernel.

RFC 5452 section 9.2 requires unpredictable ports, and different ones for concurrent queries. If no
query is pending at the socket, the next query gets a new port: the socket is disconnected and
connected again (4 us; a new socket takes 18). Under load, several queries share a socket for at
most a second; then a new socket replaces it, and it is closed after its last reply. Sharing does
not make forgery easier: an ID belongs to one question, few queries for one question are in flight
at a time (`crowd`), and a port is closed before a scan can find it. Messages that match no query
are counted (`guesses`).

The kernel drops datagrams from other addresses. A message that answers no query in flight is
counted, and does not change the deadline of any query.

The queries of one turn of the event loop are sent together at its end, because waking the upstream
for each of them took a tenth of the time of a cache miss. Replies are received one by one, which is
as cheap here as in batches (measured: recvmmsg through ctypes 0.82 us a datagram, recv 0.87),
because each of many sockets gets only a few.
"""

from __future__ import annotations

import ctypes
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from corepy.net.descriptors import descriptor_limit
from corepy_forward.attempt import Attempt, answers, draw_ident, is_bare
from corepy_forward.failures import explain
from corepy_forward.forgery import MOST_GUESSES

if TYPE_CHECKING:
    from corepy_forward.attempt import UpstreamLike

USES: Final = 32
"""Maximum number of queries on one port while replies are pending there."""

LIFETIME = 1.0
"""Seconds for which a port is used for new queries while replies are pending there."""

MOST_SOCKETS = 512
"""Maximum number of open sockets for one upstream; less if the descriptor limit is low.

If an upstream does not reply, all sockets have pending queries, and new queries use the sockets
with the fewest.
"""

_SHARE: Final = 8
"""Divisor: one upstream may use this fraction of the descriptor limit of the process."""

RECEIVE_SIZE: Final = 4096
"""Bytes read of a reply; a longer reply is cut, hence malformed, and the query goes over TCP."""

_PER_EVENT: Final = 256

_connect: Final = ctypes.CDLL(None).connect
_connect.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_UNSPECIFIED: Final = bytes(16)
"""A sockaddr of the family AF_UNSPEC: connect(2) disconnects, and Linux also frees the port."""


class UDPSocket:
    """One socket and the attempts that wait for a reply on it."""

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

    is_connected = True
    has_answered = True
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
        """Reset the counters after a change of the port."""
        self.uses = self._mismatched = 0
        self.opened = now

    def on_readable(self) -> None:
        """Receive and process the available replies."""
        pending, receive, upstream = self.pending, self._receive, self._pool.upstream
        now, is_proving = monotonic(), upstream.proofs.are_wanted
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
        """Count a message that matches no query (`guesses`); at the limit notify the owners."""
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
        """Fail all pending attempts after an error of the socket, such as an ICMP message."""
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
    """The sockets to one upstream: the active one for new queries, and those awaiting replies."""

    def __init__(
        self, upstream: UpstreamLike, sockaddr: Any, family: int, source: str, expire: float
    ) -> None:
        """Take the addresses, and the seconds until an idle socket expires.

        `source` is the address to bind to, or "".
        """
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
        """Send the query of an attempt at the end of this turn; raises OSError."""
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
        """Send the queries of this turn together, so that the upstream is woken only once."""
        out, self._out = self._out, []
        for current, attempt in out:
            try:
                current.send(attempt.ident + attempt.body)
            except OSError as error:
                if current.pending.pop(attempt.ident, None) is not None:
                    self._abandon(current, error)
                    self.upstream.broke(attempt, explain(error, "write"))

    def _abandon(self, current: UDPSocket, error: OSError) -> None:
        """Stop using a socket for new queries after an error, perhaps of an earlier query.

        If another socket is active already, it stays active: without being active or having pending
        queries, it would stay open as long as the pool.
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
        """Connect a socket without pending queries through a new port; raises OSError."""
        try:
            _connect(idle.sock.fileno(), _UNSPECIFIED, len(_UNSPECIFIED))
            idle.sock.connect(self._sockaddr)
        except OSError:
            self._active = None
            self._close(idle)
            raise
        idle.renew(now)

    def _next(self, now: float) -> UDPSocket:
        """Return the socket for the next queries: a new one, unless too many are open."""
        if len(self._open) < self._most:
            return self._replace(now)
        least = self._active = min(self._open, key=_load)
        least.uses, least.opened = 0, now
        return least

    def _replace(self, now: float) -> UDPSocket:
        self._misses.value += 1
        self._active = None  # it still has pending queries, and is closed after the last reply
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
        """Notify the owners of all attempts for a question of a possible forgery."""
        waiting = [each for sock in self._open for each in sock.pending.values()]
        for attempt in waiting:
            if attempt.owner.question == question:
                attempt.owner.guessed(attempt)

    def drained(self, idle: UDPSocket) -> None:
        """Close a socket without pending queries, unless it is the active one."""
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
        """Close all sockets without notifying the pending attempts."""
        self._active = None
        for each in list(self._open):
            self._close(each)


def _load(each: UDPSocket) -> int:
    return len(each.pending)
