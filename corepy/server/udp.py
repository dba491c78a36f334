"""Answering queries that come as datagrams.

One readable event takes a batch from the socket; replies that are ready at once go out as one
batch, those of chains that had to wait are collected and sent once per turn of the event loop.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

from corepy.dns import Request, accept, finish
from corepy.net.batch import SLOTS
from corepy.plugin import metrics
from corepy.plugin.handler import REFUSED, SERVFAIL
from corepy.plugin.log import server_logger
from corepy.server.query import Runner, report_failure

if TYPE_CHECKING:
    from corepy.dns import Reply
    from corepy.net.datagrams import Datagrams
    from corepy.server.query import Query
    from corepy.server.router import Router

ROUNDS = 4
"""Batches taken from one socket before the event loop may do other work."""

UNSENT = metrics.counter(
    "corepy_udp_unsent_total", "Replies that the socket did not take.", ("server",)
)


class UDPListener:
    """One UDP socket of an endpoint."""

    def __init__(
        self, sock: socket.socket, batch: Datagrams, label: str, *, wildcard: bool
    ) -> None:
        """`batch` is shared by all listeners of the loop; `label` names the server in requests and
        metrics.
        """
        self.router: Router
        self.sock = sock
        self.runner = Runner(self._deliver)
        self._batch = batch
        self._label = label
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
        batch, sock = self._batch, self.sock
        count = batch.receive(sock)
        if not count:
            return 0
        now = time.monotonic()
        for slot in range(count):
            try:
                wire = self._answer(slot, now)
                if wire is not None:
                    batch.reply(slot, wire, sock)
            except Exception:
                server_logger().exception("a datagram to %s was dropped", self._label)
        batch.release(count)
        lost = batch.flush(sock)
        if lost:
            self._unsent.inc(lost)
        return count

    def _answer(self, slot: int, now: float) -> bytes | None:
        """Return what to send for the datagram in `slot`; None when there is nothing to send
        now.
        """
        batch = self._batch
        request = accept(batch.payload(slot))
        if type(request) is not Request:
            return request  # type: ignore[return-value]  # bytes or None are all that is left
        request.received = now
        request.server = self._label
        request.peer = batch.address(slot)
        request.local = batch.local(slot, self._port) if self._wildcard else self._local
        site = self.router.route(request)
        if site is None or site.chain is None:
            return finish(request, request.error(REFUSED))
        request.zone = site.zone
        reply = self.runner.start(site.chain, request)
        return None if reply is None else finished(request, reply)

    def _deliver(self, query: Query, reply: Reply) -> None:
        request = query.request
        if not self._late:
            self._loop.call_soon(self._flush_late)
        local = request.local if self._wildcard else None
        self._late.append((finished(request, reply), request.peer, local))

    def _flush_late(self) -> None:
        late, self._late = self._late, []
        batch, sock = self._batch, self.sock
        if sock.fileno() < 0:
            return
        for wire, peer, local in late:
            batch.queue(wire, peer, local, sock)
        lost = batch.flush(sock)
        if lost:
            self._unsent.inc(lost)

    def stop(self) -> None:
        """Answer what still lies in the socket's queue, then read no more."""
        self._loop.remove_reader(self.sock)
        while self._serve_batch():
            pass

    def close(self) -> None:
        """Send what is ready and close the socket."""
        self._flush_late()
        self.sock.close()


def finished(request: Request, reply: Reply) -> bytes:
    """Return the bytes to send; a reply that a plugin made unsendable becomes SERVFAIL."""
    try:
        return finish(request, reply)
    except Exception as error:
        report_failure(request, error)
        return finish(request, request.error(SERVFAIL))
