"""Accepts connections into transports of `corepy.net.stream_transport`."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

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
        protocol: Callable[[], asyncio.Protocol],
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

    def _accept_one(self) -> None:
        # accept() itself would make a socket object, with two more system calls.
        fd, peer = self.sock._accept()  # type: ignore[attr-defined]  # in all versions of Python
        os.set_blocking(fd, False)
        assert self._poller is not None  # since `start`
        transport = StreamTransport(self._poller, fd, peer, self._local, self._log)
        try:
            transport.start(self._protocol())
        except BaseException as error:  # of a listener from another distribution
            transport.abort()
            self._failed(error)
