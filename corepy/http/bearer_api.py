"""Sends requests to a JSON API that demands a bearer token (RFC 6750).

A token is kept until shortly before its end, and fetched anew when the API refuses it.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.http.json_api import JSONAPI, APIError, document_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy.http.http_client import HTTPTarget

UNAUTHORIZED: Final = 401

USUAL_LIFETIME: Final = 300.0
"""Seconds for which a token is used if its lifetime is unknown (RFC 6749 section 5.1)."""

MARGIN: Final = 300.0
"""Seconds before the end of a token at which it is replaced, at most half of its lifetime."""

_VISIBLE: Final = re.compile("[!-~]+")
"""A token, whose characters can be sent in a header."""


class Token(NamedTuple):
    """A bearer token."""

    value: str
    until: float
    """The time of `time.monotonic` from which another one is fetched."""

    headers: tuple[tuple[str, str], ...] = ()
    """Headers that requests with it must have, besides that of the token."""


def token_of(content: bytes) -> Token:
    """Return the token in a response (RFC 6749 section 5.1); raises `OSError`."""
    fields = document_of(content)
    return made_token(fields.get("access_token"), _seconds(fields.get("expires_in")))


def made_token(value: object, lifetime: float) -> Token:
    """Return a token with a lifetime in seconds; raises `OSError` if it is not a token."""
    if not isinstance(value, str) or not _VISIBLE.fullmatch(value):
        raise OSError("the response has no usable access token")
    return Token(value, time.monotonic() + lifetime - min(MARGIN, lifetime / 2))


def _seconds(value: object) -> float:
    """Return a lifetime, which some servers send as text; a day at most."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 9:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return USUAL_LIFETIME
    return min(float(value), 86400.0)


class BearerAPI:
    """A server of an API that demands a bearer token."""

    def __init__(self, target: HTTPTarget, fetch: Callable[[], Awaitable[Token]]) -> None:
        """`fetch` returns a new token, or raises `OSError`."""
        self.api = JSONAPI(target)
        self._fetch = fetch
        self._token: Token | None = None
        self._lock = asyncio.Lock()

    async def get(self, path: str, *, most: int) -> bytes:
        """Return the content of a response; raises as `JSONAPI.get`, or what `fetch` raises.

        A token that the API refuses is replaced once: it may have been revoked, or have ended.
        """
        token = await self._current()
        try:
            return await self._get(token, path, most)
        except APIError as error:
            if error.status != UNAUTHORIZED:
                raise
        return await self._get(await self._current(), path, most)

    async def _get(self, token: Token, path: str, most: int) -> bytes:
        headers = [("Authorization", f"Bearer {token.value}"), *token.headers]
        try:
            return await self.api.get(path, headers, most=most, secrets=(token.value,))
        except APIError as error:
            if error.status == UNAUTHORIZED:
                self._forget(token)
            raise

    async def _current(self) -> Token:
        async with self._lock:  # one request for a token, however many zones wait for it
            token = self._token
            if token is None or time.monotonic() >= token.until:
                self._token = token = await self._fetch()
            return token

    def _forget(self, token: Token) -> None:
        """Fetch another token before the next request, unless that has happened already."""
        if self._token is token:
            self._token = None

    def close(self) -> None:
        """Close the idle connections."""
        self.api.close()
