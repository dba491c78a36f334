"""Inherited listening sockets, and the manager that keeps them for the next process.

The protocols are those of systemd (sd_listen_fds(3), sd_notify(3), and its file descriptor store),
so the same process runs under systemd and under `corepy -supervise`. LISTEN_FDS, LISTEN_PID and
LISTEN_FDNAMES describe the inherited sockets. NOTIFY_SOCKET is the address for status messages and
for storing new sockets. WATCHDOG_USEC is the interval for keep-alive messages.

A socket that the manager keeps must not be shut down when this process stops, because the next
process continues with its queue. If there will be no next process, the manager is asked to drop it.
A socket that the manager has lent (from a systemd socket unit) is never shut down.

The name of a kept socket identifies it to the next process, and shows whether the socket carries
plain DNS: a supervisor reads the queries of plain DNS, not those of other transports.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.net.sockets import WILDCARDS, Address, address_of

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

FIRST_FD: Final = 3
PATIENCE: Final = 2.0
"""Seconds to wait for the manager to take a message."""

SHORTEST_WATCHDOG: Final = 0.1
"""Minimum watchdog interval in seconds; a shorter one would cost more CPU than the server."""

ALIVE: Final = "X_COREPY_ALIVE=1"
"""Sent periodically: the event loop runs, whether or not queries are answered."""

PLAIN: Final = "dns"
"""The scheme of plain DNS; names of its sockets do not contain it."""

STATE: Final = "corepy-state"
"""The name of a file in the manager's store: a snapshot of the state, for the next process."""

_NAMES: Final = {socket.SOCK_DGRAM: "udp", socket.SOCK_STREAM: "tcp"}


class Key(NamedTuple):
    """Identifies a listening socket."""

    protocol: str
    """"udp" or "tcp"."""

    address: Address
    """That of the socket (`corepy.net.sockets.bound`)."""

    shard: int = 0
    """Index from 0; above 0 only with several sockets per address (*multisocket*)."""

    scheme: str = PLAIN
    """The transport that uses the socket, such as "tls"."""

    @property
    def name(self) -> str:
        """The name of the socket in the manager's store, which must not contain colons."""
        scheme = "" if self.scheme == PLAIN else f"{self.scheme}-"
        shard = f"-{self.shard}" if self.shard else ""
        host = self.address.host.replace(":", "_") or "any"
        return f"{scheme}{self.protocol}-{host}-{self.address.port}{shard}"


class Inherited(NamedTuple):
    """A socket that this process inherited."""

    sock: socket.socket
    lent: bool
    """Whether the socket belongs to the manager, unlike those we gave it to keep."""


Sockets = dict[Key, Inherited]


def take(environment: MutableMapping[str, str] | None = None) -> Sockets:
    """Return the inherited listening IP sockets, and remove their environment variables.

    Other sockets are closed. The result is empty if none were passed, or not to this process
    (LISTEN_PID).
    """
    env = os.environ if environment is None else environment
    found: Sockets = {}
    for fd, name in _passed(env):
        with contextlib.suppress(OSError):
            os.set_inheritable(fd, False)
            if name != STATE:
                _adopt(socket.socket(fileno=fd), name, found)
    for variable in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        env.pop(variable, None)
    return found


def take_state(environment: MutableMapping[str, str] | None = None) -> int | None:
    """Return the descriptor of the inherited snapshot, None if none was passed.

    To be called before `take`, which removes the environment variables.
    """
    env = os.environ if environment is None else environment
    return next((fd for fd, name in _passed(env) if name == STATE), None)


def _passed(env: MutableMapping[str, str]) -> list[tuple[int, str]]:
    """Return the descriptors passed to this process, with their names."""
    count, names = env.get("LISTEN_FDS", ""), env.get("LISTEN_FDNAMES", "").split(":")
    if not count.isdigit() or env.get("LISTEN_PID") != str(os.getpid()):
        return []
    fds = range(FIRST_FD, FIRST_FD + int(count))
    return [(fd, names[at] if at < len(names) else "") for at, fd in enumerate(fds)]


def _adopt(sock: socket.socket, name: str, found: Sockets) -> None:
    protocol = _NAMES.get(sock.type)
    if protocol is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        sock.close()
        return
    sock.setblocking(False)
    key = _named(Key(protocol, address_of(sock)), name)
    if key in found:
        sock.close()
    else:
        found[key] = Inherited(sock, lent=name != key.name)


def _named(key: Key, name: str) -> Key:
    """Return `key` with the scheme and the shard in `name`, or unchanged if it is not our name."""
    scheme, _, shard = name.partition(key.name)
    number = shard.removeprefix("-")
    named = key._replace(
        scheme=scheme.removesuffix("-") or PLAIN,
        shard=int(number) if number.isascii() and number.isdigit() else 0,
    )
    return named if named.name == name else key


