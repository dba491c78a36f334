"""Choosing how datagrams travel: in batches where the platform can, one by one elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from corepy.net import batch

if TYPE_CHECKING:
    from socket import socket


class Datagrams(Protocol):
    """What `Batch` and `PlainBatch` share. Addresses are opaque: give back what
    you were given.
    """

    def receive(self, sock: socket) -> int:
        """Receive a batch; return its size."""

    def release(self, count: int) -> None:
        """Give the slots of the batch back."""

    def keys(self, count: int) -> list[bytes]:
        """Return the datagrams of the batch without their first two bytes."""

    def answer_all(self, bodies: list[bytes], sock: socket) -> int:
        """Answer the first datagrams of the batch with bodies that lie in memory, and send."""

    def payloads(self, count: int) -> list[bytes]:
        """Return the datagrams of the batch."""

    def addresses(self, count: int) -> list[Any]:
        """Return where they came from."""

    def payload(self, slot: int) -> bytes:
        """Return a received datagram."""

    def address(self, slot: int) -> Any:
        """Return where it came from."""

    def local(self, slot: int, port: bytes) -> Any:
        """Return the local address it came to, None unless the socket asks for packet
        information.
        """

    def reply(self, slot: int, data: bytes, sock: socket) -> None:
        """Queue a reply to a datagram of the current batch."""

    def queue(self, data: bytes, address: Any, local: Any, sock: socket) -> None:
        """Queue a datagram to `address`, from `local` if it is not None."""

    def flush(self, sock: socket) -> int:
        """Send what is queued; return how many were lost."""


def open_batch() -> Datagrams:
    """Return the fastest way this platform has."""
    if batch.supported():
        return batch.Batch()
    from corepy.net.plain import PlainBatch

    return PlainBatch()
