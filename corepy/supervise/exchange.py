"""Exchanges UDP queries with the fallback, protected against spoofed replies.

An off-path attacker must guess the port and the ID of a query, and know its question (RFC 5452).
Therefore each query has an ID that is unique at its port. The kernel chooses the ports at random,
and a port carries few queries. A reply is accepted only from the fallback's address and with the
question of the query. Equal queries share an exchange, and the number of different queries with the
same question is small (RFC 5452 section 5: "birthday" attacks). A port that receives many replies
that match no query is under attack: its clients get a truncated reply, so they retry over TCP.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_QUERIES: Final = 2048
"""Clients that may wait at once; further queries are dropped."""

MAX_PORTS: Final = 256
MAX_PER_PORT: Final = 8
"""Exchanges per port once the maximum number of ports is open."""

MAX_PER_QUESTION: Final = 4
"""Exchanges for one name, type and class."""

MAX_UNUSUAL: Final = 2
"""The part of them that may be for queries unlike a stub resolver's.

The fallback may leave such queries unanswered. Otherwise a few of one client would block the name
for all others.
"""

MAX_STRAYS: Final = 100
"""Replies that match no query after which a port is given up."""

QUERY_TIMEOUT: Final = 5.0
_BATCH: Final = 64
_HEADER: Final = 12
_LONGEST_NAME: Final = 255

Asker = TypeVar("Asker")


class _Exchange(Generic[Asker]):
    """One query to the fallback, and the clients that wait for its reply."""

    def __init__(self, body: bytes, question: bytes, port: _Port[Asker], ident: bytes) -> None:
        self.body = body
        """The query without its ID."""
        self.question = question
        self.port = port
        self.ident = ident
        self.askers: list[Asker] = []
        self.until = time.monotonic() + QUERY_TIMEOUT


class _Port(Generic[Asker]):
    """One socket, connected to the fallback, with its own local port."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.exchanges: dict[bytes, _Exchange[Asker]] = {}
        """The pending exchanges by ID."""
        self.strays = 0