def claim(key: Key, sockets: Sockets) -> Inherited | None:
    """Remove the socket with this `key` from `sockets` and return it; None if there is none.

    The name of a lent socket does not contain a scheme, so it fits every transport. A manager that
    lends a socket for all addresses of one family wants a server for all addresses to use it.
    """
    if key in sockets:
        return sockets.pop(key)
    hosts = (key.address.host,) if key.address.host else WILDCARDS
    for host in hosts:
        plain = key._replace(scheme=PLAIN, address=Address(host, key.address.port))
        if plain in sockets and sockets[plain].lent:
            return sockets.pop(plain)
    return None


def is_plain(name: str) -> bool:
    """Return whether a kept socket of this name is one of plain DNS."""
    return name.startswith(tuple(f"{protocol}-" for protocol in _NAMES.values()))


class Manager:
    """The service manager that started this process; does nothing without one."""

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        """Read NOTIFY_SOCKET and WATCHDOG_USEC, and remove them for child processes."""
        env = os.environ if environment is None else environment
        self._path = env.pop("NOTIFY_SOCKET", "")
        interval, pid = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        self._is_held_up = False
        announced = int(interval) / 1e6 if interval.isdigit() and mine and self._path else 0.0
        self.watchdog = max(announced, SHORTEST_WATCHDOG) if announced else 0.0
        """The manager's watchdog interval in seconds; 0 if it has none."""

    @property
    def keeps_sockets(self) -> bool:
        """Whether the manager can keep sockets."""
        return bool(self._path)

    @property
    def is_there(self) -> bool:
        """Whether the manager still receives messages; a supervisor may have been killed."""
        if not self._path:
            return False
        with self._sender() as sender:
            return self._connects(sender)

    def dismiss(self) -> None:
        """Send no more messages or sockets."""
        self._path = ""

    def tell(self, *states: str) -> None:
        """Send states such as "READY=1" or "WATCHDOG=1"."""
        self._send("\n".join(states), [])

    def tell_without_waiting(self, *states: str) -> None:
        """Send states that will be repeated soon, without waiting for the manager."""
        self._send("\n".join(states), [], waiting=False)

    def keep(self, socks: Iterable[socket.socket], shard: int = 0, scheme: str = PLAIN) -> None:
        """Store sockets in the manager, which passes them to the next process."""
        for sock in socks:
            # Without FDPOLL=0, a pending socket error (ICMP) would remove the socket from the
            # store.
            name = key_of(sock, shard, scheme).name
            self._send(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", [sock.fileno()])

    def release(self, socks: Iterable[socket.socket], shard: int = 0, scheme: str = PLAIN) -> None:
        """Remove sockets from the manager's store."""
        for sock in socks:
            name = key_of(sock, shard, scheme).name
            self._send(f"FDSTOREREMOVE=1\nFDNAME={name}", [])

    def keep_state(self, fd: int) -> bool:
        """Store a snapshot of the state, in place of an earlier one, without waiting.

        Return whether the manager does not keep an earlier one any more.
        """
        # systemd would keep several files of this name.
        is_removed = self.release_state()
        message = f"FDSTORE=1\nFDPOLL=0\nFDNAME={STATE}"
        return self._send(message, [fd], waiting=False) and is_removed

    def release_state(self) -> bool:
        """Remove the snapshot from the manager's store, without waiting.

        Return whether the manager does not keep it any more: one that is stopped does.
        """
        return self._send(f"FDSTOREREMOVE=1\nFDNAME={STATE}", [], waiting=False)

    def _send(self, message: str, fds: list[int], *, waiting: bool = True) -> bool:
        """Send a message, waiting for the manager for at most `PATIENCE` seconds.

        After a timeout, do not wait again until a message gets through: the manager may be stopped,
        which must not block this process. Return False if a manager exists that did not get it.
        """
        if not self._path:
            return True
        with self._sender() as sender:
            if not self._connects(sender):
                return True
            sender.settimeout(PATIENCE if waiting and not self._is_held_up else 0.0)
            try:
                socket.send_fds(sender, [message.encode()], fds)
            except (TimeoutError, BlockingIOError):
                self._is_held_up = self._is_held_up or waiting
                return False
            except OSError:
                return False
        self._is_held_up = False
        return True

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


def key_of(sock: socket.socket, shard: int = 0, scheme: str = PLAIN) -> Key:
    """Return the key of a socket; `shard` and `scheme` are not part of the socket itself."""
    return Key(_NAMES[sock.type], address_of(sock), shard, scheme)
