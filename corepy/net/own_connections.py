"""Marks this process's own TCP connections to itself, which must not compete with clients.

A full listener closes a connection of the client that has the most. The server's own health queries
come from the same addresses as those of clients on this machine, so they are recognized by their
port.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_open: set[tuple[str, int]] = set()


@contextmanager
def connected(sock: socket.socket, address: tuple[str | int, ...]) -> Iterator[None]:
    """Begin to connect the non-blocking `sock` to an address of this process; raise OSError.

    The connection is marked as this process's own before a listener can accept it, until the
    context ends. Data sent before the connection is established is queued.
    """
    error = sock.connect_ex(address)
    if error not in (0, errno.EINPROGRESS):
        raise OSError(error, os.strerror(error))
    name = sock.getsockname()[:2]
    _open.add(name)
    try:
        yield
    finally:
        _open.discard(name)


@contextmanager
def own_connection(
    address: tuple[str | int, ...], kind: socket.SocketKind
) -> Iterator[socket.socket]:
    """Begin to connect a new non-blocking socket of `kind`, as `connected` does; raise OSError."""
    family = socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with sock, connected(sock, address):
        yield sock


def may_be_own() -> bool:
    """Return whether any connection is open that was opened with `connected`."""
    return bool(_open)


def is_own(peer: object) -> bool:
    """Return whether a connection from `peer`, a tuple, was opened with `connected`."""
    if not isinstance(peer, tuple) or not _open:
        return False
    host, port = peer[:2]
    return (host.removeprefix("::ffff:"), port) in _open
