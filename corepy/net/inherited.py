"""Listening sockets that this process was started with, and a manager that keeps them for the next
one.

The protocols are systemd's (sd_listen_fds(3), sd_notify(3), and its file descriptor store), so the
same process runs under systemd and under `corepy -supervise`: LISTEN_FDS, LISTEN_PID and
LISTEN_FDNAMES say what is inherited, NOTIFY_SOCKET where to tell how we are and to hand new sockets
over, WATCHDOG_USEC how often to say that we are alive.

A socket that the manager keeps must not be shut down when this process stops: the next one goes on
with its queue. When there will be no next one, the manager is told to keep it no longer. A socket
that the manager has lent (one of a systemd socket unit) is never shut down.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.net.sockets import Address

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

FIRST_FD: Final = 3
PATIENCE: Final = 2.0
"""Seconds that a manager gets to take what it is told."""

SHORTEST_WATCHDOG: Final = 0.1
"""Seconds; a shorter watchdog would cost more than the server that it watches."""

ALIVE: Final = "X_COREPY_ALIVE=1"
"""Told again and again: the event loop turns, whether or not queries get through to it."""

_NAMES: Final = {socket.SOCK_DGRAM: "udp", socket.SOCK_STREAM: "tcp"}


class Key(NamedTuple):
    """Which of the listening sockets: those of one address are told apart by their place."""

    protocol: str
    """"udp" or "tcp"."""

    address: Address
    """The wildcard address is ""."""

    place: int = 0
    """Counted from 0; more than one where *multisocket* asks for it."""

    @property
    def name(self) -> str:
        """The name under which a manager keeps the socket; colons are not allowed in it."""
        host = self.address.host.replace(":", "_") or "any"
        name = f"{self.protocol}-{host}-{self.address.port}"
        return f"{name}-{self.place}" if self.place else name


class Inherited(NamedTuple):
    """A socket that this process was started with."""

    sock: socket.socket
    lent: bool
    """Whether it is not from the sockets that we gave away to be kept, but the manager's own."""


Sockets = dict[Key, Inherited]


def take(environment: MutableMapping[str, str] | None = None) -> Sockets:
    """Return the listening IP sockets that were inherited, and forget that there were any.

    Others are closed. Empty when nothing was passed, or not to this process (LISTEN_PID).
    """
    env = os.environ if environment is None else environment
    count, pid = env.pop("LISTEN_FDS", ""), env.pop("LISTEN_PID", "")
    names = env.pop("LISTEN_FDNAMES", "").split(":")
    if not count.isdigit() or pid != str(os.getpid()):
        return {}
    found: Sockets = {}
    for place, fd in enumerate(range(FIRST_FD, FIRST_FD + int(count))):
        with contextlib.suppress(OSError):
            os.set_inheritable(fd, False)
            _adopt(socket.socket(fileno=fd), names[place] if place < len(names) else "", found)
    return found


def _adopt(sock: socket.socket, name: str, found: Sockets) -> None:
    protocol = _NAMES.get(sock.type)
    if protocol is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        sock.close()
        return
    sock.setblocking(False)
    key = Key(protocol, address_of(sock))
    place = name.removeprefix(f"{key.name}-")
    if place != name and place.isascii() and place.isdigit():
        key = key._replace(place=int(place))
    if key in found:
        sock.close()
    else:
        found[key] = Inherited(sock, lent=name != key.name)


def address_of(sock: socket.socket) -> Address:
    """Return where a socket listens; all of a machine's addresses are "" as in `Address`."""
    host, port, *scope = sock.getsockname()
    if scope and scope[1] and "%" not in host:
        host = f"{host}%{socket.if_indextoname(scope[1])}"
    return Address("" if host in ("::", "0.0.0.0") else host, port)


class Manager:
    """Whoever started this process and wants to hear from it; says nothing if nobody does."""

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        """Take NOTIFY_SOCKET and WATCHDOG_USEC out of the environment, so that children do not see
        them.
        """
        env = os.environ if environment is None else environment
        self._path = env.pop("NOTIFY_SOCKET", "")
        interval, pid = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        self._is_held_up = False
        told = int(interval) / 1e6 if interval.isdigit() and mine and self._path else 0.0
        self.watchdog = max(told, SHORTEST_WATCHDOG) if told else 0.0
        """Seconds within which the manager wants to hear that we are alive; 0 if it does not."""

    @property
    def keeps_sockets(self) -> bool:
        """Whether sockets can be handed over."""
        return bool(self._path)

    @property
    def is_there(self) -> bool:
        """Whether the manager still receives messages: a supervisor may have been killed."""
        if not self._path:
            return False
        with self._sender() as sender:
            return self._connects(sender)

    def dismiss(self) -> None:
        """Say nothing any more, and give it nothing to keep."""
        self._path = ""

    def tell(self, *states: str) -> None:
        """Send states such as "READY=1" or "WATCHDOG=1"."""
        self._send("\n".join(states), [])

    def tell_if_it_listens(self, *states: str) -> None:
        """Send states that are repeated soon, without waiting for the manager."""
        self._send("\n".join(states), [], waiting=False)

    def keep(self, socks: Iterable[socket.socket], place: int = 0) -> None:
        """Hand sockets over, to be passed to the next process."""
        for sock in socks:
            # Without FDPOLL=0 an error that waits in the socket (ICMP) would end its being kept.
            name = key_of(sock, place).name
            self._send(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", [sock.fileno()])

    def release(self, socks: Iterable[socket.socket], place: int = 0) -> None:
        """Say that sockets need not be kept any longer."""
        for sock in socks:
            self._send(f"FDSTOREREMOVE=1\nFDNAME={key_of(sock, place).name}", [])

    def _send(self, message: str, fds: list[int], *, waiting: bool = True) -> None:
        """Send what the manager can take within `PATIENCE`; one that has exceeded it is not waited
        for until it reads again. It may be stopped, and this process must not be with it.
        """
        if not self._path:
            return
        with self._sender() as sender:
            if not self._connects(sender):
                return
            sender.settimeout(PATIENCE if waiting and not self._is_held_up else 0.0)
            try:
                socket.send_fds(sender, [message.encode()], fds)
            except (TimeoutError, BlockingIOError):
                self._is_held_up = self._is_held_up or waiting
            except OSError:
                return
            else:
                self._is_held_up = False

    @staticmethod
    def _sender() -> socket.socket:
        return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def _connects(self, sender: socket.socket) -> bool:
        path = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        try:
            sender.connect(path)
        except OSError:
            return False
        return True


def key_of(sock: socket.socket, place: int = 0) -> Key:
    """Return which socket this is; its place is not to be seen from it."""
    return Key(_NAMES[sock.type], address_of(sock), place)
