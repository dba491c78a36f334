"""Questions that this process asks itself over TCP, which must not compete with its clients.

A listener that is full closes the connection of whoever has most. The server's own questions, by
which it finds out whether it answers at all, come from the same addresses as those of clients on
this machine, so they are known by their port.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

_open: set[tuple[str, int]] = set()


@contextmanager
def connected(sock: socket.socket, address: tuple[str | int, ...]) -> Iterator[None]:
    """Begin to connect `sock`, which does not block, to an address of this process; raises OSError.

    The connection is known to be this process's own before a listener can accept it, and until the
    end of the context. What is sent waits until it is established.
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


def is_own(peer: object) -> bool:
    """Return whether a connection from `peer`, a tuple, was opened with `connected`."""
    if not isinstance(peer, tuple) or not _open:
        return False
    host, port = peer[:2]
    return (host.removeprefix("::ffff:"), port) in _open
