"""Passes datagrams of other processes' connections to those processes.

Several processes may read one UDP socket, or sockets at one address: while a server is upgraded,
with *multisocket*, and when a client's address changes. Each listener binds an abstract Unix socket
with its number, which is part of its connection IDs (`corepy.net.quic.identifiers`). So a datagram
reaches its connection without a register of processes, and a listener that no longer exists refuses
it.

A message contains all datagrams of a batch, since the kernel limits the messages in a queue to few.
Messages of other users are dropped. A process of the same user could inject datagrams with any
source address, as one with CAP_NET_RAW can into the UDP socket; QUIC authenticates them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.net.quic.identifiers import new_owner
from corepy.net.sockets import SO_SNDBUFFORCE

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST: Final = 48 * 1024
"""Bytes of a message; by default the kernel keeps 208 KiB of a sender's messages in queues."""

BUFFER: Final = 2 * 1024 * 1024
"""Bytes of messages in queues, which the kernel grants to a process with CAP_NET_ADMIN."""

MOST_MESSAGES: Final = 8
"""Messages that are received at a time, so that the event loop may do other work."""

_PREFIX: Final = "\0corepy-quic-"
_LENGTHS: Final = struct.Struct("=HBBB")
_CREDENTIALS: Final = struct.Struct("=iII")
_ATTEMPTS: Final = 8


class Datagram(NamedTuple):
    """A received datagram."""

    data: bytes
    peer: bytes
    """The client's address as a raw sockaddr; a tuple where there are no batches."""

    local: bytes | None
    """The address that received it, likewise; None at a socket that is bound to one address."""

    client: bytes | None = None
    """The client's address if `peer` is a proxy that states it, likewise."""


class Relay:
    """One listener's end."""

    def __init__(self) -> None:
        """Bind a socket with a new number; raises OSError."""
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self.sock = socket.socket(socket.AF_UNIX, kind)
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
            self.owner = self._bind()
        except OSError:
            self.sock.close()
            raise
        self._waiting: dict[bytes, list[Datagram]] = {}

    def _bind(self) -> bytes:
        for attempt in range(_ATTEMPTS):
            owner = new_owner()
            try:
                self.sock.bind(_PREFIX + owner.hex())
            except OSError:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                break
        return owner

    def queue(self, owner: bytes, datagram: Datagram) -> bool:
        """Queue a datagram for the listener `owner`; return False if it cannot be passed on.

        Only raw addresses can.
        """
        if type(datagram.peer) is not bytes:
            return False
        self._waiting.setdefault(owner, []).append(datagram)
        return True

    def flush(self) -> list[Datagram]:
        """Send the queued datagrams; return those whose listener does not exist.

        Datagrams for a listener whose queue is full are dropped: clients repeat them.
        """
        orphaned: list[Datagram] = []
        for owner, datagrams in self._waiting.items():
            for message in _messages(datagrams):
                try:
                    self.sock.sendto(message, _PREFIX + owner.hex())
                except ConnectionRefusedError:
                    orphaned += datagrams
                    break
                except OSError:
                    break
        self._waiting.clear()
        return orphaned

    def receive(self) -> list[Datagram]:
        """Return the next datagrams that other listeners have passed on."""
        found: list[Datagram] = []
        for _ in range(MOST_MESSAGES):
            try:
                message, control, _, _ = self.sock.recvmsg(LARGEST, socket.CMSG_SPACE(12))
            except OSError:
                break
            if _is_ours(control):
                with contextlib.suppress(struct.error):
                    found += _datagrams(message)
        return found

    def close(self) -> None:
        """Close the socket; other listeners notice."""
        self.sock.close()


def _is_ours(control: list[tuple[int, int, bytes]]) -> bool:
    """Return whether a message was sent by a process of this user."""
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            uid: int = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[1]
            return uid == os.geteuid()
    return False


def _messages(datagrams: list[Datagram]) -> Iterator[bytes]:
    """Yield messages that contain all datagrams."""
    message = b""
    for data, peer, local, client in datagrams:
        parts = peer, local or b"", client or b"", data
        part = _LENGTHS.pack(len(data), *map(len, parts[:3])) + b"".join(parts)
        if len(message) + len(part) > LARGEST:
            yield message
            message = b""
        message += part
    yield message


def _datagrams(message: bytes) -> Iterator[Datagram]:
    """Yield the datagrams in a message; raise struct.error if it is cut off."""
    start = 0
    while start < len(message):
        size, *sizes = _LENGTHS.unpack_from(message, start)
        start += _LENGTHS.size
        parts = []
        for length in (*sizes, size):
            parts.append(message[start : start + length])
            start += length
        peer, local, client, data = parts
        if start > len(message) or not peer:
            raise struct.error("the message is cut off")
        yield Datagram(data, peer, local or None, client or None)
