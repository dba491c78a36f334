"""One HTTP connection: h11 implements the protocol, this module the I/O and the timeouts."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

import h11

from corepy.http.messages import ANSWER_TIMEOUT, HTTPRequest, HTTPResponse

if TYPE_CHECKING:
    from corepy.http.messages import Route
    from corepy.http.unix_socket import UnixAddress
    from corepy.net.sockets import Address
    from corepy.net.turns import Turns

TIMEOUT: Final = 5.0
"""Seconds for a client to send its request, and idle time after a response (as in CoreDNS)."""

MAX_HEAD: Final = 8192
"""Maximum size of the request line and the header fields in bytes."""

MAX_BODY: Final = 65536
"""Bytes of a request's content that are read and ignored before the response.

The connection of a client that sends more is closed after the response.
"""

PIECE: Final = 512
"""Bytes that a piece of a content counts for at least: to read one costs as much, however small.

Without it, a content in chunks of one byte would keep the event loop busy for half a second.
"""

DATE: Final = "%a, %d %b %Y %H:%M:%S GMT"
"""RFC 9110 section 5.6.7; importing email.utils instead would add 5 ms to the start."""

LOG: Final = logging.getLogger("corepy.http")


class ConnectionOwner(Protocol):
    """The listener that has accepted a connection; see `listener.Listener`."""

    bound: Address | UnixAddress
    draining: bool
    turns: Turns

    def admit(self, added: HTTPConnection, peer: object) -> None:
        """Add a new connection."""

    def forget(self, connection: HTTPConnection) -> None:
        """Remove a closed connection."""

    def route(self, path: str) -> Route | None:
        """Return the route of requests for `path`, or None."""


class HTTPConnection(asyncio.Protocol):
    """The asyncio protocol of one HTTP connection."""

    def __init__(self, listener: ConnectionOwner) -> None:
        self.last_activity = time.monotonic()
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._request: h11.Request | None = None  # the request whose content is being read
        self._route: Route | None = None  # that of the response in progress
        self._unread = 0
        self._is_waiting = False  # for a turn of the event loop
        self._can_write = asyncio.Event()
        self._can_write.set()

    @property
    def is_idle(self) -> bool:
        """Whether no response is in progress."""
        return self._task is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection, and wait for a request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._listener.admit(self, transport.get_extra_info("peername"))
        self._expire_in(TIMEOUT)

    def _expire_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection, and cancel a response in progress."""
        self._listener.forget(self)
        self._listener.turns.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Process received data."""
        self._http.receive_data(data)
        if not self.is_idle:
            self._transport.pause_reading()  # the next request waits in the kernel
        self._advance()

    def eof_received(self) -> bool:
        """Keep the connection open for a response in progress: the client may half-close it."""
        self._http.receive_data(b"")
        if self.is_idle:
            self._advance()
        elif self._task is not None and self._route is not None and self._route.needs_client:
            self._task.cancel()
            return False
        return self._is_waiting or not self.is_idle

    def _advance(self) -> None:
        """Process the next request, if one has arrived and no response is in progress."""
        if not self.is_idle or self._transport.is_closing():
            return
        turns = self._listener.turns
        if turns.step() <= 0:
            self._is_waiting = True
            self._transport.pause_reading()
            turns.wait(self)
            return
        turns.count(1)
        try:
            self._read()
        except h11.RemoteProtocolError as error:
            self._refuse(error)

    def go_on(self) -> None:
        """Process what was received in an earlier turn of the event loop."""
        self._is_waiting = False
        self._transport.resume_reading()
        self._advance()

    def _read(self) -> None:
        """Read a request to its end, or the received part of it; raise RemoteProtocolError.

        A connection closed with unread content could lose the response (RFC 9112 section 9.6).
        """
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request, self._unread = event, MAX_BODY
            elif isinstance(event, h11.Data):
                self._unread -= max(len(event.data), PIECE)
            elif isinstance(event, h11.ConnectionClosed):
                self.close()
                return
            request, is_whole = self._request, isinstance(event, h11.EndOfMessage)
            waits = self._http.they_are_waiting_for_100_continue or event is h11.PAUSED
            if request is not None and (is_whole or waits or self._unread < 0):
                self._request = None
                self._begin(request, keep=is_whole and not self._listener.draining)
                return
            if event in (h11.NEED_DATA, h11.PAUSED):
                return

    def _begin(self, event: h11.Request, *, keep: bool) -> None:
        """Respond in a task, and pause reading meanwhile, unless the response needs the client.

        Only a connection that is read reports that the client has closed it.
        """
        path, _, query = event.target.decode("ascii").partition("?")
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
        request = HTTPRequest(event.method.decode("ascii"), path, headers, query)
        self._route = self._listener.route(path)
        if self._route is None or not self._route.needs_client:
            self._transport.pause_reading()
        self.last_activity = time.monotonic()
        self._expire_in(self._route.timeout if self._route is not None else ANSWER_TIMEOUT)
        self._task = self._loop.create_task(self._respond(request, keep=keep))
        self._task.add_done_callback(self._responded)

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Send an error response, if the protocol state permits it, and close."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = f"{error}\n".encode("ascii", "replace")
            self._send_head(HTTPResponse(status=error.error_status_hint), len(text), keep=False)
            if self._request is None or self._request.method != b"HEAD":
                self._send(h11.Data(data=text))
            self._send(h11.EndOfMessage())
        self.close()

    async def _respond(self, request: HTTPRequest, *, keep: bool) -> None:
        await self._can_write.wait()  # else a client that never reads makes us buffer all
        response = await self._answer(request)
        body = response.body
        self._send_head(response, len(body) if isinstance(body, bytes) else None, keep=keep)
        if request.method != "HEAD":
            if isinstance(body, bytes):
                self._send(h11.Data(data=body))
            else:
                async for piece in body:
                    self._send(h11.Data(data=piece))
                    await self._can_write.wait()
        self._send(h11.EndOfMessage())

    async def _answer(self, request: HTTPRequest) -> HTTPResponse:
        if self._route is None:
            return HTTPResponse(b"404 page not found\n", HTTPStatus.NOT_FOUND)
        try:
            response = self._route.answer(request)
            return await response if inspect.isawaitable(response) else response
        except (Exception, SystemExit, KeyboardInterrupt):  # a plugin must not stop the server
            LOG.exception("%s: the request for %s failed", self._listener.bound, request.path)
            return HTTPResponse(b"internal error\n", HTTPStatus.INTERNAL_SERVER_ERROR)

    def _send_head(self, response: HTTPResponse, size: int | None, *, keep: bool) -> None:
        headers = [
            ("Content-Type", response.content_type),
            ("Date", time.strftime(DATE, time.gmtime())),
            *response.headers,
        ]
        if size is not None:
            headers.append(("Content-Length", str(size)))
        if not keep:
            headers.append(("Connection", "close"))
        reason = HTTPStatus(response.status).phrase.encode("ascii")
        self._send(h11.Response(status_code=response.status, headers=headers, reason=reason))

    def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _responded(self, task: asyncio.Task[None]) -> None:
        """Process the next request, or close."""
        self._task = None
        failed = not task.cancelled() and task.exception() is not None
        if failed:
            LOG.error("%s: a response was cut off: %r", self._listener.bound, task.exception())
        if self._transport.is_closing():
            return
        reusable = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if failed or task.cancelled():
            self.abort()  # a partial response must not look complete
        elif not reusable or self._listener.draining:
            self.close()
        else:
            self._http.start_next_cycle()
            self._expire_in(TIMEOUT)
            self._transport.resume_reading()
            self._advance()

    def pause_writing(self) -> None:
        """Pause the response until the client has read."""
        self._can_write.clear()

    def resume_writing(self) -> None:
        """Continue the response: the client has read."""
        self._can_write.set()

    def close_if_idle(self) -> None:
        """Close unless a response is in progress, which closes the connection at its end."""
        if self.is_idle:
            self.close()

    def close(self) -> None:
        """Close after all written data has been sent."""
        self._transport.close()

    def end(self) -> None:
        """Close; abort a response in progress."""
        if self.is_idle:
            self.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Close immediately, and discard unsent data."""
        self._transport.abort()
