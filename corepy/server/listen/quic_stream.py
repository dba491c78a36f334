"""`QueryStream`: the stream of one query, from its first byte to its reply."""

from __future__ import annotations

from asyncio import Future, get_running_loop
from time import monotonic
from typing import TYPE_CHECKING, Final

from corepy.server.listen.chain_runner import ChainRunner
from corepy.server.listen.http.cached_answers import find_cached

if TYPE_CHECKING:
    from corepy.dns import Identity, Reply
    from corepy.server.listen.pipeline import QueryPipeline
    from corepy.server.listen.quic_client import QUICClient
    from corepy.server.listen.waiting_query import WaitingQuery

SERIES_WINDOW: Final = 64 * 1024
"""Bytes of a series that the client has not acknowledged, beyond which no message is made."""


class QueryStream:
    """One query of a connection, and its reply."""

    __slots__ = (
        "_accepted",
        "client",
        "data",
        "is_cancelled",
        "is_complete",
        "message",
        "number",
        "runner",
        "since",
        "waits_since",
    )

    def __init__(self, client: QUICClient, number: int) -> None:
        """`number` is the ID of the stream."""
        self.client = client
        self.number = number
        self.data = bytearray()
        """What was received of the query."""
        self.message = b""
        self.is_complete = self.is_cancelled = False
        self.since = monotonic()
        self.waits_since: float | None = None
        """Since when a message of a series waits for the client; None if none does."""
        self._accepted: Future[None] | None = None
        self.runner: ChainRunner | None = None

    @property
    def identity(self) -> Identity:
        """The identity of the query."""
        return self.client.identity

    def begin(self, now: float) -> bytes | None:
        """Return the reply to `message`: empty if none is sent, None if it follows later."""
        client, message = self.client, self.message
        listener = client.listener
        pipeline = listener.pipeline
        peer, local = client.quic.client_address
        entry = find_cached(pipeline, message, peer, now)
        if entry is not None:
            return message[:2] + entry.body
        self.runner = ChainRunner(self._deliver)
        self.runner.limit_pending(listener.pending_limit, client.place)
        local = listener.local if local is None else local
        wire = pipeline.begin(message, now, peer, local, self.runner, self.identity)
        if wire is None:
            listener.pending += 1
        return wire

    def _deliver(self, query: WaitingQuery, reply: Reply) -> None:
        client = self.client
        if reply.series is not None and client.listener.takes_series:
            # The other streams do not need the module.
            from corepy.server.listen.series_sender import SeriesSender

            SeriesSender(self).start(query.request, reply)
            return
        client.listener.end_pending()
        wire = client.listener.pipeline.complete(query.request, reply)
        client.finish_stream(self, wire)
        client.touch()

    def cancel(self) -> None:
        """Stop: the client does not want the reply, or is gone."""
        self.is_cancelled = True
        self._wake()
        if self.runner is not None:
            self.runner.cancel()
            self.client.listener.outlive(self.runner)

    def give_up(self) -> None:
        """Stop a series whose client does not read it."""
        self.cancel()

    def resume(self) -> None:
        """Continue a series if the client has read enough of it."""
        if self.waits_since is not None and not self._is_full():
            self._wake()

    def _wake(self) -> None:
        self.waits_since = None
        self.client.blocked.discard(self)
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_result(None)

    def _is_full(self) -> bool:
        return self.client.quic.unacknowledged(self.number) > SERIES_WINDOW

    # The connection of a series

    @property
    def pipeline(self) -> QueryPipeline:
        """The pipeline of the listener."""
        return self.client.listener.pipeline

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self.is_cancelled or self.client.quic.is_over

    def begin_series(self) -> None:
        """Do nothing: the stream always knows what the client has not acknowledged."""

    async def send(self, wire: bytes) -> None:
        """Send a message of a series, and wait until the client has most of them."""
        self.client.last_activity = monotonic()
        self.client.send_part(self, wire)
        if self._is_full():
            self.waits_since = monotonic()
            self.client.blocked.add(self)
            self._accepted = get_running_loop().create_future()
            await self._accepted

    def end_series(self, wire: bytes, *, is_broken: bool) -> None:
        """End the stream after sending `wire`, or abandon it if the series is broken."""
        self.client.listener.end_pending()
        self.client.end_series(self, wire, is_broken=is_broken)
        self.client.touch()
