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
"""What to send: a message, several one after the other, or nothing; other acts than messages are in
`corepy.testing.behaviours`.
"""

Behaviour = Callable[[dnslib.DNSRecord, str], Answer]
"""Called with the query and "udp" or "tcp"; runs in a thread, so it may sleep."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: closing sends RST."""


class Upstream:
    """Listens on UDP and TCP at one free port of 127.0.0.1 while the `with` block lasts.

        with Upstream({"example.org. A": ["example.org. 60 IN A 192.0.2.1"]}) as upstream: ...
        with Upstream(lambda query, proto: None) as black_hole: ...
        with Upstream("drops-edns") as upstream: ...     # one of corepy.testing.behaviours

    `queries` lists what was asked, as (question text, "udp" or "tcp"), in order.
    """

    def __init__(
        self,
        behaviour: Behaviour | dict[str, list[str]] | str,
        *,
        host: str = "127.0.0.1",
        delay: float = 0,
    ) -> None:
        self._behave: Callable[[bytes, dnslib.DNSRecord, str], Any]
        self.behave(behaviour)
        self._delay = delay
        self.queries: list[tuple[str, str]] = []
        self.connections = 0
        self._closing = False
        self._sending = threading.Lock()  # so that nothing is sent from a socket that is closed
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
        """The address as `forward` takes it."""
        return f"{self.address[0]}:{self.address[1]}"

    def behave(self, behaviour: Behaviour | dict[str, list[str]] | str) -> None:
        """Answer from now on as a function, a zone, or one of the library says, by its name."""
        if not isinstance(behaviour, str):
            function = zone(behaviour) if isinstance(behaviour, dict) else behaviour
            self._behave = lambda _wire, query, proto: function(query, proto)
            return
        script, memory = BEHAVIOURS[behaviour], dict[str, bytes]()

        def behave(wire: bytes, query: dnslib.DNSRecord, proto: str) -> Iterable[Act]:
            name = str(query.q.qname).lower()
            before = sum(text.split()[0].lower() == name for text, _ in self.queries) - 1
            return script(Asked(wire, proto, before, memory))

        self._behave = behave

    def close(self) -> None:
        """Stop listening; connections are cut."""
        with self._sending:
            self._closing = True
        with socket.socket(self._udp.family, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self.address)
        _cut(self._tcp)
        for stream in list(self._streams):
            _cut(stream)
        for thread in self._threads:
            thread.join(5)
        self._udp.close()
        self._tcp.close()

    def _acts(self, wire: bytes, proto: str) -> Iterable[Act]:
        query = dnslib.DNSRecord.parse(wire)
        question = query.q
        self.queries.append((f"{question.qname} {dnslib.QTYPE[question.qtype]}", proto))
        if self._delay:
            time.sleep(self._delay)
        answer: Any = self._behave(wire, query, proto)
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
            threading.Thread(target=self._answer_udp, args=(wire, peer), daemon=True).start()

    def _answer_udp(self, wire: bytes, peer: Any) -> None:
        for act in self._acts(wire, "udp"):
            with self._sending:
                if self._closing:
                    return
                if isinstance(act, bytes):
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
                while all(_go_on(stream, act) for act in self._acts(read_frame(stream), "tcp")):
                    pass
            except OSError:
                pass
        self._streams.discard(stream)


def _go_on(stream: socket.socket, act: Act) -> bool:
    """Perform an act at a connection; return whether it is still open."""
    if isinstance(act, bytes):
        stream.sendall(struct.pack("!H", len(act)) + act)
    elif isinstance(act, Raw):
        stream.sendall(act.data)
    elif act is End.RESET:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return not isinstance(act, End)


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


def free_sockets(host: str, interface: str = "") -> tuple[socket.socket, socket.socket]:
    """Return a UDP socket and a listening TCP socket at one free port of `host`, which take what
    comes over `interface` alone.
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
