"""Small requests for credentials, each over a connection of its own."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.http.http_client import parse_url
from corepy.http.http_session import HTTPSession
from corepy.plugin import in_thread
from corepy.plugin.reading import read_file
from corepy.plugin.tls_client import TLSFiles, client_context
from corepy.zone.polled_api import PollError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from corepy.http.http_client import HTTPTarget

LARGEST: Final = 65536
"""Bytes of a response or of a token."""

TIMEOUT: Final = 10.0
"""Seconds for each step of a request."""


class Response(NamedTuple):
    """A response that was read to its end."""

    status: int
    body: bytes
    date: str
    """The header Date."""

    retry_after: float | None = None


async def send(
    session: HTTPSession,
    method: str,
    path: str,
    headers: Sequence[tuple[str, str]],
    body: bytes = b"",
    *,
    most: int = LARGEST,
    timeout: float = TIMEOUT,
) -> Response:
    """Return the response to a request; raises `OSError`. Redirections are not followed."""
    response = await session.request(method, path, headers, body, timeout=timeout)
    async with response:
        content = await response.read_all(most, timeout)
    date = response.headers.get("date", "")
    return Response(response.status, content, date, response.retry_after)


async def send_once(
    target: HTTPTarget,
    method: str,
    headers: Sequence[tuple[str, str]],
    body: bytes = b"",
    *,
    path: str | None = None,
    timeout: float = TIMEOUT,
) -> Response:
    """Return the response to a request, by default for the path of `target`."""
    session = HTTPSession(target, connect_timeout=timeout)
    try:
        where = (target.path or "/") if path is None else path
        return await send(session, method, where, headers, body, timeout=timeout)
    finally:
        session.close()


def session_for(target: HTTPTarget, ca_bundle: str) -> HTTPSession:
    """Return a session that trusts the system's certificates, or those in AWS_CA_BUNDLE."""
    if not ca_bundle:
        return HTTPSession(target)

    async def tls() -> ssl.SSLContext:
        files = TLSFiles(ca=Path(ca_bundle))
        try:
            context: ssl.SSLContext = await in_thread(partial(client_context, files, ()))
        except ValueError as error:
            raise OSError(f"AWS_CA_BUNDLE: {error}") from None
        return context

    return HTTPSession(target, tls=tls)


def target_of(url: str, variable: str) -> HTTPTarget:
    """Return the target of a URL in an environment variable; raises `PollError`."""
    try:
        return parse_url(url)
    except ValueError as error:
        raise PollError(f"{variable}: {error}") from None


async def read_token(path: str, variable: str) -> str:
    """Return the token in a file that an environment variable names; raises `PollError`."""
    try:
        content, _ = await in_thread(partial(read_file, Path(path), LARGEST))
    except OSError as error:
        reason = error.strerror or error
        raise PollError(f"cannot read {path} ({variable}): {reason}") from None
    token: str = content.decode("utf-8", "replace").strip()
    if not token or not (token.isascii() and token.isprintable()):
        raise PollError(f"{path} ({variable}) has no token")
    return token


def unix_time(text: str) -> float | None:
    """Return the Unix time of an expiration such as 2026-01-01T00:00:00Z, None if malformed."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None