class Exchanges(Generic[Asker]):
    """The exchanges with one fallback, in the supervisor's event loop."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        fallback: tuple[str, int],
        answer: Callable[[Asker, bytes], None],
    ) -> None:
        """`answer` gets each asker and the bytes of its reply after the ID."""
        self._selector = selector
        self._fallback = fallback
        self._family = socket.AF_INET6 if ":" in fallback[0] else socket.AF_INET
        self._answer = answer
        self._by_body: dict[bytes, _Exchange[Asker]] = {}
        self._per_question: Counter[bytes] = Counter()
        self._unusual: Counter[bytes] = Counter()
        self._ports: list[_Port[Asker]] = []
        self._waiting = 0

    @property
    def ports(self) -> int:
        """The number of open ports."""
        return len(self._ports)

    def ask(self, query: bytes, asker: Asker) -> None:
        """Send a query for `asker`; only plain queries within the limits are sent."""
        question = question_of(query)
        if question is None or query[2] & 0xF8 or self._waiting >= MAX_QUERIES:
            return
        exchange = self._by_body.get(query[2:]) or self._begin(query[2:], question)
        if exchange is not None:
            exchange.askers.append(asker)
            self._waiting += 1

    def _begin(self, body: bytes, question: bytes) -> _Exchange[Asker] | None:
        is_unusual = not _is_usual(body, question)
        if self._per_question[question] >= MAX_PER_QUESTION or (
            is_unusual and self._unusual[question] >= MAX_UNUSUAL
        ):
            return None
        port = self._choose_port()
        if port is None:
            return None
        ident = os.urandom(2)
        while ident in port.exchanges:
            ident = os.urandom(2)
        exchange = _Exchange(body, question, port, ident)
        self._by_body[body] = port.exchanges[ident] = exchange
        self._per_question[question] += 1
        self._unusual[question] += is_unusual
        with contextlib.suppress(OSError):
            port.sock.send(ident + body)
        return exchange

    def _choose_port(self) -> _Port[Asker] | None:
        """Return a new port for each exchange; at the limit, a random one with room."""
        port = self._open_port() if len(self._ports) < MAX_PORTS else None
        if port is not None:
            return port
        with_room = [port for port in self._ports if len(port.exchanges) < MAX_PER_PORT]
        chance = int.from_bytes(os.urandom(4))
        return with_room[chance % len(with_room)] if with_room else None

    def _open_port(self) -> _Port[Asker] | None:
        """Return a new port; None without a free descriptor or a route to the fallback."""
        try:
            sock = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError:
            return None
        try:
            sock.connect(self._fallback)
        except OSError:
            sock.close()
            return None
        port = _Port[Asker](sock)
        self._ports.append(port)
        self._selector.register(sock, selectors.EVENT_READ, lambda *_: self._on_reply(port))
        return port

    def _on_reply(self, port: _Port[Asker]) -> None:
        for _ in range(_BATCH):
            try:
                reply = port.sock.recv(65535)
            except ConnectionRefusedError:  # no server listens at the fallback's port
                for refused in list(port.exchanges.values()):
                    self._end(refused, None)
                return
            except OSError:
                return
            exchange = port.exchanges.get(reply[:2])
            if exchange is None or not _answers(reply, exchange.question):
                port.strays += 1
                if port.strays >= MAX_STRAYS:
                    self._fall_back_to_tcp(port)
                    return
                continue
            self._end(exchange, reply[2:])
            if not port.exchanges:
                return  # `_end` has closed the port

    def _end(self, exchange: _Exchange[Asker], body: bytes | None) -> None:
        """Send `body` to all askers, or no reply for None, and remove the exchange."""
        port, question = exchange.port, exchange.question
        del self._by_body[exchange.body], port.exchanges[exchange.ident]
        self._per_question[question] -= 1
        self._unusual[question] -= not _is_usual(exchange.body, question)
        if not self._per_question[question]:
            del self._per_question[question], self._unusual[question]
        self._waiting -= len(exchange.askers)
        if not port.exchanges:
            self._ports.remove(port)
            self._selector.unregister(port.sock)
            port.sock.close()
        for asker in exchange.askers if body is not None else ():
            self._answer(asker, body or b"")

    def _fall_back_to_tcp(self, port: _Port[Asker]) -> None:
        """Send truncated replies to the clients of a port, so that they retry over TCP.

        The reply has QR, opcode and RD of the query, and TC.
        """
        for exchange in list(port.exchanges.values()):
            flags = bytes([0x82 | exchange.body[0] & 0x01, 0])
            asked = exchange.body[10 : 10 + len(exchange.question)]
            self._end(exchange, flags + b"\0\1\0\0\0\0\0\0" + asked)

    def expire(self) -> None:
        """Drop exchanges that exceed their timeout; called periodically."""
        now = time.monotonic()
        for exchange in [it for it in self._by_body.values() if it.until < now]:
            self._end(exchange, None)

    def stop(self) -> None:
        """Drop all exchanges."""
        for exchange in list(self._by_body.values()):
            self._end(exchange, None)


def question_of(message: bytes) -> bytes | None:
    """Return the question of a message, its name in lower case.

    None if the message does not have exactly one valid question.
    """
    if message[4:6] != b"\0\1":
        return None
    end = _HEADER
    while end < len(message) and message[end]:
        if message[end] > 63 or end - _HEADER > _LONGEST_NAME:
            return None
        end += message[end] + 1
    name, fixed = message[_HEADER : end + 1], message[end + 1 : end + 5]
    return name.lower() + fixed if len(fixed) == 4 else None


def _is_usual(body: bytes, question: bytes) -> bool:
    """Return whether a query without its ID is a stub resolver's: RD, no CD, no DO, no options."""
    rest = body[_HEADER - 2 + len(question) :]
    has_plain_opt = rest[:3] == b"\0\0\x29" and rest[5:] == bytes(6)
    return bool(body[0] & 1 and not body[1] & 0x10 and (not rest or has_plain_opt))


def _answers(reply: bytes, question: bytes) -> bool:
    """Return whether this is a reply (QR) to a plain query with this question."""
    return len(reply) >= _HEADER and reply[2] & 0xF8 == 0x80 and question_of(reply) == question
