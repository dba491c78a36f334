"""Reads the PROXY headers of accepted connections, before the TLS handshake and the protocol.

The kernel's buffer is looked at without removing anything (MSG_PEEK) until the header is complete,
and then exactly the header is removed. While bytes of it are missing, SO_RCVLOWAT makes the
socket readable only with more of them, so that a client that sends single bytes costs one call of
the event loop for each.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from corepy.net.connection_limit import ConnectionLimit, client_of
from corepy.net.own_connections import is_own
from corepy.net.proxy_header import MAX_HEADER, ProxyHeaderError, header_length, stated_client
from corepy.plugin import ProxyAction
from corepy.server.listen.proxy_refusals import ProxyRefusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.plugin import ProxyPolicy

    Open = Callable[[socket.socket, bytes | None], None]


class ProxiedStreams:
    """The accepted connections of one listener whose header is not complete yet."""

    def __init__(self, label: str, open_stream: Open) -> None:
        """`open_stream` continues with a connection, and the client's address if it is stated.

        `label` is the address of the server in logs and metrics.
        """
        self.open_stream = open_stream
        self.refusals = ProxyRefusals(label)
        self._policy: ProxyPolicy
        self._timeout: float
        self._limit: ConnectionLimit[_Waiting] = ConnectionLimit(1, 1)
        self._waiting: set[_Waiting] = set()

    def follow(self, policy: ProxyPolicy, timeout: float, most: int) -> None:
        """Apply `policy` to later connections, of which at most `most` may wait.

        A peer has `timeout` seconds to send a header, or the first bytes of something else.
        """
        self._policy, self._timeout = policy, timeout
        # A proxy relays many clients, so the share of one peer is not limited.
        self._limit.resize(most, most)

    @property
    def is_empty(self) -> bool:
        """Whether no connection waits."""
        return not self._waiting

    def add(self, stream: socket.socket, peer: object) -> None:
        """Read the header of a connection from `peer`, then continue with it or close it."""
        action = self._policy.action(peer)
        if action is ProxyAction.SKIP:
            self.open_stream(stream, None)
            return
        waiting = _Waiting(self, stream, peer, action)
        self._waiting.add(waiting)
        waiting.look()
        if waiting in self._waiting:
            waiting.wait(self._timeout)
            evicted = None if is_own(peer) else self._limit.take(client_of(peer), waiting)
            if evicted is not None:
                evicted.close()

    def remove(self, waiting: _Waiting) -> None:
        """Remove a connection that no longer waits."""
        self._waiting.discard(waiting)
        self._limit.remove(waiting)

    def hurry(self, seconds: float) -> None:
        """Give the connections that wait only `seconds` more."""
        for waiting in self._waiting:
            waiting.wait(seconds)

    def close(self) -> None:
        """Close the connections that wait."""
        for waiting in list(self._waiting):
            waiting.close()


class _Waiting:
    """One connection whose header is not complete."""

    is_idle = True

    def __init__(
        self, owner: ProxiedStreams, stream: socket.socket, peer: object, action: ProxyAction
    ) -> None:
        self._owner = owner
        self._stream = stream
        self._peer = peer
        self._action = action
        self._loop = asyncio.get_running_loop()
        self.last_activity = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._seen = 0
        """Bytes of the header that have arrived."""

    def wait(self, seconds: float) -> None:
        """Wait for readable data, and close the connection after `seconds`."""
        if self._timer is None:
            self._loop.add_reader(self._stream, self.look)
        else:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._expire)

    def look(self) -> None:
        """Look at the data that has arrived; continue or refuse once the header is complete."""
        try:
            data = self._stream.recv(MAX_HEADER, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if len(data) <= self._seen or not data:  # the client has closed the connection
            self.close()
            return
        self._seen = len(data)
        try:
            self._look_at(data)
        except ProxyHeaderError as error:
            self._owner.refusals.add(self._peer, error)
            self.close()

    def _look_at(self, data: bytes) -> None:
        length = header_length(data)
        if length is None or length > len(data):
            wanted = len(data) + 1 if length is None else length
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wanted)
            return
        client = None
        if length:
            if self._action is ProxyAction.REJECT:
                raise ProxyHeaderError("this peer is not allowed to send one")
            if self._action is ProxyAction.USE:
                client = stated_client(data[:length])
            self._stream.recv(length)
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self._end()
        self._owner.open_stream(self._stream, client)

    def _expire(self) -> None:
        if self._seen > 0:
            self._owner.refusals.add(self._peer, "it was not complete in time")
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._end()
        self._stream.close()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._loop.remove_reader(self._stream)
        self._owner.remove(self)
