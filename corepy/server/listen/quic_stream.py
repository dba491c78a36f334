"""`QueryStream`: the stream of one query over QUIC, from its first byte to its reply."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from corepy.server.listen.chain_runner import ChainRunner
from corepy.server.listen.http.cached_answers import find_cached

if TYPE_CHECKING:
    from corepy.dns import Identity, Reply
    from corepy.net.quic.server_connection import ServerConnection
    from corepy.server.listen.pending_limit import PendingLimit
    from corepy.server.listen.pipeline import QueryPipeline
    from corepy.server.listen.waiting_query import WaitingQuery


class QueryHost(Protocol):
    """The listener, as a stream sees it."""

    pipeline: QueryPipeline
    pending_limit: PendingLimit
    pending: int
    """Queries in flight."""

    local: Any
    """The address of the socket."""

    def end_pending(self) -> None:
        """Count the end of a query in flight."""

    def outlive(self, runner: ChainRunner) -> None:
        """Keep the time limit of a query whose client is gone."""


class QueryClient(Protocol):
    """The connection, as a stream sees it."""

    quic: ServerConnection
    client: Any
    """The address of the client if a proxy states it, None without a proxy."""

    place: bytes
    """The client in limits."""

    @property
    def listener(self) -> QueryHost:
        """The listener."""

    @property
    def identity(self) -> Identity:
        """The identity of the queries."""

    def finish_stream(self, stream: QueryStream, wire: bytes) -> None:
        """Send the reply of a stream; it is empty if the query is dropped."""

    def touch(self) -> None:
        """Send what was written, soon."""


class QueryStream:
    """One query of a connection."""

    __slots__ = (
        "client",
        "is_cancelled",
        "is_complete",
        "message",
        "number",
        "runner",
        "since",
        "waits_since",
    )

    def __init__(self, client: QueryClient, number: int) -> None:
        """Begin to receive the stream whose ID is `number`."""
        self.client = client
        self.number = number
        self.message = b""
        """The query, once it is complete."""
        self.is_complete = self.is_cancelled = False
        self.since = monotonic()
        self.waits_since: float | None = None
        """Since when a message of a series waits for the client; None if none does."""
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
        entry = find_cached(pipeline, message, client.client or peer, now)
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
        client.listener.end_pending()
        wire = client.listener.pipeline.complete(query.request, reply)
        client.finish_stream(self, wire)
        client.touch()

    def cancel(self) -> None:
        """Stop: the client does not want the reply, or is gone."""
        self.is_cancelled = True
        self.resume()
        if self.runner is not None:
            self.runner.cancel()
            self.client.listener.outlive(self.runner)

    def resume(self) -> None:
        """Continue a reply of several messages if the client has read enough of it."""
