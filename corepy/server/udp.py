"""Answering queries that come as datagrams.

One readable event takes a batch from the socket; replies that are ready at once go out as one
batch, those of chains that had to wait are collected and sent once per turn of the event loop. A
batch whose every query is in the packet cache is answered without a look at its queries; this is
what a node-local cache does all day.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from corepy.dns.address import host_port
from corepy.net.batch import SLOTS
from corepy.net.clients import GREED, Shares, client_of
from corepy.net.selfasking import is_own
from corepy.net.sockets import leave_group
from corepy.plugin import metrics
from corepy.plugin.log import server_logger
from corepy.server.answer import Answerer
from corepy.server.query import Runner, task_set_aside

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from corepy.dns import Reply
    from corepy.net.datagrams import Datagrams
    from corepy.server.packet_cache import Entry, Room
    from corepy.server.query import Query

ROUNDS = 4
"""Batches taken from one socket before the event loop may do other work."""

BACKLOG = 1024
"""Queries of one client that may wait for their chains to be run: more than a burst brings, and few
enough to be worked off before their clients ask again.
"""

ROOM_OF_ALL = BACKLOG * (GREED + 1) // GREED
"""Queries of all clients that may wait, so that one with so many leaves room (`Shares`)."""

UNSHARED = 128
"""Length of the queue from which the queries of each client are counted."""

CATCHING_UP: Final = 5.0
"""Seconds after the start in which queries beyond `BACKLOG` stay in the socket's queue, until that
has been read to its end once.

What has come while there was no server is one burst, and the packet cache has nothing yet that
would have to be answered before the others.
"""

OVERFLOWS = metrics.counter(
    "corepy_udp_overflows_total",
    "Queries that were dropped because they came faster than they could be worked off.",
    ("server",),
)
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
        self._new: list[tuple[bytes, float, Any, Any]] = []
        self._shares: Shares | None = None  # none while the queue is short
        self._is_asking = False
        self._catching_up_until = 0.0
        self._loop = asyncio.get_running_loop()
        self._unsent = UNSENT.labels(label)
        self._overflows = OVERFLOWS.labels(label)

    def start(self) -> None:
        """Answer from now on."""
        self._catching_up_until = self._loop.time() + CATCHING_UP
        self._loop.add_reader(self.sock, self._on_readable)

    def pause(self) -> None:
        """Take no queries until `start` is called again."""
        self._loop.remove_reader(self.sock)

    def _on_readable(self) -> None:
        for _ in range(ROUNDS):
            if len(self._new) > BACKLOG - SLOTS and self._loop.time() < self._catching_up_until:
                break
            if self._serve_batch() < SLOTS:
                self._catching_up_until = 0.0  # what had waited for us has been read
                break
        if not self._is_asking:
            self._ask_chains()

    def _serve_batch(self) -> int:
        """Receive one batch and answer from the packet cache what can be; return its size.

        The others wait for `_ask_chains`: in a flood of new names, those that are asked for all day
        do not wait behind it, neither in a batch nor in the socket's queue.
        """
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
            lost = self._sort(count, now)
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
            batch = self._batch
            for slot, entry in enumerate(entries):
                if entry.witnesses:
                    entry.show(batch.payload(slot)[:2], batch.address(slot), now)
        return self._batch.answer_all(bodies, self.sock)

    def _sort(self, count: int, now: float) -> int:
        """Answer from the packet cache what can be, and put the others by; return how many replies
        were lost.
        """
        batch, new, local = self._batch, self._new, self._local
        known = self.answers.packets.entries
        messages, peers = batch.payloads(count), batch.addresses(count)
        for slot in range(count):
            wire = self._from_cache(messages[slot], peers[slot], now) if known else None
            if wire is not None:
                batch.reply(slot, wire, self.sock)
            elif len(new) < UNSHARED or self._has_place(peers[slot]):
                if self._wildcard:
                    local = batch.local(slot, self._port)
                new.append((messages[slot], now, peers[slot], local))
            else:
                self._overflows.inc()
        return batch.flush(self.sock)

    def _has_place(self, peer: Any) -> bool:
        """Take a place in a long queue for a client, and return whether there was one for it."""
        shares, client = self._shares, client_of(peer)
        if shares is None:
            shares = self._shares = Shares()
            for _, _, other, _ in self._new:
                shares.take(client_of(other), ROOM_OF_ALL)
        if shares.take(client, ROOM_OF_ALL - len(self._new)):
            return True
        # The server's questions to itself, by which it learns whether it answers.
        return is_own(host_port(peer)) and shares.take(client, ROOM_OF_ALL)

    def _ask_chains(self) -> None:
        """Answer the first of what has come and is not in the packet cache, and go on with the rest
        when the event loop has done its other work.
        """
        new = self._new[:SLOTS]
        if not new:
            self._is_asking = False
            return
        del self._new[:SLOTS]
        if self._shares is not None:
            self._release(self._shares, new)
        self._is_asking = bool(self._new)
        if self._is_asking:
            self._loop.call_soon(self._ask_chains)
        batch, sock, begin, runner = self._batch, self.sock, self.answers.begin, self.runner
        known = self.answers.packets.entries
        for message, now, peer, local in new:
            try:
                # The same may have come a moment before.
                wire = self._from_cache(message, peer, now) if known else None
                if wire is None:
                    wire = begin(message, now, peer, local, runner)
                if wire is not None:
                    batch.queue(wire, peer, local if self._wildcard else None, sock)
            except Exception:
                server_logger().exception("a datagram to %s was dropped", self.answers.label)
        lost = batch.flush(sock)
        if lost:
            self._unsent.inc(lost)

    def _release(self, shares: Shares, taken: list[tuple[bytes, float, Any, Any]]) -> None:
        """Give back the places of queries that were taken from the queue."""
        if len(self._new) < UNSHARED:
            self._shares = None
            return
        for _, _, peer, _ in taken:
            shares.give_back(client_of(peer))

    def _from_cache(self, message: bytes, peer: Any, now: float) -> bytes | None:
        entry = self.answers.packets.find(message[2:], now)
        if entry is None:
            return None
        if entry.witnesses:
            entry.show(message[:2], peer, now)
        return message[:2] + entry.body

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
        with task_set_aside():
            while self._new:
                self._ask_chains()
            if leave_queue:
                return
            leave_group(self.sock)
            while self._serve_batch() or self._new:
                self._ask_chains()

    def close(self) -> None:
        """Send what is ready and close the socket."""
        self._flush_late()
        self.answers.packets.clear()
        # Or the loop takes the next socket of this number for one that it reads already.
        self._loop.remove_reader(self.sock)
        self.sock.close()
