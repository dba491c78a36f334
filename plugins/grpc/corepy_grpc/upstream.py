"""One upstream: its connection, which is made at the first query and again after it was lost."""

from __future__ import annotations

import asyncio
import os
import ssl
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.dns import Reply
from corepy.dns.constants import NXDOMAIN, rcode_name
from corepy.dns.form_error import FormError
from corepy.net.dns_packet import pack
from corepy.plugin.shared_task import shared_result
from corepy_grpc import metrics
from corepy_grpc.connection import Connection, Lost
from corepy_grpc.messages import NOT_FOUND, CallError, decode, request_headers

if TYPE_CHECKING:
    from corepy.net.http2_client import Response

DIAL_TIMEOUT: Final = 4.0
"""Seconds for connecting, including the TLS handshake."""

LEAST_PAUSE: Final = 0.1
MOST_PAUSE: Final = 5.0
"""Seconds after a failed connect during which queries fail at once; doubled each time."""

_ATTEMPTS: Final = 2
_UNREACHABLE: Final = "transport: Error while dialing"
_WITHOUT_TLS: Final = "if the server expects TLS, use the option tls"


class UpstreamError(Exception):
    """Raised for a query without a usable reply, with the reason."""


class Target(NamedTuple):
    """The address of an upstream."""

    host: str
    """IP address, maybe with a zone; or the path of a Unix socket."""

    port: int
    """0 for a Unix socket."""

    @property
    def address(self) -> str:
        """The text for logs and metrics."""
        if not self.port:
            return f"unix://{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Upstream:
    """See the module."""

    def __init__(self, target: Target, context: ssl.SSLContext | None, server_name: str) -> None:
        """Connect with TLS if there is a `context`; verify `server_name` or else the address."""
        self.address = target.address
        self.target = target
        self._context = context
        address = target.host.partition("%")[0] if target.port else "localhost"
        self._server_name = server_name or address
        self._scheme = "http" if context is None else "https"
        self._authority = server_name or (target.address if target.port else "localhost")
        self._connection: Connection | None = None
        self._dialling: asyncio.Task[Connection] | None = None
        self._no_dial_until = 0.0
        self._pause = LEAST_PAUSE
        self._problem = ""
        self._is_closed = False
        self.replies = self.failures = 0
        self.last_failure: str | None = None

    def status(self) -> dict[str, Any]:
        """Return the state for an operator; see `corepy.plugin.HookSpecs.status`."""
        return {
            "address": self.address,
            "protocol": "grpc",
            "state": "down" if self.is_down else "up",
            "queries": self.replies + self.failures,
            "failures": self.failures,
            "last_failure": self.last_failure,
        }

    @property
    def is_down(self) -> bool:
        """Whether the last attempt to connect has failed."""
        return bool(self._problem)

    async def ask(self, wire: bytes, seconds: float) -> Reply | None:
        """Return the reply to a query, None if the upstream does not find the name.

        Waits for at most some seconds. Raises `UpstreamError`.
        """
        started = monotonic()
        try:
            async with asyncio.timeout(seconds):
                response = await self._call(wire, started + seconds)
            reply = self._reply(response)
        except (CallError, FormError, Lost, OSError) as error:
            reason = str(error) or "i/o timeout"  # TimeoutError is an OSError
            self.failures += 1
            self.last_failure = reason
            raise UpstreamError(f"{self.address}: {reason}") from None
        self._count(NXDOMAIN if reply is None else reply.rcode, monotonic() - started)
        return reply

    def _reply(self, response: Response) -> Reply | None:
        try:
            return Reply.from_wire(decode(response.headers, response.body, response.trailers))
        except CallError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def _count(self, rcode: int, seconds: float) -> None:
        self.replies += 1
        metrics.REQUESTS.labels(self.address).inc()
        metrics.RESPONSES.labels(rcode_name(rcode), self.address).inc()
        metrics.DURATION.labels(self.address).observe(seconds)

    async def _call(self, wire: bytes, deadline: float) -> Response:
        """Return the response; a call that is lost with its connection is repeated once."""
        body = pack(wire)
        for attempt in range(1, _ATTEMPTS + 1):
            connection = self._connection
            if connection is None or not connection.is_usable:
                connection = await self._connect()
            left = max(int((deadline - monotonic()) * 1000), 1)
            headers = request_headers(self._scheme, self._authority, left)
            try:
                return await connection.call(headers, body)
            except Lost as error:
                if attempt == _ATTEMPTS or not error.may_repeat:
                    raise
        raise AssertionError("unreachable")

    async def _connect(self) -> Connection:
        """Return a new connection, for which all queries wait together; raises OSError."""
        if self._is_closed:
            raise OSError("the server is stopping")
        if self._dialling is None:
            if monotonic() < self._no_dial_until:
                raise OSError(self._problem)
            self._dialling = asyncio.create_task(self._dial())
            self._dialling.add_done_callback(self._dialled)
        return await shared_result(self._dialling)

    def _dialled(self, task: asyncio.Task[Connection]) -> None:
        self._dialling = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._problem = str(error)
            jitter = 0.8 + 0.4 * os.urandom(1)[0] / 255
            self._no_dial_until = monotonic() + self._pause * jitter
            self._pause = min(2 * self._pause, MOST_PAUSE)

    async def _dial(self) -> Connection:
        """Connect; raises OSError with a reason for the operator."""
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                connection = await self._begin()
        except TimeoutError:
            raise TimeoutError(f"{_UNREACHABLE}: i/o timeout") from None
        except (OSError, ValueError) as error:
            raise OSError(f"{_UNREACHABLE}: {_explain(error)}") from None
        except Lost as error:
            hint = f"; {_WITHOUT_TLS}" if self._context is None else ""
            raise OSError(f"{_UNREACHABLE}: {error}{hint}") from None
        self._pause = LEAST_PAUSE
        self._problem = ""
        self._connection = connection
        return connection

    async def _begin(self) -> Connection:
        """Return a connection to a server of HTTP/2; raises OSError, ValueError and `Lost`.

        With TLS, the handshake has negotiated the protocol. Without, the server has to begin.
        """
        transport, connection = await self._open()
        try:
            secure = transport.get_extra_info("ssl_object")
            if secure is None:
                await connection.begun()
            elif secure.selected_alpn_protocol() != "h2":
                raise Lost("the server does not speak HTTP/2", may_repeat=False)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _open(self) -> tuple[asyncio.BaseTransport, Connection]:
        loop, target = asyncio.get_running_loop(), self.target
        name = None if self._context is None else self._server_name
        if not target.port:
            return await loop.create_unix_connection(
                Connection, target.host, ssl=self._context, server_hostname=name
            )
        return await loop.create_connection(
            Connection, target.host, target.port, ssl=self._context, server_hostname=name
        )

    def close(self) -> None:
        """Close the connection, and make no other."""
        self._is_closed = True
        if self._dialling is not None:
            self._dialling.cancel()
        if self._connection is not None:
            self._connection.abort()


def _explain(error: Exception) -> str:
    """Return the reason for a connection that was not made."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {error.verify_message}".lower()
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason or error}".lower().replace("_", " ")
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number and number > 0 else str(error).lower()
