"""A name server for tests that behaves as a function says."""

from __future__ import annotations

import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import dnslib

from corepy.testing.client import Address, read_frame

Answer = bytes | dnslib.DNSRecord | None | Iterable[bytes]
"""What to send: a message, several one after the other, or nothing."""

Behaviour = Callable[[dnslib.DNSRecord, str], Answer]
"""Called with the query and "udp" or "tcp"; runs in a thread, so it may sleep."""


class Upstream:
    """Listens on UDP and TCP at one free port of 127.0.0.1 while the `with` block lasts.

        with Upstream({"example.org. A": ["example.org. 60 IN A 192.0.2.1"]}) as upstream: ...
        with Upstream(lambda query, proto: None) as black_hole: ...

    `queries` lists what was asked, as (question text, "udp" or "tcp"), in order.
    """

    def __init__(
        self,
        behaviour: Behaviour | dict[str, list[str]],
        *,
        host: str = "127.0.0.1",
        delay: float = 0,
    ) -> None:
        self._behave = zone(behaviour) if isinstance(behaviour, dict) else behaviour
        self._delay = delay
        self.queries: list[tuple[str, str]] = []
        self.connections = 0
        self._closing = False
        self._sending = threading.Lock()  # so that nothing is sent from a socket that is closed
        self._streams: set[socket.socket] = set()
        self._udp, self._tcp = free_sockets(host)
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
        """The address as `forward` takes it."""
        return f"{self.address[0]}:{self.address[1]}"

    def close(self) -> None:
        """Stop listening; connections are cut."""
        with self._sending:
            self._closing = True
        with socket.socket(self._udp.family, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self.address)
        self._tcp.shutdown(socket.SHUT_RDWR)
        for stream in list(self._streams):
            _cut(stream)
        for thread in self._threads:
            thread.join(5)
        self._udp.close()
        self._tcp.close()

    def _answers(self, wire: bytes, proto: str) -> list[bytes]:
        query = dnslib.DNSRecord.parse(wire)
        question = query.q
        self.queries.append((f"{question.qname} {dnslib.QTYPE[question.qtype]}", proto))
        if self._delay:
            time.sleep(self._delay)
        answer: Any = self._behave(query, proto)
        if answer is None:
            return []
        if isinstance(answer, dnslib.DNSRecord):
            return [bytes(answer.pack())]
        return [answer] if isinstance(answer, bytes) else list(answer)

    def _serve_udp(self) -> None:
        while True:
            wire, peer = self._udp.recvfrom(65535)
            if self._closing:
                return
            threading.Thread(target=self._answer_udp, args=(wire, peer), daemon=True).start()

    def _answer_udp(self, wire: bytes, peer: Any) -> None:
        for answer in self._answers(wire, "udp"):
            with self._sending:
                if not self._closing:
                    self._udp.sendto(answer, peer)

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
                while True:
                    for answer in self._answers(read_frame(stream), "tcp"):
                        stream.sendall(struct.pack("!H", len(answer)) + answer)
            except OSError:
                pass
        self._streams.discard(stream)


def zone(records: dict[str, list[str]]) -> Behaviour:
    """Return a behaviour that answers from `records`, {"name. TYPE": [lines of a zone file]};
    NXDOMAIN for the rest.
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


def free_sockets(host: str) -> tuple[socket.socket, socket.socket]:
    """Return a UDP socket and a listening TCP socket at one free port of `host`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        tcp = socket.socket(family, socket.SOCK_STREAM)
        try:
            # Below the ports that the system gives to clients: it must stay free when it is let go.
            udp.bind((host, secrets.randbelow(20_000) + 12_000))
            tcp.bind(udp.getsockname()[:2])
        except OSError:
            udp.close()
            tcp.close()
            continue
        tcp.listen(1024)
        return udp, tcp


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of `host` that nobody has, over UDP or TCP, at the moment."""
    udp, tcp = free_sockets(host)
    with udp, tcp:
        port: int = udp.getsockname()[1]
        return port


def _cut(stream: socket.socket) -> None:
    try:
        stream.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
