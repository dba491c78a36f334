"""Transports of accepted connections, at a fraction of the cost of asyncio's.

asyncio needs a task, four turns of the event loop and a registration with its selector for each
connection, which is most of the work for a client that sends one query. Here one epoll object
watches the connections of all listeners, and the event loop watches that object: it calls back once
for all connections that are readable.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import logging

EVENTS_PER_TURN: Final = 64
"""Connections that are served in one turn of the event loop, at most."""

BUDGET: Final = 0.005
"""Seconds after which the event loop may do other work; a TLS handshake takes up to a millisecond.

The kernel reports the other connections again.
"""

SMALL_READ: Final = 2048
"""Bytes of the first read; a connection that fills it gets more."""

LARGE_READ: Final = 65536

HIGH_WATER: Final = 65536
"""Bytes in the write buffer beyond which the protocol is paused, as in asyncio."""


class StreamPoller:
    """Watches the sockets of connections, and reports the end of each to its protocol."""

    def __init__(self) -> None:
        """Start to watch in the running event loop."""
        self._epoll = select.epoll()
        self._transports: dict[int, StreamTransport] = {}
        self._lost: list[StreamTransport] = []
        self._is_polling = False
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._poll)

    def close(self) -> None:
        """Close all connections that are open, and stop watching."""
        for transport in list(self._transports.values()):
            transport.abort()
        self._report_ends()
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()

    def watch(self, transport: StreamTransport, fd: int, mask: int, before: int) -> None:
        """Watch for the events `mask` instead of `before`; 0 is for none."""
        if not before:
            self._transports[fd] = transport
            self._epoll.register(fd, mask)
        elif mask:
            self._epoll.modify(fd, mask)
        else:
            del self._transports[fd]
            self._epoll.unregister(fd)

    def report_end(self, transport: StreamTransport, fd: int) -> None:
        """Watch no more, and call `connection_lost` soon: never from a method of the protocol.

        Closing the descriptor removes it from the epoll object. Until then, events without a
        transport are ignored.
        """
        self._transports.pop(fd, None)
        if not self._lost and not self._is_polling:
            asyncio.get_running_loop().call_soon(self._report_ends)
        self._lost.append(transport)

    def _poll(self) -> None:
        transports, until = self._transports, monotonic() + BUDGET
        self._is_polling = True
        try:
            for fd, mask in self._epoll.poll(0, EVENTS_PER_TURN):
                transport = transports.get(fd)
                if transport is not None:  # an earlier event may have ended it
                    transport.serve(mask)
                    if monotonic() > until:
                        break
        finally:
            self._is_polling = False
            if self._lost:
                self._report_ends()

    def _report_ends(self) -> None:
        lost, self._lost = self._lost, []
        for transport in lost:
            transport.end()


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, StreamPoller] = WeakKeyDictionary()


def poller() -> StreamPoller:
    """Return the poller of the running event loop.

    It has no reference to the loop, which otherwise would not be freed.
    """
    loop = asyncio.get_running_loop()
    if loop not in _pollers:
        _pollers[loop] = StreamPoller()
    return _pollers[loop]


def close_poller() -> None:
    """Close all connections of the running event loop; do nothing if it has no poller."""
    found = _pollers.pop(asyncio.get_running_loop(), None)
    if found is not None:
        found.close()


class StreamTransport:
    """The transport of one connection: what `asyncio.Transport` offers to a protocol.

    Unlike there, `connection_made` and the first `data_received` are called by `start`, since the
    query of a client has usually arrived with its connection. It uses the descriptor, because a
    socket object costs as much as the query.
    """

    __slots__ = (
        "_before",
        "_buffer",
        "_closing",
        "_error",
        "_fd",
        "_high",
        "_is_lost",
        "_is_paused",
        "_local",
        "_log",
        "_low",
        "_peer",
        "_poller",
        "_protocol",
        "_reading",
        "_size",
    )

    def __init__(
        self,
        poller: StreamPoller,
        fd: int,
        peer: Any,
        local: Any,
        log: logging.Logger,
    ) -> None:
        """Take the descriptor of a connected, non-blocking socket, and the addresses of its ends.

        `local` may be None: the transport asks the system for it when it is needed. Faults of the
        protocol are reported in `log`.
        """
        self._poller = poller
        self._log = log
        self._fd = fd
        self._peer = peer
        self._local = local
        self._protocol: Any = None
        self._buffer = bytearray()
        self._before = 0  # the events that are watched
        self._size = SMALL_READ
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._reading = True
        self._is_paused = False  # the protocol, by pause_writing
        self._closing = False
        self._is_lost = False
        self._error: Exception | None = None

    def start(self, protocol: Any) -> None:
        """Connect `protocol`, pass it the data that have arrived, and watch for more."""
        self._protocol = protocol
        protocol.connection_made(self)
        if self._reading and not self._closing:
            self._read()
        self._watch()

    def serve(self, mask: int) -> None:
        """Read and write what the events `mask` permit; errors come with both."""
        if self._reading and mask & ~select.EPOLLOUT:
            self._read()
        if self._buffer and mask & ~select.EPOLLIN:
            self._write_more()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return "peername" or "sockname", the addresses of the ends."""
        if name == "peername":
            return self._peer
        if name == "sockname":
            if self._local is None:
                self._local = _address_of(self._fd)
            return self._local
        return default

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or will be when the buffer is written."""
        return self._closing

    def pause_reading(self) -> None:
        """Do not call `data_received` until `resume_reading`."""
        self._reading = False
        self._watch()

    def resume_reading(self) -> None:
        """Call `data_received` again."""
        if not self._closing:
            self._reading = True
            self._watch()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that the client's system has not accepted yet."""
        return len(self._buffer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Call `pause_writing` above `high` bytes, `resume_writing` at `low`."""
        self._high = HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low
        self._pause_if_full()

    def write(self, data: bytes) -> None:
        """Send `data`, or keep what the client's system does not accept yet."""
        if self._is_lost:
            return
        if not self._buffer:
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._lose(error)
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._buffer += data
        self._watch()
        self._pause_if_full()

    def close(self) -> None:
        """Close when all written bytes are sent; read nothing more."""
        if not self._closing:
            self._closing = True
            self._reading = False
            if self._buffer:
                self._watch()
            else:
                self._lose(None)

    def abort(self) -> None:
        """Close at once."""
        self._lose(None)

    def end(self) -> None:
        """Report the end to the protocol and close the socket; for the poller."""
        try:
            if self._protocol is not None:
                self._protocol.connection_lost(self._error)
        except Exception:
            self._log.exception("the end of a connection was not handled")
        finally:
            os.close(self._fd)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, self._size)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        if len(data) == self._size:
            self._size = LARGE_READ
        try:
            if data:
                self._protocol.data_received(data)
            elif self._protocol.eof_received():
                self.pause_reading()
            else:
                self.close()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Close at once because of a fault of the protocol."""
        self._log.exception("a connection was closed because of an error")
        self._lose(error)

    def _write_more(self) -> None:
        try:
            sent = os.write(self._fd, self._buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        del self._buffer[:sent]
        if self._is_paused and len(self._buffer) <= self._low:
            self._is_paused = False
            try:
                self._protocol.resume_writing()
            except Exception as error:
                self._fail(error)
        if self._buffer:
            return
        if self._closing:
            self._lose(None)
        else:
            self._watch()

    def _pause_if_full(self) -> None:
        if not self._is_paused and len(self._buffer) > self._high:
            self._is_paused = True
            self._protocol.pause_writing()

    def _watch(self) -> None:
        if self._is_lost:
            return
        mask = select.EPOLLIN if self._reading else 0
        if self._buffer:
            mask |= select.EPOLLOUT
        if mask != self._before:
            before, self._before = self._before, mask
            self._poller.watch(self, self._fd, mask, before)

    def _lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = self._closing = True
            self._reading = False
            self._error = error
            self._buffer.clear()
            self._poller.report_end(self, self._fd)


def _address_of(fd: int) -> Any:
    sock = socket.socket(fileno=fd)
    try:
        return sock.getsockname()
    finally:
        sock.detach()
