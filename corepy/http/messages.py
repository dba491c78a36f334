"""HTTP requests and responses, independent of any HTTP library."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TEXT: Final = "text/plain; charset=utf-8"

ANSWER_TIMEOUT: Final = 30.0
"""Seconds to produce a response and send it, unless the route has a limit of its own."""


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """An HTTP request."""

    method: str
    """The method, such as GET. Every method is answered, as in CoreDNS; HEAD without the body."""

    path: str
    """The path, without the query."""

    headers: dict[str, str]
    """The header fields by name in lower case; the last one of several with the same name."""

    query: str = ""
    """The query after the "?", as sent; `urllib.parse.parse_qs` decodes it."""


@dataclass(frozen=True, slots=True)
class HTTPResponse:
    """An HTTP response."""

    body: bytes | AsyncIterator[bytes] = b""
    status: int = HTTPStatus.OK
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()
    """Further header fields, as (name, value)."""


if TYPE_CHECKING:
    Answer = Callable[[HTTPRequest], HTTPResponse | Awaitable[HTTPResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """How requests for a path are answered."""

    answer: Answer

    timeout: float = ANSWER_TIMEOUT
    """Seconds to produce the response and send it; then the connection is closed."""

    needs_client: bool = False
    """Whether `answer` is cancelled when the client closes the connection, or its sending side.

    Otherwise a client that only closes its sending side gets the response.
    """
