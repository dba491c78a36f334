"""Sends requests to a JSON API, for plugins that copy data from a cloud.

A response has a bound in size and in time, and a redirect is an error: its target would get what
the request has, such as a token.

All failures are `OSError` with a text for the operator that has no secrets. `APIError` is an error
response; its text has what the API says about the reason.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from corepy.http.http_session import HTTPSession
from corepy.plugin.errors import printable_line

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from corepy.http.http_client import HTTPTarget
    from corepy.http.http_session import Headers, StreamedResponse

CONNECT_TIMEOUT: Final = 10.0
"""Seconds."""

RESPONSE_TIMEOUT: Final = 30.0
"""Seconds until the head of a response."""

CONTENT_TIMEOUT: Final = 60.0
"""Seconds for the content of a response."""

LARGEST_DOCUMENT: Final = 1 << 17
"""Bytes of a document with a token, or with an error, which the event loop decodes in 15 ms."""

_OK: Final = 200
_REDIRECTS: Final = range(300, 400)

_LONGEST: Final = 400
"""Characters of an error."""

_SHORTEST_SECRET: Final = 6
"""Characters from which a secret is removed from an error; a shorter text is common in words."""


class APIError(OSError):
    """The API has answered with an error."""

    def __init__(
        self, status: int, message: str, code: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        """The code of the error in the document, such as "AuthorizationFailed"."""
        self.retry_after = retry_after
        """Seconds after which the API may be asked again, if it names them."""


class JSONAPI:
    """One server of an API."""

    def __init__(self, target: HTTPTarget) -> None:
        """Send requests to a server; the path of `target` is put before those of requests.

        The server's certificate is verified with the system's CA certificates, or those of the
        environment variables SSL_CERT_FILE and SSL_CERT_DIR.
        """
        self.target = target
        self._session = HTTPSession(target, connect_timeout=CONNECT_TIMEOUT)

    async def get(
        self,
        path: str,
        headers: Headers = (),
        *,
        most: int = LARGEST_DOCUMENT,
        secrets: Collection[str] = (),
    ) -> bytes:
        """Return the content of the response, which has at most `most` bytes.

        Occurrences of `secrets` are removed from the texts of errors. Raises `APIError` for an
        error response, `OSError` without a response.
        """
        return await self._exchange("GET", path, headers, b"", most, secrets)

    async def post_form(
        self,
        path: str,
        fields: Mapping[str, str],
        headers: Headers = (),
        *,
        secrets: Collection[str] = (),
    ) -> bytes:
        """Send the fields of a form and return the content of the response; raises as `get`."""
        form = ("Content-Type", "application/x-www-form-urlencoded")
        body = urlencode(fields).encode()
        return await self._exchange("POST", path, (form, *headers), body, LARGEST_DOCUMENT, secrets)

    async def post_json(
        self, path: str, document: object, headers: Headers = (), *, secrets: Collection[str] = ()
    ) -> bytes:
        """Send a document and return the content of the response; raises as `get`."""
        kind = ("Content-Type", "application/json")
        body = json.dumps(document).encode()
        return await self._exchange("POST", path, (kind, *headers), body, LARGEST_DOCUMENT, secrets)

    async def _exchange(
        self,
        method: str,
        path: str,
        headers: Headers,
        body: bytes,
        most: int,
        secrets: Collection[str],
    ) -> bytes:
        target = self.target
        url = target.path.rstrip("/") + path or "/"
        every = [("Accept", "application/json"), *headers]
        try:
            response = await self._session.request(
                method, url, every, body, timeout=RESPONSE_TIMEOUT
            )
            async with response:
                return await _content(response, most, secrets)
        except APIError as error:
            message = f"{target.authority}: {error}"
            raise APIError(error.status, message, error.code, error.retry_after) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(f"{target.authority}: {_without(reason, secrets)}") from None

    def close(self) -> None:
        """Close the idle connections."""
        self._session.close()


async def _content(response: StreamedResponse, most: int, secrets: Collection[str]) -> bytes:
    """Return the content of a response with the status 200; raises `APIError`."""
    status = response.status
    if status == _OK:
        return await _read(response, most)
    if status in _REDIRECTS:
        raise APIError(status, f"HTTP status {status}: {_redirected(response, secrets)}")
    content = b""
    with suppress(OSError):  # the status is reported, with or without its reason
        content = await _read(response, LARGEST_DOCUMENT)
    code, message = error_of(content, secrets)
    text = ": ".join(part for part in (f"HTTP status {status}", code, message) if part)
    raise APIError(status, text, code, response.retry_after)


async def _read(response: StreamedResponse, most: int) -> bytes:
    try:
        async with asyncio.timeout(CONTENT_TIMEOUT):
            return await response.read_all(most, CONTENT_TIMEOUT)
    except TimeoutError:
        reason = f"the response did not end within {CONTENT_TIMEOUT:g} s"
        raise TimeoutError(reason) from None


def _redirected(response: StreamedResponse, secrets: Collection[str]) -> str:
    place = _text(response.headers.get("location", "").partition("?")[0], secrets)
    return f"redirect to {place or '?'}, which is not followed"


def error_of(content: bytes, secrets: Collection[str] = ()) -> tuple[str, str]:
    """Return the code and the message of an error response, "" for what it does not have.

    The message has no full stop at its end, so that a hint can follow. Both are without `secrets`.

    It reads the errors of OAuth (RFC 6749 section 5.2), of Microsoft's and of Google's APIs. For
    any other content, such as the page of a proxy, the message reports that.
    """
    try:
        fields = document_of(content)
    except OSError:
        return "", "" if not content.strip() else _FOREIGN
    error = fields.get("error")
    text = partial(_text, secrets=secrets)
    if not isinstance(error, dict):
        return text(error), text(fields.get("error_description")).removesuffix(".")
    code = text(error.get("code")) or text(_reason(error)) or text(error.get("status"))
    return code, text(error.get("message")).removesuffix(".")


_FOREIGN: Final = "the content is not from the API (not a JSON object)"


def _reason(error: Mapping[str, Any]) -> object:
    details = error.get("errors")
    first = details[0] if isinstance(details, list) and details else None
    return first.get("reason") if isinstance(first, dict) else None


def _text(value: object, secrets: Collection[str]) -> str:
    """Return a text of the API for a message: the secrets go first, before it is shortened."""
    return one_line(_without(value, secrets)) if isinstance(value, str) else ""


def one_line(text: str) -> str:
    """Return a text of the API as one line of printable characters, shortened."""
    return printable_line(text[:4096], _LONGEST, " [...]")


def _without(text: str, secrets: Collection[str]) -> str:
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def document_of(content: bytes) -> dict[str, Any]:
    """Return the JSON object in a response; raises `OSError` if there is none."""
    try:
        document = json.loads(content)
    except RecursionError:
        raise OSError("the response is JSON that is nested too deeply") from None
    except ValueError as error:
        raise OSError(
            f"the response is not JSON ({one_line(str(error))}); is it from a proxy?"
        ) from None
    if not isinstance(document, dict):
        raise OSError("the response is not a JSON object")
    return document


def is_protected(target: HTTPTarget) -> bool:
    """Return whether secrets may be sent: over TLS, or within this host."""
    return target.scheme == "https" or is_loopback(target.host)


def is_loopback(host: str) -> bool:
    """Return whether a host is this one: "localhost", or a loopback address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
