"""Clients of DNS over TLS, HTTPS (HTTP/2) and QUIC that account for each query.

    python -m benchmarks.encrypted_clients KIND HOST PORT AUTHORITY RATE CLIENTS NAME...

sends queries until its standard input ends, then prints the outcome as JSON. KIND is dot, doh or
doq, AUTHORITY the file with the certificate of the authority. `benchmarks.encrypted_connections`
defines which queries are lost.
"""

from __future__ import annotations

import json
import selectors
import ssl
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.encrypted_connections import Connection, DoH, DoQ, DoT, Query
from corepy.testing import query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy.testing.client import Address

PIPELINED: Final = 2
"""Queries that a client sends together."""

FINISH_TIMEOUT: Final = 30.0
"""Seconds that a reply may take after the last query."""


@dataclass(slots=True)
class Fate:
    """The outcome of all queries over one transport; latencies in seconds."""

    sent: int = 0
    answered: int = 0
    wrong: int = 0
    """Replies of another question, or with an error."""

    lost: int = 0
    repeated: int = 0
    """Queries that were sent again, as the protocol allows."""

    connections: int = 0
    abrupt: int = 0
    """Connections over TCP that ended without close_notify of TLS."""

    refused: int = 0
    """Connections that ended before their handshake did."""

    p50: float = 0.0
    longest: float = 0.0


class Clients:
    """All clients of one transport, each with a connection, and with the previous ones."""

    def __init__(
        self, kind: str, address: Address, authority: Path, count: int, names: Sequence[str]
    ) -> None:
        """Begin `count` connections; `authority` is the file of a certificate."""
        self.fate = Fate()
        self._kind, self._address, self._authority = kind, address, authority
        self._context = ssl.create_default_context(cafile=str(authority))
        self._context.set_alpn_protocols(["h2" if kind == "doh" else "dot"])
        self._questions = [query(name)[2:] for name in names]
        self._selector = selectors.DefaultSelector()
        self._latencies: list[float] = []
        self._open = [self._connect(slot) for slot in range(count)]

    def _connect(self, slot: int) -> Connection:
        """Return a new connection of a client; the handshake begins."""
        made: Connection
        if self._kind == "doq":
            made = DoQ(self._address, self._authority)
        else:
            made = (DoH if self._kind == "doh" else DoT)(self._address, self._context)
        self.fate.connections += 1
        self._selector.register(made.sock, selectors.EVENT_READ, (slot, made))
        made.step(time.monotonic())
        return made

    def connect_all(self) -> None:
        """Complete all handshakes."""
        while not all(it.is_secure for it in self._open):
            self._step(0.1)

    def run(self, rate: float, stop: threading.Event) -> None:
        """Send `rate` queries a second until `stop`, then one more each; wait for all replies."""
        began = time.monotonic()
        while not stop.is_set():
            due = int((time.monotonic() - began) * rate)
            for _ in range(min(due - self.fate.sent, 100)):
                self._ask(self.fate.sent // PIPELINED % len(self._open))
            self._step(0.002)
        for slot in range(len(self._open)):
            self._ask(slot)
        deadline = time.monotonic() + FINISH_TIMEOUT
        while any(it.waiting for _, it in self._connections()) and time.monotonic() < deadline:
            self._step(0.1)
        self.fate.lost += sum(len(it.waiting) for _, it in self._connections())
        ordered = sorted(self._latencies) or [0.0]
        self.fate.p50, self.fate.longest = ordered[len(ordered) // 2], ordered[-1]

    def close(self) -> None:
        """Close the sockets."""
        for _, connection in self._connections():
            connection.sock.close()
        self._selector.close()

    def _connections(self) -> Iterator[tuple[int, Connection]]:
        for key in list(self._selector.get_map().values()):
            yield key.data

    def _ask(self, slot: int) -> None:
        question = self._questions[self.fate.sent % len(self._questions)]
        self.fate.sent += 1
        self._send(slot, Query(question, time.monotonic()))

    def _send(self, slot: int, asked: Query) -> None:
        """Send a query over the client's connection, or over a new one if that is leaving."""
        connection = self._open[slot]
        if connection.is_leaving or connection.is_closed:
            connection = self._open[slot] = self._connect(slot)
        connection.ask(asked)

    def _step(self, timeout: float) -> None:
        ready = {key.data for key, _ in self._selector.select(timeout)}
        now = time.monotonic()
        ready.update(self._expired(now))
        for _, connection in ready:
            connection.step(now)
        for slot, connection in list(self._connections()):
            if connection.replies or connection.returned or connection.is_closed:
                self._settle(slot, connection)

    def _expired(self, now: float) -> Iterator[tuple[int, Connection]]:
        if self._kind == "doq":
            for slot, connection in self._connections():
                at = connection.wake_at()
                if at is not None and at <= now:
                    yield slot, connection

    def _settle(self, slot: int, connection: Connection) -> None:
        """Count the replies of a connection, repeat its queries, and forget it if it is closed."""
        for asked, reply in connection.replies:
            self._count(asked, reply)
        connection.replies.clear()
        if connection.is_closed:
            self._forget(connection)
        returned, connection.returned = connection.returned, []
        self.fate.repeated += len(returned)
        for asked in returned:
            self._send(slot, asked)

    def _forget(self, connection: Connection) -> None:
        self.fate.lost += len(connection.waiting)
        self.fate.abrupt += connection.is_abrupt
        self.fate.refused += not connection.is_secure
        self._selector.unregister(connection.sock)
        connection.sock.close()

    def _count(self, asked: Query, reply: bytes) -> None:
        if len(reply) < 12 or reply[3] & 15 or asked.rest[10:] not in reply:
            self.fate.wrong += 1
        else:
            self.fate.answered += 1
            self._latencies.append(time.monotonic() - asked.sent)


def _stop_at_end(stop: threading.Event) -> None:
    """Set `stop` when the standard input ends."""
    sys.stdin.read()
    stop.set()


def main(arguments: Sequence[str]) -> None:
    """Run the clients until the standard input ends."""
    kind, host, port, authority, rate, count, *names = arguments
    address = host, int(port)
    clients = Clients(kind, address, Path(authority), int(count), names)
    clients.connect_all()
    print("asking", flush=True)
    stop = threading.Event()
    threading.Thread(target=_stop_at_end, args=(stop,), daemon=True).start()
    clients.run(float(rate), stop)
    clients.close()
    print(json.dumps(asdict(clients.fate)))


if __name__ == "__main__":
    main(sys.argv[1:])
