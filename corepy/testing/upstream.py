"""A name server for tests whose behaviour is a function, a zone or one of the library."""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import dnslib

from corepy.testing.behaviours import (
    BEHAVIOURS,
    WITHOUT_TCP,
    Act,
    Asked,
    Elsewhere,
    End,
    Pause,
    Raw,
)
from corepy.testing.client import Address, read_frame

Answer = bytes | dnslib.DNSRecord | None | Iterable[Act]
"""The reply to a query: a message, a sequence of acts (`corepy.testing.behaviours`), or nothing."""

Behaviour = Callable[[dnslib.DNSRecord, str], Answer]
"""A function of the query and "udp" or "tcp"; it runs in a thread, so it may sleep."""

RESET = struct.pack("ii", 1, 0)
"""Value of SO_LINGER with a time of 0: closing the socket sends RST."""


class _Received(NamedTuple):
    """A query, and the number of those received before it."""

    wire: bytes
    query: dnslib.DNSRecord
    proto: str
    number: int


class Upstream:
    """A name server at a free UDP and TCP port of 127.0.0.1, until the `with` block ends.

        with Upstream({"example.org. A": ["example.org. 60 IN A 192.0.2.1"]}) as upstream: ...
        with Upstream(lambda query, proto: None) as black_hole: ...
        with Upstream("drops-edns") as upstream: ...     # one of corepy.testing.behaviours

    `queries` lists the received queries in order, as (question text, "udp" or "tcp"); `wires` lists
    them in wire form.
    """

    def __init__(
        self,
        behaviour: Behaviour | dict[str, list[str]] | str,
        *,
        host: str = "127.0.0.1",
        delay: float = 0,
    ) -> None:
        self._behave: Callable[[_Received], Any]
        self.behave(behaviour)
        self._delay = delay
        self.queries: list[tuple[str, str]] = []
        self.wires: list[bytes] = []
        self._counting = threading.Lock()
        self.connections = 0
        self._closing = False
        self._sending = threading.Lock()  # prevents sending from a closed socket
        self._streams: set[socket.socket] = set()
        self._udp, self._tcp = free_sockets(host)
        if isinstance(behaviour, str) and behaviour in WITHOUT_TCP:
            self._tcp.close()
        self.address: Address = self._udp.getsockname()[:2]
        self._threads = [
            threading.Thread(target=loop, daemon=True)
            for loop in (self._serve_udp, self._serve_tcp)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def to(self) -> str:
        """The address in the syntax of *forward*."""
        return f"{self.address[0]}:{self.address[1]}"

    def behave(self, behaviour: Behaviour | dict[str, list[str]] | str) -> None:
        """Switch to another behaviour: a function, a zone, or a name from the library."""
        if not isinstance(behaviour, str):
            function = zone(behaviour) if isinstance(behaviour, dict) else behaviour
            self._behave = lambda it: function(it.query, it.proto)
            return
        script, memory = BEHAVIOURS[behaviour], dict[str, bytes]()

        def behave(it: _Received) -> Iterable[Act]:
            name = str(it.query.q.qname).lower()
            earlier = self.queries[: it.number]
            before = sum(text.split()[0].lower() == name for text, _ in earlier)
            return script(Asked(it.wire, it.proto, before, memory))

        self._behave = behave

    def close(self) -> None:
        """Stop listening and shut down all connections."""
        with self._sending:
            self._closing = True
        with socket.socket(self._udp.family, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self.address)
        _cut(self._tcp)
        for thread in self._threads:
            thread.join(5)
        for stream in list(self._streams):  # also one that was accepted meanwhile
            _cut(stream)
        self._udp.close()
        self._tcp.close()

    def _receive(self, wire: bytes, proto: str) -> _Received:
        """Count a query; called in the order of arrival, which that of threads may differ from."""
        query = dnslib.DNSRecord.parse(wire)
        question = query.q
        with self._counting:
            number = len(self.queries)
            self.wires.append(wire)
            self.queries.append((f"{question.qname} {dnslib.QTYPE[question.qtype]}", proto))
        return _Received(wire, query, proto, number)

    def _acts(self, received: _Received) -> Iterable[Act]:
        if self._delay:
            time.sleep(self._delay)
        answer: Any = self._behave(received)
        if answer is None:
            return
        if isinstance(answer, dnslib.DNSRecord):
            answer = bytes(answer.pack())
        for act in [answer] if isinstance(answer, bytes) else answer:
            if isinstance(act, Pause):
                time.sleep(act.seconds)
            else:
                yield act

    def _serve_udp(self) -> None:
        while True:
            wire, peer = self._udp.recvfrom(65535)
            if self._closing:
                return
            received = self._receive(wire, "udp")
            threading.Thread(target=self._answer_udp, args=(received, peer), daemon=True).start()

    def _answer_udp(self, received: _Received, peer: Any) -> None:
        for act in self._acts(received):
            with self._sending:
                if self._closing:
                    return
                if isinstance(act, bytes):
                    with suppress(OSError):  # by now, a packet filter refuses it, or a link is gone
                        self._udp.sendto(act, peer)
                elif isinstance(act, Elsewhere):
                    with socket.socket(self._udp.family, socket.SOCK_DGRAM) as other:
                        other.bind((self.address[0], 0))
                        other.sendto(act.wire, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                stream, _ = self._tcp.accept()
            except OSError:
                return
            self.connections += 1
            self._streams.add(stream)
            threading.Thread(target=self._serve_stream, args=(stream,), daemon=True).start()

    def _serve_stream(self, stream: socket.socket) -> None:
        with stream:
            try:
                while all(_go_on(stream, act) for act in self._acts(self._next(stream))):
                    pass
            except OSError:
                pass
        self._streams.discard(stream)

    def _next(self, stream: socket.socket) -> _Received:
        return self._receive(read_frame(stream), "tcp")


def _go_on(stream: socket.socket, act: Act) -> bool:
    """Perform an act on a connection; return whether the connection stays open."""
    if isinstance(act, bytes):
        stream.sendall(struct.pack("!H", len(act)) + act)
    elif isinstance(act, Raw):
        stream.sendall(act.data)
    elif act is End.RESET:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return not isinstance(act, End)


def zone(records: dict[str, list[str]]) -> Behaviour:
    """Return a behaviour that answers from `records`, and with NXDOMAIN to all other questions.

    `records` is {"name. TYPE": [lines of a zone file]}.
    """
    table = {key.lower(): lines for key, lines in records.items()}

    def behave(query: dnslib.DNSRecord, _proto: str) -> dnslib.DNSRecord:
        reply: dnslib.DNSRecord = query.reply(ra=1, aa=0)
        lines = table.get(f"{query.q.qname} {dnslib.QTYPE[query.q.qtype]}".lower())
        if lines is None:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
            reply.add_auth(*dnslib.RR.fromZone(". 300 IN SOA ns. admin. 1 2 3 4 60"))
        else:
            reply.add_answer(*(rr for line in lines for rr in dnslib.RR.fromZone(line)))
        return reply

    return behave


def _own_ports() -> Iterator[int]:
    """Yield ports without end; a port returns as late as possible.

    They are below the ephemeral range, so that the kernel does not assign a port that a test has
    closed. Processes of pytest-xdist use different ports.
    """
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = list(range(12_000, 32_000))[number % count :: count]
    first = secrets.randbelow(len(ports))
    return itertools.cycle(ports[first:] + ports[:first])


_PORTS = _own_ports()


def free_sockets(host: str, interface: str = "") -> tuple[socket.socket, socket.socket]:
    """Return a UDP socket and a listening TCP socket at one free port of `host`.

    With `interface`, the sockets are bound to that device.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        tcp = socket.socket(family, socket.SOCK_STREAM)
        if interface:
            for sock in udp, tcp:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        try:
            udp.bind((host, next(_PORTS)))
            tcp.bind(udp.getsockname()[:2])
        except OSError:
            udp.close()
            tcp.close()
            continue
        tcp.listen(1024)
        return udp, tcp


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of `host` that is currently free for both UDP and TCP."""
    udp, tcp = free_sockets(host)
    with udp, tcp:
        port: int = udp.getsockname()[1]
        return port


def _cut(stream: socket.socket) -> None:
    try:
        stream.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
