"""`ProxiedBatch`: the datagrams of a socket with a `ProxyPolicy`, without their PROXY headers.

It has the interface of `corepy.net.datagrams.Datagrams`, so a listener serves both kinds of sockets
with the same code, and one without a policy pays nothing. The keys for the packet cache have no
header. Addresses are those of the clients; replies go to the senders.
"""

from __future__ import annotations

import ctypes
import struct
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.net.connection_limit import client_number

if TYPE_CHECKING:
    from socket import socket

    from corepy.net.datagrams import Datagrams
    from corepy.server.listen.proxied_datagrams import ProxiedDatagrams

DROPPED_BATCHES: Final = 16
"""Batches of nothing but dropped datagrams that are received before the event loop goes on."""

_unpack_iov: Final = struct.Struct("=QQ").unpack


class _Datagram(NamedTuple):
    slot: int
    payload: bytes
    peer: Any
    client: Any


class ProxiedBatch:
    """A batch of datagrams whose headers are removed."""

    def __init__(self, batch: Datagrams, proxied: ProxiedDatagrams) -> None:
        """Receive and send with `batch`."""
        self._batch = batch
        self._proxied = proxied
        self._count = 0
        self._found: list[_Datagram] = []

    def receive(self, sock: socket) -> int:
        """Receive a batch, and return the number of datagrams that are not dropped."""
        for _ in range(DROPPED_BATCHES):
            self._count = self._batch.receive(sock)
            if not self._count:
                break
            self._found = self._strip_all(monotonic())
            if self._found:
                return len(self._found)
            self._batch.release(self._count)
        return 0

    def _strip_all(self, now: float) -> list[_Datagram]:
        found = []
        peers = self._batch.addresses(self._count)
        for slot, payload in enumerate(self._batch.payloads(self._count)):
            stripped = self._proxied.strip(payload, peers[slot], now)
            if stripped is not None:
                found.append(_Datagram(slot, stripped[0], peers[slot], stripped[1]))
        return found

    def release(self, count: int) -> None:
        """Release the slots that `receive` has filled, more than `count` if some were dropped."""
        self._batch.release(self._count)

    def keys(self, count: int) -> list[bytes]:
        """Return the first `count` payloads without their first two bytes."""
        return [it.payload[2:] for it in self._found[:count]]

    def payloads(self, count: int) -> list[bytes]:
        """Return the first `count` payloads."""
        return [it.payload for it in self._found[:count]]

    def addresses(self, count: int) -> list[Any]:
        """Return the addresses of the first `count` clients."""
        return [it.client or it.peer for it in self._found[:count]]

    def clients(self, count: int) -> list[int]:
        """Return the first `count` clients as numbers."""
        return [client_number(it.client or it.peer) for it in self._found[:count]]

    def payload(self, slot: int) -> bytes:
        """Return the payload in `slot`."""
        return self._found[slot].payload

    def address(self, slot: int) -> Any:
        """Return the client's address in `slot`."""
        return self._found[slot].client or self._found[slot].peer

    def proxy(self, slot: int) -> Any:
        """Return the sender's address in `slot`; None if it is the client."""
        return None if self._found[slot].client is None else self._found[slot].peer

    def local(self, slot: int, port: bytes) -> Any:
        """Return the local address of the datagram in `slot`; None without packet information."""
        return self._batch.local(self._found[slot].slot, port)

    def reply(self, slot: int, data: bytes, sock: socket) -> None:
        """Queue `data` as the reply to the sender of the datagram in `slot`."""
        self._batch.reply(self._found[slot].slot, data, sock)

    def answer_all(self, bodies: list[bytes], sock: socket) -> int:
        """Answer the first datagrams, each with the ID of its query and a body."""
        for slot, iov in enumerate(bodies):
            ident = self._found[slot].payload[:2]
            self.reply(slot, ident + ctypes.string_at(*_unpack_iov(iov)), sock)
        return self.flush(sock)

    def queue(self, data: bytes, address: Any, local: Any, sock: socket) -> None:
        """Queue a datagram to `address`, from `local` if it is not None."""
        self._batch.queue(data, address, local, sock)

    def flush(self, sock: socket) -> int:
        """Send the queued datagrams; return the number that were lost."""
        return self._batch.flush(sock)
