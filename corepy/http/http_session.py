"""Sends requests to one HTTP server and reads the responses as streams, for plugins that watch.

Like the server, it does the I/O around h11. A response of any length, or without an end, is read in
portions, so the caller decides how much it holds in memory. Connections are kept for the next
request once a response was read to its end. Modules for TLS are imported for `https` only.

All failures are `OSError` with a text for the operator: TimeoutError, a refused connection, a
failed handshake, a connection that ends within a response, a response that is not HTTP, or a header
that cannot be sent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

import h11

from corepy.http.connecting import connect, connect_unix, keep_alive

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from corepy.http.connecting import Streams
    from corepy.http.http_client import HTTPTarget

    Headers = Sequence[tuple[str, str]]

READ_SIZE: Final = 65536
"""Bytes that are read from the socket at a time."""

MOST_EVENTS: Final = 100
"""Portions of the content that one call of `read` joins, to limit the work of one turn."""

MOST_IDLE: Final = 4
"""Connections that are kept for later requests."""

MOST_PRELIMINARY: Final = 10
"""Responses such as 100 Continue that may precede the response to a request."""


class HTTPSession:
    """Sends requests to one server, any number at a time, each over a connection of its own."""

    def __init__(
        self,
        target: HTTPTarget,
        *,
        tls: Callable[[], Awaitable[ssl.SSLContext]] | None = None,
        server_name: str | None = None,
        connect_timeout: float = 10.0,
        socket_path: str | None = None,
    ) -> None:
        """Connect to the host and port of `target`; its path is not used.

        Its user name and password are sent with requests that have no header Authorization. With
        `socket_path`, connect to this socket of the Unix domain instead, without TLS.

        `tls` returns the context of a new connection to an `https` target, so that files that
        change are read again; it may raise `OSError`. By default, the system's certificates are
        trusted. `server_name` is the name in the server's certificate, by default the host.
        """
        self.target = target
        self._tls = tls or _default_context
        self._server_name = server_name
        self._connect_timeout = connect_timeout
        self._socket_path = socket_path
        self._idle: list[_Connection] = []

    async def request(
        self,
        method: str,
        path: str,
        headers: Headers = (),
        body: bytes = b"",
        *,
        timeout: float,
    ) -> StreamedResponse:
        """Send a request and return the response, as soon as its head has arrived.

        It takes at most `timeout` seconds. A request that fails on a kept connection, which the
        server may have closed meanwhile, is sent again on a new one. The caller closes the
        response.
        """
        message = self._message(method, path, headers, body)
        try:
            async with asyncio.timeout(timeout):
                response = await self._send(message)
        except TimeoutError as error:
            reason = str(error) or f"no response within {timeout:g} s"
            raise TimeoutError(reason) from None
        return _readable(response)

    async def _send(self, message: Sequence[h11.Event]) -> StreamedResponse:
        while self._idle:
            try:
                return await self._exchange(self._idle.pop(), message)
            except OSError:  # the server has closed it
                pass
        return await self._exchange(_Connection(*await self._connect()), message)

    def _message(
        self, method: str, path: str, headers: Headers, body: bytes
    ) -> tuple[h11.Event, ...]:
        fields = [("Host", self.target.authority), ("User-Agent", "corepy"), *headers]
        if self.target.authorization and all(name != "Authorization" for name, _ in headers):
            fields.append(("Authorization", self.target.authorization))
        if body or method not in ("GET", "HEAD"):
            fields.append(("Content-Length", str(len(body))))
        try:
            request = h11.Request(method=method, target=path, headers=fields)
        except h11.LocalProtocolError as error:  # such as a token with a space at its end
            raise OSError(f"the request cannot be sent: {error}") from None
        return request, h11.Data(data=body), h11.EndOfMessage()

    async def _connect(self) -> Streams:
        if self._socket_path is not None:
            return await connect_unix(self._socket_path, self._connect_timeout)
        target = self.target
        tls = await self._tls() if target.scheme == "https" else None
        reader, writer = await connect(
            target.host, target.port, self._connect_timeout, tls, self._server_name
        )
        keep_alive(writer)
        return reader, writer

    async def _exchange(
        self, connection: _Connection, message: Sequence[h11.Event]
    ) -> StreamedResponse:
        try:
            response = await connection.send(message)
        except BaseException:
            connection.close()
            raise
        return StreamedResponse(response, connection, self._release)

    def _release(self, connection: _Connection) -> None:
        """Keep a connection for the next request, or close it."""
        if len(self._idle) < MOST_IDLE and connection.start_again():
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle connections; responses that are still read keep theirs."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class StreamedResponse:
    """The response to a request; its content is read in portions."""

    def __init__(
        self,
        head: h11.Response,
        connection: _Connection,
        release: Callable[[_Connection], None],
    ) -> None:
        self.status: int = head.status_code
        self.headers: dict[str, str] = {
            name.decode("ascii"): value.decode("latin-1") for name, value in head.headers
        }
        """Names in lower case; of several headers with one name, the last one."""
        self._connection: _Connection | None = connection
        self._release = release

    async def read(self, timeout: float | None = None) -> bytes:
        """Return the next portion of the content as soon as there is one, b"" at the end.

        Raises TimeoutError if nothing arrives for `timeout` seconds. Other tasks get a turn in each
        call.
        """
        if self._connection is None:
            return b""
        try:
            async with asyncio.timeout(timeout):
                data = await self._connection.read()
        except TimeoutError as error:
            self.close()
            raise TimeoutError(str(error) or f"nothing received for {timeout:g} s") from None
        except BaseException:
            self.close()
            raise
        if not data:
            connection, self._connection = self._connection, None
            self._release(connection)
        return data

    async def read_all(self, most: int, timeout: float) -> bytes:
        """Return the whole content; raises `OSError` if it is longer than `most` bytes."""
        content = bytearray()
        while data := await self.read(timeout):
            content += data
            if len(content) > most:
                self.close()
                raise OSError(f"the response has more than {most} bytes")
        return bytes(content)

    @property
    def retry_after(self) -> float | None:
        """Seconds from the header Retry-After, if it has a number."""
        value = self.headers.get("retry-after", "")
        return float(value) if value.isdecimal() and value.isascii() and len(value) < 9 else None

    def close(self) -> None:
        """Abort the connection, unless the content was read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _readable(response: StreamedResponse) -> StreamedResponse:
    """Return a response, or raise OSError for one that is compressed, which no request allows."""
    coding = response.headers.get("content-encoding", "identity")
    if coding.lower() == "identity":
        return response
    response.close()
    shown = coding[:40].encode("ascii", "backslashreplace").decode()
    raise OSError(f"the response is encoded with {shown}, which was not requested")


