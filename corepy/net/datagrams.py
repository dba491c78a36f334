"""Chooses the I/O for datagrams: batches where the platform supports them, else one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from corepy.net import batch

if TYPE_CHECKING:
    from socket import socket


class Datagrams(Protocol):
    """The interface of `Batch` and `PlainBatch`; addresses are opaque to the caller."""

    def receive(self, sock: socket) -> int:
        """Receive a batch; return its size."""

    def release(self, count: int) -> None:
        """Release the first `count` slots of the batch."""

    def keys(self, count: int) -> list[bytes]:
        """Return the datagrams of the batch without their first two bytes."""

    def answer_all(self, bodies: list[bytes], sock: socket) -> int:
        """Send replies to the first datagrams of the batch, with bodies given as iovecs."""

    def payloads(self, count: int) -> list[bytes]:
        """Return the datagrams of the batch."""

    def addresses(self, count: int) -> list[Any]:
        """Return the senders' addresses."""

    def clients(self, count: int) -> list[int]:
        """Return the senders as numbers (`corepy.net.connection_limit.client_number`)."""

    def payload(self, slot: int) -> bytes:
        """Return the datagram in `slot`."""

    def address(self, slot: int) -> Any:
        """Return the sender's address in `slot`."""

    def local(self, slot: int, port: bytes) -> Any:
        """Return the local address of the datagram in `slot`; None without packet information."""

    def reply(self, slot: int, data: bytes, sock: socket) -> None:
        """Queue a reply to a datagram of the current batch."""

    def queue(self, data: bytes, address: Any, local: Any, sock: socket) -> None:
        """Queue a datagram to `address`, from `local` if it is not None."""

    def flush(self, sock: socket) -> int:
        """Send the queued datagrams; return the number that were lost."""


def open_batch() -> Datagrams:
    """Return the fastest implementation for this platform."""
    if batch.supported():
        return batch.Batch()
    from corepy.net.plain import PlainBatch

    return PlainBatch()
