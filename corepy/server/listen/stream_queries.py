"""The pending queries of a connection on which each query has a stream of its own.

A reply over TCP is found by its ID, one over HTTP or QUIC by its stream. So each query that has to
wait has a `ChainRunner` that delivers to its stream only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from corepy.server.listen.chain_runner import ChainRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Identity, Reply
    from corepy.server.listen.pending_limit import PendingLimit
    from corepy.server.listen.pipeline import QueryPipeline
    from corepy.server.listen.waiting_query import WaitingQuery


@final
class StreamQuery:
    """The query of one stream."""

    __slots__ = ("_deliver", "_pipeline", "_queries", "runner")

    def __init__(
        self, queries: StreamQueries, pipeline: QueryPipeline, deliver: Callable[[bytes], None]
    ) -> None:
        self._queries = queries
        self._pipeline = pipeline
        self._deliver = deliver
        self.runner = ChainRunner(self._done)

    def _done(self, query: WaitingQuery, reply: Reply) -> None:
        self._queries.forget(self)
        self._deliver(self._pipeline.complete(query.request, reply))

    def cancel(self) -> None:
        """Cancel the query: its client does not wait for the reply any more."""
        self.runner.cancel()


@final
class StreamQueries:
    """All of them: the `StreamConnection.pending` of such a connection."""

    __slots__ = ("_client", "_limit", "_pending")

    def __init__(self) -> None:
        self._limit: PendingLimit | None = None
        self._client = b""
        self._pending: dict[StreamQuery, None] = {}

    def __len__(self) -> int:
        """Return the number of pending queries, also of streams that the client has reset."""
        return len(self._pending)

    def limit_pending(self, limit: PendingLimit, client: bytes) -> None:
        """Count the pending queries as those of `client`; called before `begin`."""
        self._limit, self._client = limit, client

    def begin(
        self,
        pipeline: QueryPipeline,
        message: bytes,
        received: float,
        peer: object,
        local: object,
        identity: Identity,
        deliver: Callable[[bytes], None],
    ) -> bytes | StreamQuery:
        """Return the reply to `message`, or the query if `deliver` gets the reply.

        A reply is empty if a plugin has dropped the query. `deliver` may be called before this
        returns. The other arguments are those of `QueryPipeline.begin`.
        """
        query = StreamQuery(self, pipeline, deliver)
        if self._limit is not None:
            query.runner.limit_pending(self._limit, self._client)
        reply = pipeline.begin(message, received, peer, local, query.runner, identity)
        if reply is not None:
            return reply
        if query.runner.waiting:
            self._pending[query] = None
        return query

    def forget(self, query: StreamQuery) -> None:
        """Remove a query that has its reply."""
        self._pending.pop(query, None)

    @property
    def waiting(self) -> set[WaitingQuery]:
        """The queries that have no answer yet."""
        return {waiting for query in self._pending for waiting in query.runner.waiting}

    def cancel(self) -> None:
        """Cancel all pending queries."""
        for query in list(self._pending):
            query.cancel()