class _Connection:
    """A connection, with the state of the protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    async def send(self, message: Sequence[h11.Event]) -> h11.Response:
        """Send a request and return the head of the response."""
        self._writer.write(b"".join(self._http.send(event) or b"" for event in message))
        await self._writer.drain()
        for _ in range(MOST_PRELIMINARY + 1):
            event = await self._next_event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise ConnectionError("the connection was closed without a response")
        raise OSError("the server sends preliminary responses only")

    async def read(self) -> bytes:
        """Return the content that has arrived, waiting for at least one byte; b"" at its end."""
        event = await self._next_event()
        if not isinstance(event, h11.Data):
            return b""
        parts = [event.data]
        for _ in range(MOST_EVENTS - 1):
            if not isinstance(more := self._peek_data(), h11.Data):
                break
            parts.append(more.data)
        await asyncio.sleep(0)
        return b"".join(parts)

    def _peek_data(self) -> h11.Data | None:
        """Return the next event if it is received content; leave the end of the message."""
        if self._http.their_state is not h11.SEND_BODY:
            return None
        event = self._event()
        if isinstance(event, h11.EndOfMessage):
            self._ended = event
        return event if isinstance(event, h11.Data) else None

    _ended: h11.EndOfMessage | None = None
    """The end of the message, if it was found behind content."""

    async def _next_event(self) -> h11.Event:
        if self._ended is not None:
            event, self._ended = self._ended, None
            return event
        while True:
            found = self._event()
            if isinstance(found, h11.Event):
                return found
            if found is not h11.NEED_DATA:  # paused: more than the response to the request
                return h11.ConnectionClosed()
            self._receive(await self._reader.read(READ_SIZE))

    def _receive(self, data: bytes) -> None:
        if not data and self._http.their_state is h11.SEND_RESPONSE:
            raise ConnectionError("the connection was closed without a response")
        self._http.receive_data(data)

    def _event(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            if self._reader.at_eof():
                raise ConnectionError("the connection was closed within the response") from None
            raise OSError(f"the response is not HTTP/1.1: {error}"[:200]) from None

    def start_again(self) -> bool:
        """Prepare for another request; return whether that is possible."""
        is_done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if not is_done or self._writer.is_closing() or self._reader.at_eof():
            return False
        self._http.start_next_cycle()
        return True

    def close(self) -> None:
        """Close at once: there is nothing left to send."""
        self._writer.transport.abort()


async def _default_context() -> ssl.SSLContext:
    from corepy.plugin import in_thread
    from corepy.plugin.tls_client import system_context

    context: ssl.SSLContext = await in_thread(system_context)  # reads many files
    return context
