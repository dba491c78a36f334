"""Relays queries to a fallback name server while no worker can be started.

Queries are relayed unchanged except for the ID (`corepy.supervise.exchange`) and a PROXY header,
which is removed: the supervisor does not know the policies of listeners, and no message begins like
a header. The fallback's answer does not depend on the client. Replies are sent from the address at
which the query arrived. The relay has neither cache nor zones, and never retries: clients do. All
resources are bounded.
"""

from __future__ import annotations

import contextlib
import ipaddress
import selectors
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from corepy.net.packetinfo import control_for, local_address
from corepy.net.proxy_header import without_header
from corepy.net.sockets import ask_packet_info
from corepy.supervise.exchange import Exchanges

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_STREAMS = 64
STREAM_TIMEOUT = 10.0
_BATCH = 64


class _Asker(NamedTuple):
    """The client of a query, and the socket and address for its reply."""

    listening: socket.socket
    client: tuple[str | int, ...]
    control: list[tuple[int, int, bytes]]
    ident: bytes


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port) of ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT; raises ValueError."""
    host, _, port = (
        text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", "53")
    )
    host = host.strip("[]")
    ipaddress.ip_address(host)
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{port!r} is not a port")
    return host, int(port)


class Relay:
    """Relays between listening sockets and one fallback, in the supervisor's event loop."""

    def __init__(self, selector: selectors.BaseSelector, fallback: tuple[str, int]) -> None:
        self._selector = selector
        self._fallback = fallback
        self._family = socket.AF_INET6 if ":" in fallback[0] else socket.AF_INET
        self._exchanges = Exchanges(selector, fallback, _answer)
        self._listening: list[socket.socket] = []
        self._streams: dict[socket.socket, tuple[socket.socket, float]] = {}
        self._silent: set[socket.socket] = set()  # clients that have sent nothing yet
        self.is_on = False
        """Whether queries are relayed now."""

    def start(self, sockets: Iterable[socket.socket]) -> None:
        """Start relaying the queries of these listening sockets."""
        self.is_on = True
        for sock in sockets:
            datagrams = sock.type == socket.SOCK_DGRAM
            if datagrams and sock.getsockname()[0] in ("::", "0.0.0.0"):
                ask_packet_info(sock)
            handler = self._on_query if datagrams else self._on_connection
            self._selector.register(sock, selectors.EVENT_READ, handler)
            self._listening.append(sock)

    def stop(self) -> None:
        """Stop relaying, and leave the sockets to a worker."""
        self.is_on = False
        for sock in self._listening:
            self._selector.unregister(sock)
        self._listening.clear()
        self._exchanges.stop()
        for stream in list(self._streams):
            self._close(stream)

    def forget(self, sock: socket.socket) -> None:
        """Stop relaying the queries of this listening socket."""
        if sock in self._listening:
            self._listening.remove(sock)
            self._selector.unregister(sock)

    def expire(self) -> None:
        """Drop queries and streams that exceed their timeout; called periodically."""
        self._exchanges.expire()
        now = time.monotonic()
        for stream in [stream for stream, (_, until) in self._streams.items() if until < now]:
            self._close(stream)

    def _on_query(self, listening: socket.socket, _events: int) -> None:
        port = listening.getsockname()[1].to_bytes(2, "big")
        for _ in range(_BATCH):
            try:
                query, ancillary, _, client = listening.recvmsg(4096, 256)
            except OSError:
                return
            message = without_header(query)
            if message:
                self._ask(message, listening, client, [_sent_from(it, port) for it in ancillary])

    def _ask(
        self,
        query: bytes,
        listening: socket.socket,
        client: tuple[str | int, ...],
        control: list[tuple[int, int, bytes]],
    ) -> None:
        self._exchanges.ask(query, _Asker(listening, client, control, query[:2]))

    def _on_connection(self, listening: socket.socket, _events: int) -> None:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        if len(self._streams) >= 2 * MAX_STREAMS:
            client.close()
            return
        client.setblocking(False)
        server = self._connect()
        if server is None:
            client.close()
            return
        until = time.monotonic() + STREAM_TIMEOUT
        self._streams[client], self._streams[server] = (server, until), (client, until)
        self._silent.add(client)
        # Read from the client only after the fallback has accepted.
        self._selector.register(server, selectors.EVENT_WRITE, self._on_connected)

    def _connect(self) -> socket.socket | None:
        """Begin to connect to the fallback; None without a descriptor or a route."""
        try:
            server = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:
            return None
        try:
            server.connect(self._fallback)
        except BlockingIOError:
            pass
        except OSError:
            server.close()
            return None
        return server

    def _on_connected(self, server: socket.socket, _events: int) -> None:
        if server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._close(server)
            return
        client, _ = self._streams[server]
        self._selector.modify(server, selectors.EVENT_READ, self._on_stream)
        self._selector.register(client, selectors.EVENT_READ, self._on_stream)

    def _on_stream(self, source: socket.socket, _events: int) -> None:
        """Forward received data; close the stream if the peer cannot take all of it at once.

        The relay does not buffer data, so a PROXY header has to arrive at once.
        """
        sink, _ = self._streams[source]
        try:
            data: bytes | None = source.recv(65536)
            if data and source in self._silent:
                self._silent.discard(source)
                data = without_header(data)
                if data == b"":
                    return  # the header was sent on its own
            if not data or sink.send(data) != len(data):
                self._close(source)
        except OSError:
            self._close(source)

    def _close(self, stream: socket.socket) -> None:
        other, _ = self._streams.pop(stream, (None, 0.0))
        if other is None:
            return
        self._streams.pop(other, None)
        for sock in (stream, other):
            self._silent.discard(sock)
            with contextlib.suppress(KeyError):
                self._selector.unregister(sock)
            sock.close()


def _answer(asker: _Asker, body: bytes) -> None:
    with contextlib.suppress(OSError):
        asker.listening.sendmsg([asker.ident + body], asker.control, 0, asker.client)


def _sent_from(item: tuple[int, int, bytes], port: bytes) -> tuple[int, int, bytes]:
    """Return packet information for the reply: the local address of the query, no interface."""
    level, kind, data = item
    header = (16 + len(data)).to_bytes(8, "little") + level.to_bytes(4, "little")
    local = local_address(header + kind.to_bytes(4, "little") + data, port)
    return (level, kind, control_for(local)[16 : 16 + len(data)]) if local else item
