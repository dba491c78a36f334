"""The interface of `corepy.net.batch.Batch` over ordinary socket calls.

For platforms without recvmmsg and sendmmsg.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Any, Final

from corepy.net.batch import CONTROL_SIZE, RECEIVE_SIZE, SLOTS
from corepy.net.connection_limit import client_number
from corepy.net.packetinfo import control_for, local_address

_HEADER: Final = struct.Struct("=Qii")
_IOVEC: Final = struct.Struct("=QQ")
PeerAddress = tuple[Any, ...]
Control = list[tuple[int, int, bytes]]


class PlainBatch:
    """Like `Batch`, with one system call per datagram."""

    def __init__(self) -> None:
        self._received: list[tuple[bytes, Control, PeerAddress]] = []
        self._waiting: list[tuple[bytes, Control, PeerAddress]] = []

    def receive(self, sock: socket.socket) -> int:
        """Receive up to `SLOTS` pending datagrams from `sock`, and return their number."""
        self._received.clear()
        while len(self._received) < SLOTS:
            try:
                data, control, _, peer = sock.recvmsg(RECEIVE_SIZE, CONTROL_SIZE)
            except OSError:
                break
            self._received.append((data, [item for item in control if item], peer))
        return len(self._received)

    def release(self, count: int) -> None:
        """Drop the first `count` datagrams."""
        del self._received[:count]

    def keys(self, count: int) -> list[bytes]:
        """Return the first `count` datagrams without their first two bytes."""
        return [data[2:] for data, _, _ in self._received[:count]]

    def payloads(self, count: int) -> list[bytes]:
        """Return the first `count` datagrams."""
        return [data for data, _, _ in self._received[:count]]

    def addresses(self, count: int) -> list[PeerAddress]:
        """Return the addresses of the first `count` senders."""
        return [peer for _, _, peer in self._received[:count]]

    def clients(self, count: int) -> list[int]:
        """Return the first `count` senders as numbers."""
        return [client_number(peer) for _, _, peer in self._received[:count]]

    def payload(self, slot: int) -> bytes:
        """Return the datagram in `slot`."""
        return self._received[slot][0]

    def address(self, slot: int) -> PeerAddress:
        """Return the sender's address in `slot`."""
        return self._received[slot][2]

    def local(self, slot: int, port: bytes) -> bytes | None:
        """Return the local address of the datagram in `slot`; None without packet information."""
        for level, kind, data in self._received[slot][1]:
            return local_address(_HEADER.pack(16 + len(data), level, kind) + data, port)
        return None

    def reply(self, slot: int, data: bytes, sock: socket.socket) -> None:
        """Queue `data` as the reply to the datagram in `slot`."""
        self.queue(data, self.address(slot), self.local(slot, b"\0\0"), sock)

    def answer_all(self, bodies: list[bytes], sock: socket.socket) -> int:
        """Answer the first datagrams, each with its own first two bytes and a body."""
        for slot, iovec in enumerate(bodies):
            ident = self._received[slot][0][:2]
            self.reply(slot, ident + ctypes.string_at(*_IOVEC.unpack(iovec)), sock)
        return self.flush(sock)

    def queue(
        self, data: bytes, address: PeerAddress, local: bytes | None, sock: socket.socket
    ) -> None:
        """Queue a datagram to `address`, from `local` if given."""
        self._waiting.append((data, _unpacked(local), address))

    def flush(self, sock: socket.socket) -> int:
        """Send all queued datagrams; return the number that could not be sent."""
        lost = 0
        for data, control, address in self._waiting:
            try:
                sock.sendmsg([data], control, 0, address)
            except (OSError, TypeError, ValueError, OverflowError):  # the last three: a bad address
                lost += 1
        self._waiting.clear()
        return lost


def _unpacked(local: bytes | None) -> Control:
    if local is None:
        return []
    control = control_for(local)
    length, level, kind = _HEADER.unpack_from(control)
    return [(level, kind, control[_HEADER.size : length])]
