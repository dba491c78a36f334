"""`Gateway`: requests to etcd's JSON gateway (api-guide: the gRPC gateway, `/v3/...`).

Keys and values are base64, 64-bit numbers are strings. A request goes to the endpoint that answered
the last one, and after a failure to the others in turn. All failures are `OSError` with a text for
the operator, which begins with the endpoint.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.http.http_session import HTTPSession
from corepy.http.json_stream import JSONItems, JSONLines

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from corepy.http.http_client import HTTPTarget
    from corepy.http.http_session import StreamedResponse

TIMEOUT: Final = 5.0
"""Seconds for a request, as in CoreDNS, and between two portions of a response."""

LONGEST_SILENCE: Final = 1200.0
"""Seconds without an event of a watch, after which it is begun anew.

etcd sends its progress every ten minutes. A peer that is gone is noticed earlier, by TCP.
"""

LARGEST_ERROR: Final = 65536

UNAUTHENTICATED: Final = 16
"""The code of gRPC for a token that is not valid (any more)."""

_REQUIRES_LEADER: Final = ("Grpc-Metadata-hasleader", "true")
"""Ends the watch at a member that has lost the others, which would send no events."""

_AUTH_IS_OFF: Final = "authentication is not enabled"
_COMPACTED: Final = "has been compacted"
_FUTURE: Final = "future revision"


class EtcdError(OSError):
    """etcd has answered with an error."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Compacted(Exception):
    """The revision that a request is about is not available any more, or never was."""


class Credentials(NamedTuple):
    """A user of etcd."""

    user: str
    password: str


