"""Answering queries that come as datagrams.

One readable event takes a batch from the socket; replies that are ready at once go out as one
batch, those of chains that had to wait are collected and sent once per turn of the event loop. A
batch whose every query is in the packet cache is answered without a look at its queries; this is
what a node-local cache does all day.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from corepy.net.batch import SLOTS
from corepy.net.sockets import leave_group
from corepy.plugin import metrics
from corepy.plugin.log import server_logger
from corepy.server.answer import Answerer
from corepy.server.query import Runner

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from corepy.dns import Reply
    from corepy.net.datagrams import Datagrams
    from corepy.server.packet_cache import Entry, Room
    from corepy.server.query import Query

ROUNDS = 4
"""Batches taken from one socket before the event loop may do other work."""

UNSENT = metrics.counter(
    "corepy_udp_unsent_total", "Replies that the socket did not take.", ("server",)
)


class UDPListener:
    """One UDP socket of an endpoint."""

    def __init__(
        self, sock: socket.socket, batch: Datagrams, room: Room, label: str, *, wildcard: bool
    ) -> None:
        """Answer at `sock`; `batch` and `room` are shared by all listeners of the loop."""
        self.sock = sock
        self.answers = Answerer(label, "udp", room)
        self.runner = Runner(self._deliver)
        self._batch = batch
        self._wildcard = wildcard
        self._local = sock.getsockname()
        self._port = self._local[1].to_bytes(2, "big")
        self._late: list[tuple[bytes, Any, Any]] = []
        self._loop = asyncio.get_running_loop()
        self._unsent = UNSENT.labels(label)

    def start(self) -> None:
        """Answer from now on."""
        self._loop.add_reader(self.sock, self._on_readable)

    def _on_readable(self) -> None:
        for _ in range(ROUNDS):
            if self._serve_batch() < SLOTS:
                return

    def _serve_batch(self) -> int:
        """Receive and answer one batch; return its size."""
        batch, packets = self._batch, self.answers.packets
        count = batch.receive(self.sock)
        if not count:
            return 0
        now = time.monotonic()
        keys: list[bytes] = []
        entries: list[Entry | None] = []
        if packets.entries:
            keys = batch.keys(count)
            entries = list(map(packets.entries.get, keys))
        if entries and packets.are_usable(entries, keys, now):
            lost = self._repeat(entries, now)
        else:
            lost = self._answer_each(count, keys, now)
        batch.release(count)
        if lost:
            self._unsent.inc(lost)
        return count

    def _repeat(self, entries: Sequence[Entry], now: float) -> int:
        """Answer the whole batch from the packet cache; return how many replies were lost."""
        bodies = []
        for entry in entries:
            entry.hits += 1
            bodies.append(entry.iov)
        if self.answers.router.witnessed:
            for slot, entry in enumerate(entries):
                self._show(slot, entry, now)
        return self._batch.answer_all(bodies, self.sock)

    def _answer_each(self, count: int, keys: Sequence[bytes], now: float) -> int:
        """Answer the batch one by one; return how many replies were lost."""
        batch, sock = self._batch, self.sock
        for slot in range(count):
            try:
                wire = self._from_cache(slot, keys[slot], now) if keys else None
                if wire is None:
                    wire = self._begin(slot, now)
                if wire is not None:
                    batch.reply(slot, wire, sock)
            except Exception:
                server_logger().exception("a datagram to %s was dropped", self.answers.label)
        return batch.flush(sock)

    def _from_cache(self, slot: int, key: bytes, now: float) -> bytes | None:
        entry = self.answers.packets.find(key, now)
        if entry is None:
            return None
        self._show(slot, entry, now)
        return self._batch.payload(slot)[:2] + entry.body

    def _show(self, slot: int, entry: Entry, now: float) -> None:
        """Show a query that is answered from the packet cache to those who asked for it."""
        if entry.witnesses:
            entry.show(self._batch.payload(slot)[:2], self._batch.address(slot), now)

    def _begin(self, slot: int, now: float) -> bytes | None:
        batch = self._batch
        local = batch.local(slot, self._port) if self._wildcard else self._local
        return self.answers.begin(batch.payload(slot), now, batch.address(slot), local, self.runner)

    def _deliver(self, query: Query, reply: Reply) -> None:
        request = query.request
        if not self._late:
            self._loop.call_soon(self._flush_late)
        local = request.local if self._wildcard else None
        self._late.append((self.answers.complete(request, reply), request.peer, local))

    def _flush_late(self) -> None:
        late, self._late = self._late, []
        batch, sock = self._batch, self.sock
        if sock.fileno() < 0:
            return
        for wire, peer, local in late:
            try:
                batch.queue(wire, peer, local, sock)
            except Exception:  # a plugin has put something else there
                server_logger().exception("a reply from %s was dropped", self.answers.label)
        lost = batch.flush(sock)
        if lost:
            self._unsent.inc(lost)

    def stop(self, *, leave_queue: bool = False) -> None:
        """Take no new queries, and answer those that lie in the socket's queue.

        With `leave_queue` they stay there, for the process that goes on with the socket.
        """
        self._loop.remove_reader(self.sock)
        if leave_queue:
            return
        leave_group(self.sock)
        while self._serve_batch():
            pass

    def close(self) -> None:
        """Send what is ready and close the socket."""
        self._flush_late()
        self.answers.packets.clear()
        self.sock.close()
