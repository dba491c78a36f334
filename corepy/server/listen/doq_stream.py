"""`DoQStream`: a stream of DNS over QUIC, whose reply may consist of several messages."""

from __future__ import annotations

from asyncio import Future, get_running_loop
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, cast

from corepy.net.frames import frame
from corepy.server.listen.quic_stream import QueryClient, QueryStream

if TYPE_CHECKING:
    from corepy.dns import Reply
    from corepy.server.listen.pipeline import QueryPipeline
    from corepy.server.listen.series_sender import SeriesConnection
    from corepy.server.listen.waiting_query import WaitingQuery

SERIES_WINDOW: Final = 64 * 1024
"""Bytes of a series that the client has not acknowledged, beyond which no message is made."""


class SeriesClient(QueryClient, Protocol):
    """The connection, as a stream with a series sees it."""

    last_activity: float
    blocked: set[QueryStream]
    """The streams of series that wait for the client."""

    def end_series(self, stream: QueryStream, wire: bytes, *, is_broken: bool) -> None:
        """End the stream of a series."""


class DoQStream(QueryStream):
    """One query, and the connection of its series (`SeriesConnection`)."""

    __slots__ = ("_accepted", "data")

    client: SeriesClient

    def __init__(self, client: SeriesClient, number: int) -> None:
        """Begin to receive the stream whose ID is `number`."""
        super().__init__(client, number)
        self.data = bytearray()
        """What was received of the query."""
        self._accepted: Future[None] | None = None

    def _deliver(self, query: WaitingQuery, reply: Reply) -> None:
        if reply.series is None:
            super()._deliver(query, reply)
            return
        # The other streams do not need the module.
        from corepy.server.listen.series_sender import SeriesSender

        # A stream with a reply has a runner.
        SeriesSender(cast("SeriesConnection", self)).start(query.request, reply)

    def resume(self) -> None:
        """Continue a series if the client has read enough of it, or if it has ended."""
        if self.waits_since is None or (self._is_full() and not self.is_closing):
            return
        self.waits_since = None
        self.client.blocked.discard(self)
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_result(None)

    def _is_full(self) -> bool:
        return self.client.quic.unacknowledged(self.number) > SERIES_WINDOW

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
        client = self.client
        client.last_activity = monotonic()
        client.quic.send_stream_data(self.number, frame(wire))
        client.touch()
        if self._is_full():
            self.waits_since = monotonic()
            client.blocked.add(self)
            self._accepted = get_running_loop().create_future()
            await self._accepted

    def end_series(self, wire: bytes, *, is_broken: bool) -> None:
        """End the stream after sending `wire`, or abandon it if the series is broken."""
        self.client.listener.end_pending()
        self.client.end_series(self, wire, is_broken=is_broken)
        self.client.touch()
