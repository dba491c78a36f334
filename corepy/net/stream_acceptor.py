"""Accepts connections into transports of `corepy.net.stream_transport`."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from corepy.net.acceptor import Acceptor
from corepy.net.sockets import Address
from corepy.net.stream_transport import StreamPoller, StreamTransport, poller

if TYPE_CHECKING:
    import asyncio
    import logging
    from collections.abc import Callable


class StreamAcceptor(Acceptor):
    """Creates a protocol for each connection, and answers queries that arrive with it at once."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: Callable[[], asyncio.BaseProtocol],
        label: str,
        log: logging.Logger,
    ) -> None:
        """Take a non-blocking `sock`, and the `label` that identifies it in `log`."""
        super().__init__(sock, protocol, label, log)
        # Connections inherit it; asyncio sets it for each of its own.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own = sock.getsockname()
        self._local = None if Address(own[0], own[1]).is_wildcard else own
        self._poller: StreamPoller | None = None

    def start(self) -> None:
        """Start accepting connections."""
        if self._poller is None:
            self._poller = poller()
        super().start()

    def open(self, stream: socket.socket, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        """Connect an accepted socket to a new protocol."""
        try:
            peer = stream.getpeername()
        except OSError:  # the client is gone
            stream.close()
        else:
            self._connect(stream.detach(), peer, protocol)

    def _accept_one(self) -> None:
        if self.take_over is not None:
            super()._accept_one()
            return
        # accept() itself would make a socket object, with two more system calls.
        fd, peer = self.sock._accept()  # type: ignore[attr-defined]  # socket.accept calls it, too
        os.set_blocking(fd, False)
        self._connect(fd, peer, self._protocol)

    def _connect(self, fd: int, peer: Any, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        assert self._poller is not None  # since `start`
        transport = StreamTransport(self._poller, fd, peer, self._local, self._log)
        try:
            transport.start(protocol())
        except BaseException as error:  # of a listener from another distribution
            transport.abort()
            self._failed(error)
