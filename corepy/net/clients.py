"""Telling clients apart by their addresses, and sharing what is scarce between them.

One client may ask as much as it likes as long as nobody else needs the room. When room gets scarce
the one that holds most gives way, so a single client cannot keep out the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, Generic, Protocol, TypeVar

_SOCKADDR_IN: Final = 16
"""Bytes of an IPv4 sockaddr, no other of which is as long."""

_MAPPED: Final = b"\0" * 10 + b"\xff\xff"

GRACE: Final = 1.0
"""Seconds for which a connection counts as in use after it was opened or carried something."""


def client_of(address: object) -> bytes:
    """Return what identifies the client behind a socket address, a tuple or a raw sockaddr.

    That is an IPv4 address, or the /64 of an IPv6 address, since a host can have all of one (RFC
    4291 section 2.5.1). Link-local addresses share one /64, so they count whole. Anything else,
    such as None for the server's own questions, gives b"".
    """
    if type(address) is bytes:
        if len(address) == _SOCKADDR_IN:
            return address[4:8]
        return _from_ipv6(address[8:24])
    if type(address) is tuple and address and type(address[0]) is str:
        return _from_text(address[0])
    return b""


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
"""A client may hold so many times what is left free."""


class Shares:
    """How many places of a bounded room each client holds.

    A client may take one more while it holds less than `GREED` times what is free (the dynamic
    thresholds of A. K. Choudhury and E. L. Hahne, 1998, for buffers in switches). So one that wants
    all gets three quarters and two such get three sevenths each; some places are always free for
    those who hold few, and nobody has to be thrown out for them.
    """

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: dict[bytes, int] = {}

    def take(self, client: bytes, free: int) -> bool:
        """Take a place for `client` if it may have one of those that are free.

        The server's own questions (b"") may have any.
        """
        held = self.held
        mine = held.get(client, 0)
        if mine >= GREED * free and (client or free <= 0):
            return False
        held[client] = mine + 1
        return True

    def give_back(self, client: bytes) -> None:
        """Take account of a place that `client` has left."""
        held = self.held
        mine = held[client] - 1
        if mine:
            held[client] = mine
        else:
            del held[client]


class Connection(Protocol):
    """What `Seats` needs to know of a connection."""

    last_activity: float
    """Monotonic seconds of when it was opened, or last carried something."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being done for it."""


Seat = TypeVar("Seat", bound=Connection)


class Seats(Generic[Seat]):
    """The connections of one listener, which may have so many, and so many of one client."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._taken: dict[bytes, dict[Seat, None]] = {}
        self._clients: dict[Seat, bytes] = {}

    def take(self, client: bytes, newcomer: Seat) -> Seat | None:
        """Give `newcomer` a seat; return the connection that has to leave for it, if one has to.

        A client that has as many as one may have gives up one of its own. When all seats are taken
        the client that has most gives up one; it is the newcomer's if no other has more than it
        would have then.
        """
        own = self._taken.get(client)
        leaver: Seat | None = None
        if own is not None and len(own) >= self._most_of_one:
            leaver = _least_used(own)
        elif len(self._clients) >= self._most:
            most = max(map(len, self._taken.values()))
            if own is not None and len(own) + 1 >= most:
                leaver = _least_used(own)
            else:
                full = (seats for seats in self._taken.values() if len(seats) == most)
                leaver = _least_used(seat for seats in full for seat in seats)
        if leaver is not None:
            self.leave(leaver)
        self._taken.setdefault(client, {})[newcomer] = None
        self._clients[newcomer] = client
        return leaver

    def leave(self, seat: Seat) -> None:
        """Free a seat; nothing happens if it has none."""
        client = self._clients.pop(seat, None)
        if client is not None:
            seats = self._taken[client]
            del seats[seat]
            if not seats:
                del self._taken[client]


def _least_used(seats: Iterable[Seat]) -> Seat:
    """Return the connection that has been idle longest; without one the one that is busy longest.

    One that was opened a moment ago is not idle: its question is on the way.
    """
    limit = time.monotonic() - GRACE

    def rank(seat: Seat) -> tuple[bool, float]:
        return not (seat.is_idle and seat.last_activity < limit), seat.last_activity

    return min(seats, key=rank)
