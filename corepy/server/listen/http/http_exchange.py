"""The two sides of a request: a session speaks a version of HTTP, an application answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import HTTPFacts
    from corepy.net.turns import Turns
    from corepy.plugin import Timeouts
    from corepy.server.listen.pipeline import QueryPipeline
    from corepy.server.listen.stream_queries import StreamQuery

    Fields = tuple[tuple[str, str], ...]


class Respond(Protocol):
    """Sends the response to one request; later calls for the same request do nothing."""

    def __call__(
        self, status: int, fields: Fields, content: bytes = b"", trailers: Fields = ()
    ) -> None:
        """Send a response; the names of `fields` are in lower case.

        It may be called before the request is complete: the rest of it is then ignored.
        """


class Exchange(Protocol):
    """A request that is being read or answered."""

    def receive(self, content: bytes) -> None:
        """Take a piece of the content; with b"", refuse a request that is hopeless without it."""

    def end(self) -> None:
        """Answer: the request is complete."""

    def cancel(self) -> None:
        """Do not answer: the client has given up."""


class Application(Protocol):
    """Answers the requests of one connection."""

    def open(self, respond: Respond, method: str, target: str, fields: Fields) -> Exchange:
        """Begin to answer a request, of which the head was read; see `DoHRequest`."""


class Session(Protocol):
    """A version of HTTP on one connection."""

    is_behind: bool
    """Whether there is input that was received but not processed."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""

    def receive(self, data: bytes) -> None:
        """Process input, up to the limits of the connection; with b"" what was received before."""

    def end_input(self) -> None:
        """Give up what the client cannot complete: it sends nothing more."""

    def expire(self, now: float) -> None:
        """Give up the requests whose clients take too long to send them, or to read responses."""

    def begin_drain(self) -> None:
        """Tell the client to send its next requests over another connection."""

    def end(self) -> None:
        """Tell the client that the connection is closed now."""


class Asker(Protocol):
    """What a connection does for an application."""

    def ask(
        self, message: bytes, facts: HTTPFacts, deliver: Callable[[bytes], None]
    ) -> StreamQuery | None:
        """Pass the reply to `message` to `deliver`: at once, or later if this returns a query.

        The reply is empty for a query that a plugin has dropped.
        """


class Carrier(Protocol):
    """What a connection does for its session."""

    @property
    def label(self) -> str:
        """The address of the server in logs and metrics."""

    @property
    def pipeline(self) -> QueryPipeline:
        """The pipeline of the listener."""

    @property
    def timeouts(self) -> Timeouts:
        """The time limits of the connection."""

    @property
    def turns(self) -> Turns:
        """The turns that the connections of the listener share."""

    @property
    def client_address(self) -> object:
        """The address of the client."""

    @property
    def is_full(self) -> bool:
        """Whether the client has to wait for replies, or to read them, before others are made."""

    def note_request(self, now: float) -> None:
        """Restart the idle timeout: a request has begun, or is answered."""

    def send(self, data: bytes) -> None:
        """Send `data` at the end of this turn of the event loop, with other data."""

    def send_all(self, pieces: list[bytes], size: int) -> None:
        """Send `pieces` of `size` bytes while data is being processed."""

    def flush_soon(self) -> None:
        """Send, and read on if the client may send more, at the end of this turn of the loop."""

    def go_on(self) -> None:
        """Process requests that were received before, if the client has read enough."""

    def end(self) -> None:
        """Close, and tell the client so."""

    def close_when_done(self) -> None:
        """Close once every request that was read is answered."""
