"""What is asked and what is answered, free of any HTTP library."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    method: str
    """Such as GET. Any method is answered, as in CoreDNS; HEAD without the body."""

    path: str
    """Without the query."""

    headers: dict[str, str]
    """By name in lower case; of several with the same name, the last."""


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered."""

    body: bytes | AsyncIterator[bytes] = b""
    status: int = HTTPStatus.OK
    content_type: str = TEXT


if TYPE_CHECKING:
    Answer = Callable[[Request], Response | Awaitable[Response]]
