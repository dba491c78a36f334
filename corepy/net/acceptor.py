"""Accepts the connections of a listening socket in the event loop."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from corepy.compiled_classes import mypyc_attr

if TYPE_CHECKING:
    import logging
    import socket
    import ssl
    from collections.abc import Callable

BATCH: Final = 64
"""Connections accepted in one turn of the event loop, at most."""

BUDGET: Final = 0.005
"""Seconds after which the event loop may do other work: a connection may begin with a handshake."""

PAUSE = 0.5
"""Seconds without accepting after the process runs out of descriptors or memory."""

QUIET = 60.0
"""Minimum seconds between two log lines about that."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Acceptor:
    """Creates a protocol for each connection to one listening socket, and owns the socket."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        label: str,
        log: logging.Logger,
        *,
        tls: ssl.SSLContext | None = None,
        handshake: float | None = None,
        most: int = BATCH,
    ) -> None:
        """Take a non-blocking `sock`, and the `label` that identifies it in `log`.

        With `tls`, a handshake may take `handshake` seconds. At most `most` connections are being
        opened at a time.
        """
        self.sock = sock
        self._protocol = protocol
        self._tls = tls
        self._handshake = handshake
        self._most = most
        self.take_over: Callable[[socket.socket, object], None] | None = None
        """Called with each accepted socket and its peer, instead of `open`."""
        self._is_full = False
        self._label = label
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[Any]] = set()
        self._started = self._stopped = False
        self._quiet_until = self._silent_until = 0.0

    @property
    def is_opening(self) -> bool:
        """Whether there are accepted connections whose protocol is not connected yet."""
        return bool(self._opening)

    def start(self) -> None:
        """Start accepting connections."""
        self._started = True
        self._loop.add_reader(self.sock, self._accept)

    def pause(self) -> None:
        """Stop accepting until `start`, because another process accepts from the same socket."""
        self._loop.remove_reader(self.sock)
        self._started = False

    def stop(self, *, leave_queue: bool = False) -> None:
        """Accept the connections in the queue, then close the socket.

        With `leave_queue`, leave the queue to the process that continues with the socket.
        """
        self._stopped = True
        if self._started:
            self._loop.remove_reader(self.sock)
            while not leave_queue and self._take(BATCH) == BATCH:
                pass
        self.sock.close()

    def _accept(self) -> None:
        # Count the connections of earlier turns that are not yet admitted: admitting one may close
        # another.
        self._take(self._most - len(self._opening), monotonic() + BUDGET)
        if self._tls is not None and len(self._opening) >= self._most:  # may last for seconds
            self._is_full = True
            self._loop.remove_reader(self.sock)

    def _take(self, most: int, until: float = float("inf")) -> int:
        """Accept up to `most` connections from the queue, until a time; return their number."""
        for count in range(most):
            try:
                self._accept_one()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return count
            except OSError as error:
                self._rest(error)
                return count
            if monotonic() > until:
                return count + 1
        return max(most, 0)

    def _accept_one(self) -> None:
        """Accept a connection; raises OSError."""
        stream, peer = self.sock.accept()
        stream.setblocking(False)
        if self.take_over is None:
            self.open(stream, self._protocol)
        else:
            self.take_over(stream, peer)

    def open(self, stream: socket.socket, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """Connect an accepted socket to a new protocol, after the TLS handshake if there is one."""
        opening = self._loop.connect_accepted_socket(
            protocol, stream, ssl=self._tls, ssl_handshake_timeout=self._handshake
        )
        task = self._loop.create_task(opening)
        self._opening.add(task)
        task.add_done_callback(partial(self._opened, stream))

    def _opened(self, stream: socket.socket, task: asyncio.Task[Any]) -> None:
        self._opening.discard(task)
        if self._is_full:
            self._is_full = False
            self._resume()
        if task.cancelled():
            stream.close()
        elif task.exception() is not None:
            stream.close()  # asyncio leaves it to the garbage collector if the protocol raises
            self._failed(task.exception())

    def _failed(self, error: BaseException | None) -> None:
        now = self._loop.time()
        if self._tls is None or now >= self._silent_until:
            self._silent_until = now + QUIET  # anyone can let handshakes fail
            self._log.warning("a connection to %s failed: %s", self._label, error)

    def _rest(self, error: OSError) -> None:
        """Pause accepting: the process is out of descriptors or memory."""
        now = self._loop.time()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            self._log.error("%s: cannot accept connections: %s", self._label, error.strerror)
        self._loop.remove_reader(self.sock)
        self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        if self._started and not self._stopped:
            self.start()
