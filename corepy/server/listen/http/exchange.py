"""The two sides of a request: a session speaks a version of HTTP, an application answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
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
