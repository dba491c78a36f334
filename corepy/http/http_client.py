"""Sends POST requests to one URL, for plugins that report to a collector.

Like the server, it does the I/O around h11. One connection is kept open between requests. A name is
resolved in a thread of its own at each connection, because it may have moved, and because the
resolver of the system may be this very server. Modules for TLS are imported for `https` only.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import h11

from corepy.http.connecting import connect
from corepy.plugin import in_thread
from corepy.plugin.errors import printable_line

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from urllib.parse import SplitResult

PORTS: Final = {"http": 80, "https": 443}
MAX_RESPONSE: Final = 65536
"""Bytes of a response that are read, roughly; the connection of a longer one is closed."""

MAX_READ: Final = 4096
"""Bytes that are processed in one turn of the event loop.

They may be hundreds of tiny chunks or preliminary responses, which take milliseconds to read.
"""

MAX_EXCERPT: Final = 200
"""Bytes of the content, and characters of an error, that are kept for messages."""


@dataclass(frozen=True, slots=True)
class HTTPTarget:
    """The parts of a URL that a request needs."""

    scheme: str
    host: str
    port: int
    path: str
    """The path with the query string, "" if the URL has neither."""

    authorization: str = ""
    """The value of the header Authorization, for user name and password in the URL."""

    @property
    def authority(self) -> str:
        """The value of the header Host, which leaves out the default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL without user name, password and query string, for messages."""
        return f"{self.scheme}://{self.authority}{self.path.partition('?')[0] or '/'}"


def parse_url(text: str) -> HTTPTarget:
    """Return the target that a URL names; raises `ValueError` with the reason if there is none."""
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("a URL has only printable ASCII characters")
    parts = urlsplit(text)
    scheme = parts.scheme.lower()
    if scheme not in PORTS:
        raise ValueError(f"a URL begins with http:// or https://, not {scheme or text!r}")
    host, port = parts.hostname or "", _port(parts)
    if not host:
        raise ValueError("the URL names no host")
    if ":" in host:
        ip_address(host)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path
    return HTTPTarget(scheme, host, port or PORTS[scheme], path, _authorization(parts.netloc))


def _port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the port of the URL is not a number from 1 to 65535")
    return port


def _authorization(netloc: str) -> str:
    credentials, at, _ = netloc.rpartition("@")
    if not at:
        return ""
    return "Basic " + base64.b64encode(unquote(credentials).encode()).decode("ascii")


@dataclass(frozen=True, slots=True)
class HTTPResult:
    """The response to a request."""

    status: int
    excerpt: str
    """The beginning of the content as one line, for messages."""

    retry_after: float | None
    """Seconds from the header Retry-After, if it has a number."""


class HTTPClient:
    """Sends requests to one target, one after the other."""

    def __init__(
        self, target: HTTPTarget, timeout: float, tls: ssl.SSLContext | None = None
    ) -> None:
        """Limit each request, with all that belongs to it, to `timeout` seconds.

        `tls` is the context for an `https` target, by default one with the system's certificates.
        """
        self.target = target
        self._timeout = timeout
        self._tls = tls
        self._connection: _Connection | None = None

    async def post(self, body: bytes, headers: Sequence[tuple[str, str]]) -> HTTPResult:
        """Send a request and return the response, whichever status it has.

        Raises `OSError` with a text for the operator if there is none: TimeoutError, a refused
        connection, a failed handshake, an unknown name, or a response that is not HTTP.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(body, headers)
        except TimeoutError:
            raise TimeoutError(f"no response within {self._timeout:g} s") from None
        except h11.RemoteProtocolError as error:
            problem = f"the response is not HTTP/1.1: {error}"
            raise OSError(problem[:MAX_EXCERPT]) from None
        finally:
            if self._connection is not None and not self._connection.is_reusable:
                self.close()

    async def _post(self, body: bytes, headers: Sequence[tuple[str, str]]) -> HTTPResult:
        if self._connection is not None:
            try:
                return await self._connection.exchange(self.target, body, headers)
            except (OSError, EOFError):  # the server has closed an idle connection
                self.close()
        self._connection = connection = _Connection(*await self._connect())
        try:
            return await connection.exchange(self.target, body, headers)
        except EOFError:
            raise ConnectionError("the connection was closed without a response") from None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        target = self.target
        if target.scheme == "https" and self._tls is None:
            from corepy.plugin.tls_client import system_context

            self._tls = await in_thread(system_context)  # reads many files
        return await connect(target.host, target.port, self._timeout, self._tls)

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Connection:
    """A connection, with the state of the protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)
        self._received = 0  # bytes of this response

    @property
    def is_reusable(self) -> bool:
        """Whether a request may be sent."""
        return self._http.our_state is h11.IDLE and not self._writer.is_closing()

    async def exchange(
        self, target: HTTPTarget, body: bytes, headers: Sequence[tuple[str, str]]
    ) -> HTTPResult:
        """Send a request and return the response; raises `EOFError` if there is none."""
        self._received = 0
        fields = [("Host", target.authority), ("User-Agent", "corepy"), *headers]
        fields.append(("Content-Length", str(len(body))))
        if target.authorization:
            fields.append(("Authorization", target.authorization))
        request = h11.Request(method="POST", target=target.path or "/", headers=fields)
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        self._writer.write(b"".join(self._http.send(event) or b"" for event in events))
        await self._writer.drain()
        response = await self._next_response()
        content = await self._read_content()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return HTTPResult(response.status_code, _excerpt(content), _retry_after(response))

    async def _next_response(self) -> h11.Response:
        while not isinstance(event := await self._next_event(), h11.Response):
            if isinstance(event, h11.ConnectionClosed):
                raise EOFError
            if self._received > MAX_RESPONSE:
                raise OSError("the server sends preliminary responses only")
        return event

    async def _read_content(self) -> bytes:
        """Return the beginning of the content, and read up to its end unless it is too long."""
        content = b""
        while self._received <= MAX_RESPONSE:
            event = await self._next_event()
            if not isinstance(event, h11.Data):
                break
            content = (content + event.data)[:MAX_EXCERPT]
        return content

    async def _next_event(self) -> h11.Event:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                await asyncio.sleep(0)  # what was received before is returned without waiting
                data = await self._reader.read(MAX_READ)
                self._received += len(data)
                if not data and self._http.their_state is h11.SEND_RESPONSE:
                    raise EOFError
                self._http.receive_data(data)
            elif isinstance(event, h11.Event):
                return event
            else:  # paused: the server sends more than it was asked for
                return h11.ConnectionClosed()

    def close(self) -> None:
        """Close at once: there is nothing left to send."""
        self._writer.transport.abort()


def _excerpt(content: bytes) -> str:
    """Return the beginning of a content as one line of printable characters."""
    return printable_line(content[:MAX_EXCERPT].decode("ascii", "replace"), MAX_EXCERPT)


def _retry_after(response: h11.Response) -> float | None:
    for name, value in response.headers:
        if name == b"retry-after" and value.isdigit() and len(value) < 9:
            return float(value)
    return None
