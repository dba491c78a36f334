"""Sends requests to the API of Kubernetes: servers in turn, credentials, limits and metrics."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from corepy.http.http_session import HTTPSession
from corepy_kubernetes import api_metrics
from corepy_kubernetes.api_credentials import Authorization, ClientTLS
from corepy_kubernetes.api_limits import RequestLimiter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.http.http_client import HTTPTarget
    from corepy.http.http_session import Headers, StreamedResponse
    from corepy_kubernetes.api_config import Access, Limits

RESPONSE_TIMEOUT: Final = 30.0
"""Seconds until the head of a response, after which another server is asked."""

CONNECT_TIMEOUT: Final = 10.0
READ_TIMEOUT: Final = 30.0
"""Seconds of silence in a response that is not a watch."""

LARGEST_STATUS: Final = 1 << 20
"""Bytes of the content of an error response that are read."""

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
GONE: Final = 410
_OK: Final = 200
_REDIRECTS: Final = range(300, 400)
_FIRST_SERVER_ERROR: Final = 500
_LONGEST: Final = 300


class APIError(OSError):
    """The API has refused a request, or has ended a watch with an error."""

    def __init__(self, status: int, content: Any, retry_after: float | None = None) -> None:
        """Take the HTTP status, or the code of an event, and the object of kind Status."""
        fields = content if isinstance(content, dict) else {}
        self.status = status
        self.reason = _text(fields.get("reason"))
        message = _text(fields.get("message")) or self.reason
        super().__init__(f"HTTP status {status}: {message}"[:_LONGEST].rstrip(": "))
        details = fields.get("details")
        self._details: dict[str, Any] = details if isinstance(details, dict) else {}
        seconds = self._details.get("retryAfterSeconds")
        is_number = isinstance(seconds, int) and not isinstance(seconds, bool)
        self.retry_after = retry_after or (float(seconds) if is_number and seconds else None)
        """Seconds after which the API may be asked again, if it names them."""

    @property
    def is_expired(self) -> bool:
        """Whether the resource version, or the rest of a list, is not available any more."""
        return self.status == GONE or self.reason in ("Expired", "Gone")

    @property
    def is_too_new(self) -> bool:
        """Whether the resource version is newer than all that the server knows."""
        causes = self._details.get("causes")
        return isinstance(causes, list) and any(
            isinstance(cause, dict) and cause.get("reason") == "ResourceVersionTooLarge"
            for cause in causes
        )


def _text(value: object) -> str:
    text = value if isinstance(value, str) else ""
    return "".join(char if char.isprintable() else " " for char in text)


class APIClient:
    """Sends GET requests, to one of several servers until that one fails."""

    def __init__(self, access: Access, limits: Limits) -> None:
        tls = ClientTLS(access)
        self._authorization = Authorization(access)
        self._limiter = RequestLimiter(limits)
        self._servers = [
            HTTPSession(
                target,
                tls=tls.context,
                server_name=access.server_name,
                connect_timeout=CONNECT_TIMEOUT,
            )
            for target in access.endpoints
        ]
        self._current = 0

    @property
    def server(self) -> HTTPTarget:
        """The server that is asked first."""
        return self._servers[self._current].target

    async def get(
        self, path: str, query: Mapping[str, str], *, is_first: bool = True, timed: bool = True
    ) -> StreamedResponse:
        """Return the response with status 200 to a request; the caller closes it.

        A further page of a list (not `is_first`) is not limited. With `timed` the metric of the
        latency counts the request. Raises `APIError`, and `OSError` if no server responds.
        """
        if is_first:
            waited = await self._limiter.wait()
            host = self.server.authority
            api_metrics.RATE_LIMITER_SECONDS.labels("GET", host).observe(waited)
        failure: OSError | None = None
        for _ in self._servers:
            session = self._servers[self._current]
            try:
                response = await self._authorized(session, path, query, timed=timed)
            except OSError as error:
                failure = error
                self._leave(session)
                continue
            if response.status == _OK:
                return response
            if response.status >= _FIRST_SERVER_ERROR:
                self._leave(session)
            raise await _error(response)
        assert failure is not None
        raise failure

    def _leave(self, session: HTTPSession) -> None:
        """Ask the next server from now on."""
        if self._servers[self._current] is session:
            self._current = (self._current + 1) % len(self._servers)

    async def _authorized(
        self, session: HTTPSession, path: str, query: Mapping[str, str], *, timed: bool
    ) -> StreamedResponse:
        """Return a response; if the token was replaced meanwhile, send the request again."""
        sent = await self._authorization.headers()
        response = await self._send(session, path, query, sent, timed=timed)
        if response.status != UNAUTHORIZED:
            return response
        try:
            await self._authorization.renew()
            current = await self._authorization.headers()
        except BaseException:
            response.close()
            raise
        if current == sent:
            return response
        response.close()
        return await self._send(session, path, query, current, timed=timed)

    async def _send(
        self,
        session: HTTPSession,
        path: str,
        query: Mapping[str, str],
        authorization: Headers,
        *,
        timed: bool,
    ) -> StreamedResponse:
        target = session.target
        url = f"{target.path.rstrip('/')}{path}?{urlencode(query, quote_via=quote)}"
        headers = [("Accept", "application/json"), *authorization]
        code = "<error>"
        async with self._limiter.in_flight():
            begun = time.monotonic()
            try:
                response = await session.request("GET", url, headers, timeout=RESPONSE_TIMEOUT)
                code = str(response.status)
                return response
            finally:
                api_metrics.REQUESTS.labels(code, "GET", target.authority).inc()
                if timed:
                    seconds = time.monotonic() - begun
                    child = api_metrics.REQUEST_SECONDS.labels("GET", target.authority)
                    child.observe(seconds)

    def close(self) -> None:
        """Close the idle connections."""
        for session in self._servers:
            session.close()


async def _error(response: StreamedResponse) -> APIError:
    location = response.headers.get("location")
    if response.status in _REDIRECTS and location is not None:
        response.close()
        message = f"redirect to {location}, which is not followed; use the address of the API"
        return APIError(response.status, {"message": message}, response.retry_after)
    try:
        content = json.loads(await response.read_all(LARGEST_STATUS, READ_TIMEOUT))
    except (OSError, ValueError, RecursionError):
        content = None  # such as the page of a proxy
    return APIError(response.status, content, response.retry_after)