class Gateway:
    """A client for the members of one etcd."""

    def __init__(
        self,
        endpoints: Sequence[HTTPTarget],
        tls: Callable[[], Awaitable[ssl.SSLContext]] | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """Begin at one of the endpoints, by chance, so that many clients spread.

        `tls` returns the context for a new connection to an https endpoint.
        """
        self._sessions = [
            HTTPSession(endpoint, tls=tls, connect_timeout=TIMEOUT) for endpoint in endpoints
        ]
        self._current = secrets.randbelow(len(self._sessions))
        self._credentials = credentials
        self._token = ""
        self._watched: tuple[HTTPSession, StreamedResponse] | None = None
        """The last watch, and the session that it came from."""

    @property
    def endpoint(self) -> str:
        """The URL of the endpoint in use."""
        return _url(self._session)

    @property
    def _session(self) -> HTTPSession:
        return self._sessions[self._current]

    def fail_over(self) -> None:
        """Use the next endpoint from now on."""
        self._current = (self._current + 1) % len(self._sessions)

    def forget_token(self) -> None:
        """Authenticate again before the next request."""
        self._token = ""

    def close(self) -> None:
        """Close the idle connections."""
        for session in self._sessions:
            session.close()

    # -- requests

    async def call(self, method: str, body: Mapping[str, Any]) -> Any:
        """Return the response to a request, such as "kv/range", from any of the endpoints."""
        response = await self.open(method, body)
        async with response:
            return self._document(await response.read_all(LARGEST_ERROR, TIMEOUT))

    async def open(
        self, method: str, body: Mapping[str, Any], headers: Sequence[tuple[str, str]] = ()
    ) -> StreamedResponse:
        """Send a request and return the successful response, from any of the endpoints."""
        _, response = await self._open_anywhere(method, body, headers)
        return response

    async def _open_anywhere(
        self, method: str, body: Mapping[str, Any], headers: Sequence[tuple[str, str]]
    ) -> tuple[HTTPSession, StreamedResponse]:
        """Return the response to a request, with the session that it came from."""
        failure: OSError = EtcdError("no endpoint")
        for _ in self._sessions:
            session = self._session
            try:
                return session, await self._open_with_token(session, method, body, headers)
            except EtcdError as error:
                if _COMPACTED in str(error) or _FUTURE in str(error):
                    raise Compacted from None
                failure = error
            except OSError as error:
                failure = OSError(f"{_url(session)}: {error.strerror or error}")
            if session is self._session:
                self.fail_over()
        raise failure

    async def _open_with_token(
        self,
        session: HTTPSession,
        method: str,
        body: Mapping[str, Any],
        headers: Sequence[tuple[str, str]],
    ) -> StreamedResponse:
        if self._credentials is None:
            return await self._open(session, method, body, headers)
        if not self._token:
            await self._authenticate(session, self._credentials)
        try:
            return await self._open(session, method, body, (*headers, *self._authorization()))
        except EtcdError as error:
            if error.code != UNAUTHENTICATED:
                raise
        await self._authenticate(session, self._credentials)
        return await self._open(session, method, body, (*headers, *self._authorization()))

    def _authorization(self) -> list[tuple[str, str]]:
        return [("Authorization", self._token)] if self._token else []

    async def _authenticate(self, session: HTTPSession, credentials: Credentials) -> None:
        """Get a new token; none is needed where authentication is not enabled."""
        self._token = ""
        body = {"name": credentials.user, "password": credentials.password}
        try:
            response = await self._open(session, "auth/authenticate", body, ())
        except EtcdError as error:
            if _AUTH_IS_OFF in str(error):
                return
            raise
        async with response:
            document = self._document(await response.read_all(LARGEST_ERROR, TIMEOUT))
        token = document.get("token", "")
        if not isinstance(token, str) or not (token.isascii() and token.isprintable()):
            raise EtcdError(f"{self.endpoint}: the token is malformed")
        self._token = token

    async def _open(
        self,
        session: HTTPSession,
        method: str,
        body: Mapping[str, Any],
        headers: Sequence[tuple[str, str]],
    ) -> StreamedResponse:
        content = json.dumps(body).encode()
        all_headers = [("Content-Type", "application/json"), *headers]
        response = await session.request(
            "POST", f"/v3/{method}", all_headers, content, timeout=TIMEOUT
        )
        if response.status == 200:
            return response
        async with response:
            raise self._error(response.status, await response.read_all(LARGEST_ERROR, TIMEOUT))

    def _error(self, status: int, content: bytes) -> EtcdError:
        """Return the error in a response."""
        try:
            document = self._document(content)
        except OSError:
            document = {}
        if document.get("error") is None and document.get("message") is None:
            return EtcdError(f"{self.endpoint}: HTTP status {status}")
        return self.error_of(document)

    def error_of(self, document: Mapping[str, Any]) -> EtcdError:
        """Return the error in a document, which is "error" or in it, with the code of gRPC."""
        inner = document.get("error")
        if isinstance(inner, dict):
            document = inner
        message = document.get("message") or document.get("error") or "error"
        code = document.get("code") or document.get("grpc_code")
        code = code if isinstance(code, int) else 0
        return EtcdError(f"{self.endpoint}: {str(message)[:200]}", code)

    def _document(self, content: bytes) -> dict[str, Any]:
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise EtcdError(f"{self.endpoint}: the response is not a JSON object")
        return document

    # -- streams

    async def page(self, body: Mapping[str, Any], items: JSONItems) -> AsyncGenerator[Any, None]:
        """Yield the elements of a long response, such as "kvs" of kv/range, one by one."""
        response = await self.open("kv/range", body)
        async with response:
            while data := await response.read(TIMEOUT):
                for item in items.feed(data):
                    yield item
            for item in items.feed(b"", final=True):
                yield item

    async def watch(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the responses of a watch, the member "result" of each."""
        request = {"create_request": body}
        session, response = await self._open_anywhere("watch", request, [_REQUIRES_LEADER])
        lines = JSONLines()
        self._watched = session, response
        async with response:
            while data := await response.read(LONGEST_SILENCE):
                for document in lines.feed(data):
                    yield self._result(document)
        raise EtcdError(f"{self.endpoint}: the watch has ended")

    async def probe(self) -> None:
        """End the watch if its endpoint does not respond any more.

        The kernel of a machine answers for a process that hangs, so TCP does not notice it.
        """
        if self._watched is None:
            return
        session, watched = self._watched
        try:
            response = await self._open(session, "maintenance/status", {}, ())
        except EtcdError:
            return
        except OSError:
            watched.close()
        else:
            async with response:
                await response.read_all(LARGEST_ERROR, TIMEOUT)

    def _result(self, document: Any) -> dict[str, Any]:
        result = document.get("result") if isinstance(document, dict) else None
        if isinstance(result, dict):
            return result
        raise self.error_of(document if isinstance(document, dict) else {})


def _url(session: HTTPSession) -> str:
    return session.target.url.removesuffix("/")


def encoded(data: bytes) -> str:
    """Return bytes for a request."""
    return base64.b64encode(data).decode("ascii")


def decoded(members: Mapping[str, Any], name: str) -> bytes:
    """Return the bytes in a member of a response; raises ValueError if it is malformed."""
    text = members.get(name, "")
    if not isinstance(text, str):
        raise ValueError(f"{name} is not a string")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is not base64") from None


def number(members: Mapping[str, Any], name: str) -> int:
    """Return a 64-bit number in a response, 0 if it is not there; raises ValueError."""
    value = members.get(name, 0)
    if isinstance(value, str) and len(value) <= 20:
        return int(value)
    if type(value) is int:
        return value
    raise ValueError(f"{name} is not a number")


def member(members: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object in a response, empty if it is not there; raises ValueError."""
    value = members.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")
    return value


def elements(members: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return an array of objects in a response, empty if it is not there; raises ValueError."""
    value = members.get(name) or []
    if not isinstance(value, list) or not all(isinstance(it, dict) for it in value):
        raise ValueError(f"{name} is not an array of objects")
    return value
