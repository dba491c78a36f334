"""Passing queries on to a fallback name server while no worker can be started.

Queries are relayed as they are, with an ID of our own towards the fallback; replies go back from
the address that was asked. No cache, no zones, no retries: clients have those. Everything is
bounded.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import selectors
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from corepy.net.packetinfo import control_for, local_address
from corepy.net.sockets import ask_packet_info

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_QUERIES = 4096
MAX_STREAMS = 64
QUERY_TIMEOUT = 5.0
STREAM_TIMEOUT = 10.0
_BATCH = 64
_HEADER = 12


class _Asked(NamedTuple):
    listening: socket.socket
    client: tuple[str | int, ...]
    control: list[tuple[int, int, bytes]]
    ident: bytes
    until: float


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
        self._upstream: socket.socket | None = None
        self._listening: list[socket.socket] = []
        self._asked: dict[bytes, _Asked] = {}
        self._streams: dict[socket.socket, tuple[socket.socket, float]] = {}

    @property
    def is_on(self) -> bool:
        """Whether it relays."""
        return self._upstream is not None

    def start(self, sockets: Iterable[socket.socket]) -> None:
        """Answer at these listening sockets from now on."""
        self._upstream = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._upstream.connect(self._fallback)
        self._selector.register(self._upstream, selectors.EVENT_READ, self._on_reply)
        for sock in sockets:
            datagrams = sock.type == socket.SOCK_DGRAM
            if datagrams and sock.getsockname()[0] in ("::", "0.0.0.0"):
                ask_packet_info(sock)
            handler = self._on_query if datagrams else self._on_connection
            self._selector.register(sock, selectors.EVENT_READ, handler)
            self._listening.append(sock)

    def stop(self) -> None:
        """Leave the sockets to a worker."""
        if self._upstream is None:
            return
        for sock in (self._upstream, *self._listening):
            self._selector.unregister(sock)
        self._upstream.close()
        self._upstream = None
        self._listening.clear()
        self._asked.clear()
        for stream in list(self._streams):
            self._close(stream)

    def forget(self, sock: socket.socket) -> None:
        """Answer at this listening socket no longer."""
        if sock in self._listening:
            self._listening.remove(sock)
            self._selector.unregister(sock)

    def expire(self) -> None:
        """Forget queries and streams that took too long; called now and then."""
        now = time.monotonic()
        for key in [key for key, asked in self._asked.items() if asked.until < now]:
            del self._asked[key]
        for stream in [stream for stream, (_, until) in self._streams.items() if until < now]:
            self._close(stream)

    def _on_query(self, listening: socket.socket, _events: int) -> None:
        assert self._upstream is not None
        port = listening.getsockname()[1].to_bytes(2, "big")
        for _ in range(_BATCH):
            try:
                query, ancillary, _, client = listening.recvmsg(4096, 256)
            except OSError:
                return
            if len(query) < _HEADER or query[2] & 0x80 or len(self._asked) >= MAX_QUERIES:
                continue
            key = os.urandom(2)
            control = [_sent_from(item, port) for item in ancillary]
            asked = _Asked(listening, client, control, query[:2], time.monotonic() + QUERY_TIMEOUT)
            self._asked[key] = asked
            with contextlib.suppress(OSError):
                self._upstream.send(key + query[2:])

    def _on_reply(self, upstream: socket.socket, _events: int) -> None:
        for _ in range(_BATCH):
            try:
                reply = upstream.recv(65535)
            except OSError:
                return
            asked = self._asked.pop(reply[:2], None)
            if asked is not None and len(reply) >= _HEADER:
                with contextlib.suppress(OSError):
                    asked.listening.sendmsg(
                        [asked.ident + reply[2:]], asked.control, 0, asked.client
                    )

    def _on_connection(self, listening: socket.socket, _events: int) -> None:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        if len(self._streams) >= 2 * MAX_STREAMS:
            client.close()
            return
        client.setblocking(False)
        server = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            server.connect(self._fallback)
        until = time.monotonic() + STREAM_TIMEOUT
        self._streams[client], self._streams[server] = (server, until), (client, until)
        # The client is read only once the fallback has accepted.
        self._selector.register(server, selectors.EVENT_WRITE, self._on_connected)

    def _on_connected(self, server: socket.socket, _events: int) -> None:
        if server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._close(server)
            return
        client, _ = self._streams[server]
        self._selector.modify(server, selectors.EVENT_READ, self._on_stream)
        self._selector.register(client, selectors.EVENT_READ, self._on_stream)

    def _on_stream(self, source: socket.socket, _events: int) -> None:
        """Pass on what came; a peer that does not take it at once is cut off, since nothing is kept
        here.
        """
        sink, _ = self._streams[source]
        try:
            data = source.recv(65536)
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
            with contextlib.suppress(KeyError):
                self._selector.unregister(sock)
            sock.close()


def _sent_from(item: tuple[int, int, bytes], port: bytes) -> tuple[int, int, bytes]:
    """Return packet information as it is sent back: the address that was asked, no interface."""
    level, kind, data = item
    header = (16 + len(data)).to_bytes(8, "little") + level.to_bytes(4, "little")
    local = local_address(header + kind.to_bytes(4, "little") + data, port)
    return (level, kind, control_for(local)[16 : 16 + len(data)]) if local else item
