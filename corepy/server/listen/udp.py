"""Answers queries that arrive as datagrams.

One readable event receives a batch from the socket. Replies that are ready at once are sent as one
batch; replies of chains that had to wait are collected and sent once per turn of the event loop. A
batch whose queries are all in the packet cache is answered without parsing any of them, the usual
case of a node-local cache.
"""

from __future__ import annotations

import asyncio
import math
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.dns import Identity
from corepy.dns.address import host_port
from corepy.net.batch import SLOTS
from corepy.net.connection_limit import GREED, Shares, client_of
from corepy.net.own_connections import is_own
from corepy.net.sockets import leave_group
from corepy.plugin import Denial, ProxyPolicy, metrics
from corepy.plugin.log import server_logger
from corepy.server.listen.admission import Admission, are_all_dropped
from corepy.server.listen.chain_runner import ChainRunner
from corepy.server.listen.query_listener import Listener
from corepy.server.listen.status_query import is_answered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply
    from corepy.net.datagrams import Datagrams
    from corepy.plugin import ListenerConfig
    from corepy.server.listen.admission import Denials
    from corepy.server.listen.packet_cache import CachedReply
    from corepy.server.listen.proxied_batch import ProxiedBatch
    from corepy.server.listen.proxied_datagrams import ProxiedDatagrams
    from corepy.server.listen.query_listener import ListenerContext
    from corepy.server.listen.router import Router
    from corepy.server.listen.waiting_query import WaitingQuery

ROUNDS: Final = 4
"""Batches received from one socket before the event loop may do other work."""

BACKLOG: Final = 1024
"""Queries of one client that may wait for their chains to run.

More than a burst brings, and few enough to be answered before the client retries.
"""

ROOM_OF_ALL: Final = BACKLOG * (GREED + 1) // GREED
"""Queries of all clients that may wait.

It leaves room for other clients beside one with BACKLOG queries (`Shares`).
"""

UNSHARED: Final = 128
"""Length of the queue from which the queries of each client are counted."""

CATCHING_UP: Final = 5.0
"""Seconds after the start or a reload in which the listener does not drop queries beyond BACKLOG.

They stay in the socket's queue until it has been read empty once. The queries that arrived while
there was no server, or while a reload kept the event loop busy, are one burst. The packet cache is
empty then, so it could not answer any of them ahead of the others.
"""

_PAST: Final = -math.inf

OVERFLOWS: Final = metrics.counter(
    "corepy_udp_overflows_total",
    "Queries dropped because they arrived faster than they could be processed.",
    ("server",),
)
UNSENT: Final = metrics.counter(
    "corepy_udp_unsent_total", "Replies that could not be sent.", ("server",)
)


