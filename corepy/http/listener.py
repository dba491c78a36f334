"""HTTP listeners: claims on addresses, and the sockets that they share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from corepy.http.connection import LOG, HTTPConnection
from corepy.http.listen_address import resolve
from corepy.http.messages import ANSWER_TIMEOUT, Route
from corepy.http.unix_socket import UnixAddress, open_unix, remove
from corepy.net.acceptor import Acceptor
from corepy.net.connection_limit import ConnectionLimit, client_of
from corepy.net.own_connections import is_own
from corepy.net.sockets import Address, open_tcp
from corepy.net.turns import Turns

if TYPE_CHECKING:
    import socket

    from corepy.http.messages import Answer

CLOSE_TIMEOUT: Final = 1.0
"""Seconds for responses in progress to finish when a listener closes."""

MAX_CONNECTIONS: Final = 100
"""Maximum connections per listener; above it, the client with the most loses one."""

REQUESTS_PER_TURN: Final = 4
"""Requests of all connections that are read in one turn of the event loop.

The head of a request may have thousands of fields, and then takes several milliseconds to read.
"""

_listeners: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Address | UnixAddress, Listener]] = (
    WeakKeyDictionary()
)


class Claim:
    """The right to serve paths at an address, from `claim` until `close`."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.routes: dict[str, Route] = {}

    @property
    def address(self) -> Address:
        """The address that the socket of `claim` is bound to; the wildcard's host is ""."""
        assert isinstance(self._listener.bound, Address)
        return self._listener.bound

    def serve(
        self,
        path: str,
        answer: Answer,
        *,
        timeout: float = ANSWER_TIMEOUT,
        needs_client: bool = False,
    ) -> None:
        """Answer requests for `path` with `answer` from now on.

        The response takes at most `timeout` seconds. With `needs_client`, `answer` is cancelled if
        the client closes the connection, or its sending side, before.
        """
        self.routes[path] = Route(answer, timeout, needs_client)
        self._listener.start()

    async def close(self) -> None:
        """Stop serving. The last claim closes the socket, after the responses in progress."""
        await self._listener.release(self)


async def claim(address: str) -> Claim:
    """Open "host:port", or share its socket with other claims; `serve` starts to answer.

    The host is an IP address, a name of this machine, or empty for all addresses. Raise
    `BindError`.
    """
    wanted = await resolve(address)
    listeners = _listeners.setdefault(asyncio.get_running_loop(), {})
    listener = listeners.get(wanted)
    if listener is None:
        listener = listeners[wanted] = Listener(open_tcp(wanted), wanted, listeners)
    return listener.add()


async def claim_unix(path: str) -> Claim:
    """Open a socket of the Unix domain, or share it with other claims, as `claim` does.

    Only the user of this process may connect to it. Raise `BindError`.
    """
    wanted = UnixAddress(path)
    listeners = _listeners.setdefault(asyncio.get_running_loop(), {})
    listener = listeners.get(wanted)
    if listener is None:
        sock, own = open_unix(wanted)
        listener = listeners[wanted] = Listener(sock, wanted, listeners)
        listener.own_file = own
    return listener.add()


class Listener:
    """One listening socket and its connections."""

    def __init__(
        self,
        sock: socket.socket,
        wanted: Address | UnixAddress,
        listeners: dict[Address | UnixAddress, Listener],
    ) -> None:
        self.bound: Address | UnixAddress = wanted
        if isinstance(wanted, Address):
            self.bound = Address(wanted.host, sock.getsockname()[1])
        self.own_file = (0, 0)
        """Device and inode of the socket's file, if it has one."""
        self.connections: dict[HTTPConnection, None] = {}
        self.draining = False
        self.turns = Turns(REQUESTS_PER_TURN, 1)
        self._limit: ConnectionLimit[HTTPConnection] = ConnectionLimit(
            MAX_CONNECTIONS, MAX_CONNECTIONS
        )
        self._acceptor = Acceptor(sock, lambda: HTTPConnection(self), str(self.bound), LOG)
        self._wanted = wanted
        self._listeners = listeners
        self._claims: list[Claim] = []
        self._loop = asyncio.get_running_loop()

    def add(self) -> Claim:
        """Return a new claim."""
        claim = Claim(self)
        self._claims.append(claim)
        return claim

    def route(self, path: str) -> Route | None:
        """Return the newest route of requests for `path`, or None."""
        for claim in reversed(self._claims):
            if path in claim.routes:
                return claim.routes[path]
        return None

    def start(self) -> None:
        """Start accepting connections."""
        self._acceptor.start()

    def admit(self, added: HTTPConnection, peer: object) -> None:
        """Add `added`; above the limit, end a connection of the client that has the most.

        Even a busy connection is ended: a client that keeps all connections busy, or reads no
        responses, must not lock out health checks.
        """
        self.connections[added] = None
        if is_own(peer):
            return
        evicted = self._limit.take(client_of(peer), added)
        if evicted is not None:
            evicted.end()

    def forget(self, connection: HTTPConnection) -> None:
        """Remove a closed connection."""
        self.connections.pop(connection, None)
        self._limit.remove(connection)

    async def release(self, claim: Claim) -> None:
        """Remove `claim`, and close after the last one."""
        if claim in self._claims:
            self._claims.remove(claim)
            if not self._claims:
                await self._close()

    async def _close(self) -> None:
        self.draining = True
        del self._listeners[self._wanted]
        if isinstance(self._wanted, UnixAddress):
            remove(self._wanted, self.own_file)
        self._acceptor.stop()
        for connection in list(self.connections):
            connection.close_if_idle()
        deadline = self._loop.time() + CLOSE_TIMEOUT
        while self._loop.time() < deadline:
            if not self._acceptor.is_opening and not self.connections:
                return
            await asyncio.sleep(0.005)
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)
