"""Identifies clients by their addresses, and shares limited resources fairly between them.

A client may use as much as it likes while the resource is plentiful. When it becomes scarce, the
client that holds the most gives way, so a single client cannot lock out the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain, islice
from time import monotonic
from typing import Final, Generic, Protocol, TypeVar

_SOCKADDR_IN: Final = 16
"""Size of an IPv4 sockaddr in bytes; no other sockaddr has this size."""

_MAPPED: Final = b"\0" * 10 + b"\xff\xff"
_IPV4_SIZE: Final = 4

SAMPLE: Final = 64
"""Connections that are compared first when one of many has to be closed."""

GRACE: Final = 1.0
"""Seconds for which a connection counts as in use after it was opened or carried data."""


def client_of(address: object) -> bytes:
    """Return the identity of the client at a socket address, a tuple or a raw sockaddr.

    That is an IPv4 address, or the /64 of an IPv6 address, because a host can own a whole /64 (RFC
    4291 section 2.5.1). All link-local addresses share one /64, so these count in full. Other
    values, such as None for the server's own queries, give b"".
    """
    if type(address) is bytes:
        if len(address) == _SOCKADDR_IN:
            return address[4:8]
        return _from_ipv6(address[8:24])
    if type(address) is tuple and address and type(address[0]) is str:
        return _from_text(address[0])
    return b""


def client_number(address: object) -> int:
    """Return the client at a socket address as a number, as `Datagrams.clients` does.

    It is not negative for IPv4, and negative for IPv6, in the byte order of the machine: the first
    byte of the address is the lowest. All link-local addresses share one number. 0 for other
    values.
    """
    client = client_of(address)
    number = int.from_bytes(client[:8], "little")
    return number if len(client) <= _IPV4_SIZE else -number


def _from_ipv6(packed: bytes) -> bytes:
    if packed.startswith(_MAPPED):
        return packed[12:]
    if packed[:1] == b"\xfe" and packed[1:2] >= b"\x80":
        return packed
    return packed[:8]


@lru_cache(maxsize=1024)
def _from_text(host: str) -> bytes:
    try:
        packed = ip_address(host.partition("%")[0]).packed
    except ValueError:
        return b""
    return packed if len(packed) == 4 else _from_ipv6(packed)


GREED: Final = 3
"""A client may hold this many times the number of free places."""


class Shares:
    """Counts the places of a bounded resource that each client holds.

    A client may take one more while it holds less than `GREED` times the free places (the dynamic
    thresholds of A. K. Choudhury and E. L. Hahne, 1998, for switch buffers). A single greedy client
    thus gets three quarters, and two of them get three sevenths each. Some places always remain
    free for clients that hold few, and none are ever revoked.
    """

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: dict[bytes, int] = {}

    def take(self, client: bytes, free: int) -> bool:
        """Take a free place for `client`; return whether its share permits it.

        The server's own queries (b"") may take any free place.
        """
        if not self.permit(client, free):
            return False
        self.add(client)
        return True

    def permit(self, client: bytes, free: int) -> bool:
        """Return whether `take` would take one of the free places."""
        return self.held.get(client, 0) < GREED * free or (not client and free > 0)

    def add(self, client: bytes) -> None:
        """Take a place for `client` even beyond its share."""
        self.held[client] = self.held.get(client, 0) + 1

    def give_back(self, client: bytes) -> None:
        """Release one place of `client`."""
        held = self.held
        mine = held[client] - 1
        if mine:
            held[client] = mine
        else:
            del held[client]


class LimitedConnection(Protocol):
    """The attributes of a connection that `ConnectionLimit` needs."""

    @property
    def last_activity(self) -> float:
        """Monotonic time in seconds when the connection was opened or last carried data."""

    @property
    def is_idle(self) -> bool:
        """Whether no request of the connection is in progress."""


Limited = TypeVar("Limited", bound=LimitedConnection)


class ConnectionLimit(Generic[Limited]):
    """The connections of one listener, limited in total and per client."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._taken: dict[bytes, dict[Limited, None]] = {}
        self._clients: dict[Limited, bytes] = {}

    def resize(self, most: int, most_of_one: int) -> None:
        """Use other limits for the connections that are added from now on."""
        self._most = most
        self._most_of_one = most_of_one

    def take(self, client: bytes, added: Limited) -> Limited | None:
        """Add `added`; return the connection that must be closed for it, if any.

        A client at its own limit loses one of its connections. At the total limit, the client with
        the most connections loses one. That is the newcomer's client unless another one has more
        than it would have.
        """
        own = self._taken.get(client)
        evicted: Limited | None = None
        if own is not None and len(own) >= self._most_of_one:
            evicted = _least_used(own)
        elif len(self._clients) >= self._most:
            most = max(map(len, self._taken.values()))
            if own is not None and len(own) + 1 >= most:
                evicted = _least_used(own)
            else:
                full = (
                    connections for connections in self._taken.values() if len(connections) == most
                )
                evicted = _least_used(
                    connection for connections in full for connection in connections
                )
        if evicted is not None:
            self.remove(evicted)
        self._taken.setdefault(client, {})[added] = None
        self._clients[added] = client
        return evicted

    def remove(self, connection: Limited) -> None:
        """Remove a connection; do nothing if it is not there."""
        client = self._clients.pop(connection, None)
        if client is not None:
            connections = self._taken[client]
            del connections[connection]
            if not connections:
                del self._taken[client]


def _least_used(connections: Iterable[Limited]) -> Limited:
    """Return the connection that has been idle longest or, if all are busy, busy longest.

    A connection opened within `GRACE` is not idle: its first query is on the way. If one of the
    `SAMPLE` oldest connections is idle, only these are compared, so that a client at its limit
    cannot make each of its further connections expensive.
    """
    limit = monotonic() - GRACE

    def rank(connection: Limited) -> tuple[bool, float]:
        return not (
            connection.is_idle and connection.last_activity < limit
        ), connection.last_activity

    left = iter(connections)
    found = min(islice(left, SAMPLE), key=rank)
    is_busy, _ = rank(found)
    return min(chain((found,), left), key=rank) if is_busy else found
