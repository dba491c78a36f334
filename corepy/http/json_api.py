"""Sends requests to a JSON API, for plugins that copy data from a cloud.

A response has a bound in size and in time, and a redirect is an error: its target would get what
the request has, such as a token.

All failures are `OSError` with a text for the operator that has no secrets. `APIError` is an error
response; its text has what the API says about the reason.
"""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from corepy.http.http_session import HTTPSession
from corepy.plugin import in_thread

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Mapping

    from corepy.http.http_client import HTTPTarget
    from corepy.http.http_session import Headers, StreamedResponse

CONNECT_TIMEOUT: Final = 10.0
"""Seconds."""

RESPONSE_TIMEOUT: Final = 30.0
"""Seconds until the head of a response."""

CONTENT_TIMEOUT: Final = 60.0
"""Seconds for the content of a response."""

LARGEST_DOCUMENT: Final = 1 << 20
"""Bytes of a document with a token, or with an error."""

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
        self._session = HTTPSession(target, tls=_system_tls, connect_timeout=CONNECT_TIMEOUT)

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
                return await _content(response, most)
        except APIError as error:
            message = f"{target.authority}: {_without(str(error), secrets)}"
            raise APIError(error.status, message, error.code, error.retry_after) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(f"{target.authority}: {_without(reason, secrets)}") from None

    def close(self) -> None:
        """Close the idle connections."""
        self._session.close()


async def _content(response: StreamedResponse, most: int) -> bytes:
    """Return the content of a response with the status 200; raises `APIError`."""
    if response.status in _REDIRECTS:
        raise APIError(response.status, _redirected(response))
    is_error = response.status != _OK
    most = LARGEST_DOCUMENT if is_error else most
    try:
        async with asyncio.timeout(CONTENT_TIMEOUT):
            content = await response.read_all(
                LARGEST_DOCUMENT if is_error else most, CONTENT_TIMEOUT
            )
    except TimeoutError:
        reason = f"the response did not end within {CONTENT_TIMEOUT:g} s"
        raise TimeoutError(reason) from None
    except OSError:
        if not is_error:
            raise
        content = b""
    if not is_error:
        return content
    code, message = error_of(content)
    text = ": ".join(part for part in (f"HTTP status {response.status}", code, message) if part)
    raise APIError(response.status, text, code, response.retry_after)


def _redirected(response: StreamedResponse) -> str:
    place = one_line(response.headers.get("location", "").partition("?")[0])
    return f"HTTP status {response.status}: redirect to {place or '?'}, which is not followed"


def error_of(content: bytes) -> tuple[str, str]:
    """Return the code and the message of an error response, "" for what it does not have.

    The message has no full stop at its end, so that a hint can follow.

    Known are the errors of OAuth (RFC 6749 section 5.2), of Microsoft's and of Google's APIs. Any
    other content, such as the page of a proxy, is named as such.
    """
    try:
        fields = document_of(content)
    except OSError:
        return "", "" if not content.strip() else "the content is not from the API (not JSON)"
    error = fields.get("error")
    if not isinstance(error, dict):
        return _text(error), _text(fields.get("error_description")).removesuffix(".")
    code = error.get("code")
    name = _text(code) or _reason(error) or _text(error.get("status"))
    return name, _text(error.get("message")).removesuffix(".")


def _reason(error: Mapping[str, Any]) -> str:
    details = error.get("errors")
    first = details[0] if isinstance(details, list) and details else None
    return _text(first.get("reason")) if isinstance(first, dict) else ""


def _text(value: object) -> str:
    return one_line(value) if isinstance(value, str) else ""


def one_line(text: str) -> str:
    """Return a text of the API as one line of printable characters, shortened."""
    line = " ".join("".join(it if it.isprintable() else " " for it in text[:4096]).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} [...]"


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


async def _system_tls() -> ssl.SSLContext:
    """Return a context with the system's CA certificates."""
    from corepy.plugin.tls_client import TLSFiles, client_context

    context: ssl.SSLContext = await in_thread(lambda: client_context(TLSFiles(), ()))
    return context


def is_protected(target: HTTPTarget) -> bool:
    """Return whether secrets may be sent: over TLS, or within this host."""
    return target.scheme == "https" or is_loopback(target.host)


def is_loopback(host: str) -> bool:
    """Return whether a host is this one: "localhost", or a loopback address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
