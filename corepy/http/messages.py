"""HTTP requests and responses, independent of any HTTP library."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """An HTTP request."""

    method: str
    """The method, such as GET. Every method is answered, as in CoreDNS; HEAD without the body."""

    path: str
    """The path, without the query."""

    headers: dict[str, str]
    """The header fields by name in lower case; the last one of several with the same name."""


@dataclass(frozen=True, slots=True)
class HTTPResponse:
    """An HTTP response."""

    body: bytes | AsyncIterator[bytes] = b""
    status: int = HTTPStatus.OK
    content_type: str = TEXT


if TYPE_CHECKING:
    Answer = Callable[[HTTPRequest], HTTPResponse | Awaitable[HTTPResponse]]