class UDPListener(Listener):
    """One listening UDP socket of an endpoint."""

    network: ClassVar[str] = "udp"
    protocol: ClassVar[str] = "udp"
    is_checkable: ClassVar[bool] = True
    asks_gates: ClassVar[bool] = True

    def __init__(self, sock: socket.socket, context: ListenerContext) -> None:
        """Answer at `sock`."""
        super().__init__(sock, context)
        self.runner = ChainRunner(self._deliver)
        self._batch: Datagrams = context.batch
        self._direct: Datagrams = context.batch
        self._proxied: ProxiedDatagrams | None = None
        self._proxied_batch: ProxiedBatch | None = None
        self._wildcard = context.wildcard
        self._local = sock.getsockname()
        self._port = self._local[1].to_bytes(2, "big")
        self._late: list[tuple[bytes, Any, Any]] = []
        self._new: list[tuple[bytes, float, Any, Any, Any]] = []
        self._shares: Shares | None = None  # None while the queue is short
        self._is_asking = False
        self._catching_up_until: float
        self._loop = asyncio.get_running_loop()
        self._admission = Admission(context.label)
        self._repeated = self.traffic.repeated
        self._unsent_count = self._overflow_count = 0
        self._unsent = UNSENT.labels(context.label)
        self._overflows = OVERFLOWS.labels(context.label)

    def swap(self, router: Router, config: ListenerConfig) -> None:
        """Use `router` and `config` from the next query on; called before `start`."""
        super().swap(router, config)
        self._apply(config)
        self._catch_up()

    def _apply(self, config: ListenerConfig) -> None:
        """Read PROXY headers if the policy of the socket says so."""
        self._batch, self._proxied_batch = self._direct, None
        policy = config.get(ProxyPolicy)
        if not policy.reads_headers:
            self._proxied = None
            return
        # The other listeners do not need the modules.
        from corepy.server.listen.proxied_batch import ProxiedBatch
        from corepy.server.listen.proxied_datagrams import ProxiedDatagrams

        self._proxied = self._proxied or ProxiedDatagrams(policy, self.label)
        self._proxied.follow(policy)
        self._batch = self._proxied_batch = ProxiedBatch(self._direct, self._proxied)

    def forget(self) -> None:
        """Empty the packet cache."""
        super().forget()
        self._catch_up()

    def _catch_up(self) -> None:
        self._catching_up_until = self._loop.time() + CATCHING_UP

    def start(self) -> None:
        """Start answering."""
        self._catch_up()
        self._loop.add_reader(self.sock, self._on_readable)

    def pause(self) -> None:
        """Receive no queries until `start` is called again."""
        self._loop.remove_reader(self.sock)

    def _on_readable(self) -> None:
        for _ in range(ROUNDS):
            if len(self._new) > BACKLOG - SLOTS and self._loop.time() < self._catching_up_until:
                break
            if self._serve_batch() < SLOTS:
                self._catching_up_until = _PAST  # the queue from before the start is empty
                break
        if not self._is_asking:
            self._ask_chains()

    def _serve_batch(self) -> int:
        """Receive one batch and send the replies in the packet cache; return its size.

        The other queries wait for `_ask_chains`. So in a flood of new names the popular ones wait
        neither behind the others of their batch nor in the socket's queue.
        """
        batch, packets = self._batch, self.pipeline.packets
        count = batch.receive(self.sock)
        if not count:
            return 0
        now = monotonic()
        router = self.pipeline.router
        denied: Denials | None = None
        if router.gates:
            denied = self._admission.of_batch(router.gates, batch, count, now)
        keys: list[bytes] = []
        entries: list[CachedReply | None] = []
        if packets.entries and not denied:
            keys = batch.keys(count)
            entries = list(map(packets.entries.get, keys))
        if entries and packets.are_usable(entries, keys, now):
            if router.has_hit_gates:
                denied = self._admission.of_hits(entries, batch, now)
            if denied:
                lost = self._sort(count, now, denied, is_judged=True)
            else:
                lost = self._repeat(entries, now)
                sampler = self._repeated
                sampler.left -= count
                if sampler.left <= 0:
                    self._look_at_hits(keys, entries, now)
        elif denied and are_all_dropped(denied, count):
            lost = 0
            self._drop_all(count, now)
        else:
            lost = self._sort(count, now, denied)
        batch.release(count)
        if lost:
            self._count_unsent(lost)
        return count

    def _repeat(self, entries: Sequence[CachedReply], now: float) -> int:
        """Answer the whole batch from the packet cache; return the number of unsent replies."""
        bodies = []
        for entry in entries:
            entry.hits += 1
            bodies.append(entry.iov)
        if self.pipeline.router.has_hit_listeners:
            batch = self._batch
            for slot, entry in enumerate(entries):
                if entry.hit_listeners:
                    entry.show(batch.payload(slot)[:2], batch.address(slot), now)
        return self._batch.answer_all(bodies, self.sock)

    def _look_at_hits(
        self, keys: Sequence[bytes], entries: Sequence[CachedReply], now: float
    ) -> None:
        """Look at the selected queries of a batch that the packet cache has answered."""
        sampler, batch = self._repeated, self._batch
        count = len(keys)
        slot = sampler.left + count - 1
        while slot < count:
            entry, client = entries[slot], batch.address(slot)
            self.traffic.look_at_hit(self.pipeline.unrouted, keys[slot], client, entry, now)
            slot += sampler.left
        sampler.left = slot - count + 1

    def _drop_all(self, count: int, now: float) -> None:
        """Count a batch of which the gates have denied every query, without replies."""
        sampler, batch = self.traffic.at_once, self._batch
        if sampler.left > count:
            sampler.left -= count
            self.traffic.unanswered += count
            return
        for slot in range(count):
            self.pipeline.deny(batch.payload(slot), now, batch.address(slot), Denial.DROP)

    def _sort(
        self, count: int, now: float, denied: Denials | None, *, is_judged: bool = False
    ) -> int:
        """Answer from the packet cache, queue the other queries; return the unsent replies.

        Denied queries get no answer, or a short one. With `is_judged`, all gates were asked.
        """
        batch, new, local = self._batch, self._new, self._local
        known, proxied = self.pipeline.packets.entries, self._proxied_batch
        messages, clients = batch.payloads(count), batch.addresses(count)
        for slot in range(count):
            wire: bytes | None = None
            if denied and slot in denied:
                wire = self.pipeline.deny(messages[slot], now, clients[slot], denied[slot])
            elif known:
                wire = self._from_cache(messages[slot], clients[slot], now, is_judged=is_judged)
            if wire:
                batch.reply(slot, wire, self.sock)
            elif wire is not None:
                continue  # denied
            elif len(new) < UNSHARED or self._reserve(clients[slot]):
                if self._wildcard:
                    local = batch.local(slot, self._port)
                proxy = None if proxied is None else proxied.proxy(slot)
                new.append((messages[slot], now, clients[slot], local, proxy))
            else:
                self._overflow_count += 1
                self._overflows.inc()
        return batch.flush(self.sock)

    def _reserve(self, address: Any) -> bool:
        """Reserve a place in a long queue for a client; return whether there was one."""
        shares, client = self._shares, client_of(address)
        if shares is None:
            shares = self._shares = Shares()
            for _, _, other, _, _ in self._new:
                shares.take(client_of(other), ROOM_OF_ALL)
        if shares.take(client, ROOM_OF_ALL - len(self._new)):
            return True
        # The server's own self-check queries have priority.
        return is_own(host_port(address)) and shares.take(client, ROOM_OF_ALL)

    def _ask_chains(self) -> None:
        """Run the chains of the first queued queries.

        The rest follows after the event loop has done its other work.
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
        batch, sock, pipeline, runner = self._batch, self.sock, self.pipeline, self.runner
        known = pipeline.packets.entries
        for message, now, client, local, proxy in new:
            try:
                # The reply to an identical query may have been cached since.
                wire = self._from_cache(message, client, now) if known else None
                if wire is None:
                    if proxy is None:
                        wire = pipeline.begin(message, now, client, local, runner)
                    else:
                        identity = Identity(client)
                        wire = pipeline.begin(message, now, proxy, local, runner, identity)
                if wire:
                    peer = client if proxy is None else proxy
                    batch.queue(wire, peer, local if self._wildcard else None, sock)
            except Exception:
                server_logger().exception("a datagram to %s was dropped", self.pipeline.label)
        lost = batch.flush(sock)
        if lost:
            self._count_unsent(lost)

    def _release(self, shares: Shares, taken: list[tuple[bytes, float, Any, Any, Any]]) -> None:
        """Release the places of queries that were taken from the queue."""
        if len(self._new) < UNSHARED:
            self._shares = None
            return
        for _, _, client, _, _ in taken:
            shares.give_back(client_of(client))

    def _from_cache(
        self, message: bytes, client: Any, now: float, *, is_judged: bool = False
    ) -> bytes | None:
        """Return the reply in the packet cache, None without; empty if a gate drops the query."""
        entry = self.pipeline.packets.find(message[2:], now)
        if entry is None:
            return None
        if entry.gates and not is_judged:
            denial = self._admission.of_hit(entry, client, now)
            if denial is not None:
                return self.pipeline.deny(message, now, client, denial)
        if entry.hit_listeners:
            entry.show(message[:2], client, now)
        sampler = self._repeated
        sampler.left = left = sampler.left - 1
        if left <= 0:
            pipeline = self.pipeline
            self.traffic.look_at_hit(pipeline.unrouted, message[2:], client, entry, now)
        return message[:2] + entry.body

    def _deliver(self, query: WaitingQuery, reply: Reply) -> None:
        request = query.request
        wire = self.pipeline.complete(request, reply)
        if not wire:
            return
        if not self._late:
            self._loop.call_soon(self._flush_late)
        local = request.local if self._wildcard else None
        self._late.append((wire, request.peer, local))

    def _flush_late(self) -> None:
        late, self._late = self._late, []
        batch, sock = self._batch, self.sock
        if sock.fileno() < 0:
            return
        for wire, peer, local in late:
            try:
                batch.queue(wire, peer, local, sock)
            except Exception:  # a plugin has changed the request's addresses
                server_logger().exception("a reply from %s was dropped", self.pipeline.label)
        lost = batch.flush(sock)
        if lost:
            self._count_unsent(lost)

    def _count_unsent(self, lost: int) -> None:
        self._unsent_count += lost
        self._unsent.inc(lost)

    def waiting(self) -> set[WaitingQuery]:
        """Return the queries that have no answer yet."""
        return self.runner.waiting

    def stop(self, *, leave_queue: bool = False) -> None:
        """Receive no new queries, and answer those in the socket's queue.

        With `leave_queue` they stay there, for the process that continues with the socket.
        """
        self._loop.remove_reader(self.sock)
        while self._new:
            self._ask_chains()
        if leave_queue:
            return
        leave_group(self.sock)
        while self._serve_batch() or self._new:
            self._ask_chains()

    def close(self) -> None:
        """Cancel the pending queries, send the replies that are ready, and close the socket."""
        self.runner.cancel()
        self._flush_late()
        self.forget()
        # Otherwise the loop would take the next socket with this descriptor for this one.
        self._loop.remove_reader(self.sock)
        self.sock.close()

    def status(self) -> dict[str, Any]:
        """Return the state of the listener for an operator."""
        lost = {"unsent": self._unsent_count, "overflows": self._overflow_count}
        return {**super().status(), "queued": len(self._new), **lost}

    async def check(self, address: tuple[str | int, ...]) -> bool:
        """Send a STATUS query to `address`; return whether it is answered."""
        return await is_answered(address, socket.SOCK_DGRAM)
