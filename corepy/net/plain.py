"""The interface of `corepy.net.batch.Batch` over ordinary socket calls, for platforms without
recvmmsg and sendmmsg.
"""

from __future__ import annotations

import socket
from typing import Any

from corepy.net.batch import CONTROL_SIZE, RECEIVE_SIZE, SLOTS, without_interface

PeerAddress = tuple[Any, ...]
Control = list[tuple[int, int, bytes]]


class PlainBatch:
    """One system call a datagram; otherwise as `Batch`."""

    def __init__(self) -> None:
        self._received: list[tuple[bytes, Control, PeerAddress]] = []
        self._waiting: list[tuple[bytes, Control, PeerAddress]] = []

    def receive(self, sock: socket.socket) -> int:
        """Receive what waits in `sock`, up to `SLOTS` datagrams, and return how many."""
        self._received.clear()
        while len(self._received) < SLOTS:
            try:
                data, control, _, peer = sock.recvmsg(RECEIVE_SIZE, CONTROL_SIZE)
            except OSError:
                break
            self._received.append((data, [item for item in control if item], peer))
        return len(self._received)

    def release(self, count: int) -> None:
        """Forget the batch."""
        del self._received[:count]

    def payload(self, slot: int) -> bytes:
        """Return the datagram in `slot`."""
        return self._received[slot][0]

    def address(self, slot: int) -> PeerAddress:
        """Return the sender's address in `slot`."""
        return self._received[slot][2]

    def control(self, slot: int) -> Control:
        """Return the packet information in `slot`, fit to be sent back."""
        return [
            (level, kind, _clear_interface(level, kind, data))
            for level, kind, data in self._received[slot][1]
        ]

    def reply(self, slot: int, data: bytes, sock: socket.socket) -> None:
        """Queue `data` as the reply to the datagram in `slot`."""
        self.queue(data, self.address(slot), self.control(slot), sock)

    def queue(
        self, data: bytes, address: PeerAddress, control: Control, sock: socket.socket
    ) -> None:
        """Queue a datagram to `address`."""
        self._waiting.append((data, control, address))

    def flush(self, sock: socket.socket) -> int:
        """Send all queued datagrams; return how many could not be sent."""
        lost = 0
        for data, control, address in self._waiting:
            try:
                sock.sendmsg([data], control, 0, address)
            except OSError:
                lost += 1
        self._waiting.clear()
        return lost


def _clear_interface(level: int, kind: int, data: bytes) -> bytes:
    header = (
        (16 + len(data)).to_bytes(8, "little")
        + level.to_bytes(4, "little")
        + kind.to_bytes(4, "little")
    )
    return without_interface(header + data)[16:]
