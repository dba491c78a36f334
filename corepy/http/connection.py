"""One client's connection: h11 reads and writes HTTP, this moves the bytes and keeps the time."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import h11

from corepy.http.messages import Request, Response

if TYPE_CHECKING:
    from corepy.http.listener import Listener

TIMEOUT: Final = 5.0
"""Seconds that a client has for its request, and may be idle after an answer (CoreDNS's plugins
have the same).
"""

ANSWER_TIMEOUT: Final = 30.0
"""Seconds for making an answer and for the client to take it."""

MAX_HEAD: Final = 8192
"""Bytes of the request line and the header fields."""

MAX_BODY: Final = 65536
"""Bytes of a request's content that are read, and ignored, before the answer; the connection of a
client that sends more is closed after it.
"""

DATE: Final = "%a, %d %b %Y %H:%M:%S GMT"
"""RFC 9110 section 5.6.7. (email.utils would do, at 5 ms more for the start.)"""

LOG: Final = logging.getLogger("corepy.http")


class Connection(asyncio.Protocol):
    """See the module."""

    def __init__(self, listener: Listener) -> None:
        self.last_activity = time.monotonic()
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._request: h11.Request | None = None  # whose content is being read
        self._unread = 0
        self._can_write = asyncio.Event()
        self._can_write.set()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered."""
        return self._task is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._listener.admit(self, transport.get_extra_info("peername"))
        self._expire_in(TIMEOUT)

    def _expire_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make no answer for one who is gone."""
        self._listener.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what was sent."""
        self._http.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        """Let an answer in the making go out: a client may close its side after asking."""
        self._http.receive_data(b"")
        if self.is_idle:
            self._advance()
        return not self.is_idle

    def _advance(self) -> None:
        """Take the next request, if it is there and the last one is answered."""
        if not self.is_idle or self._transport.is_closing():
            return
        try:
            self._read()
        except h11.RemoteProtocolError as error:
            self._refuse(error)

    def _read(self) -> None:
        """Read a request to its end, or as much of it as is there; raises RemoteProtocolError.

        Closing a connection with content unread could cost the client the answer (RFC 9112
        section 9.6).
        """
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request, self._unread = event, MAX_BODY
            elif isinstance(event, h11.Data):
                self._unread -= len(event.data)
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
        """Answer in a task, reading nothing meanwhile."""
        self._transport.pause_reading()
        self.last_activity = time.monotonic()
        self._expire_in(ANSWER_TIMEOUT)
        self._task = self._loop.create_task(self._respond(event, keep=keep))
        self._task.add_done_callback(self._responded)

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Say what is wrong, if the client can still be told, and close."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = f"{error}\n".encode("ascii", "replace")
            self._send_head(Response(status=error.error_status_hint), len(text), keep=False)
            if self._request is None or self._request.method != b"HEAD":
                self._send(h11.Data(data=text))
            self._send(h11.EndOfMessage())
        self.close()

    async def _respond(self, event: h11.Request, *, keep: bool) -> None:
        await self._can_write.wait()  # else who asks and never reads has all answers kept for it
        method = event.method.decode("ascii")
        response = await self._answer(method, event)
        body = response.body
        self._send_head(response, len(body) if isinstance(body, bytes) else None, keep=keep)
        if method != "HEAD":
            if isinstance(body, bytes):
                self._send(h11.Data(data=body))
            else:
                async for piece in body:
                    self._send(h11.Data(data=piece))
                    await self._can_write.wait()
        self._send(h11.EndOfMessage())

    async def _answer(self, method: str, event: h11.Request) -> Response:
        path = event.target.decode("ascii").partition("?")[0]
        answer = self._listener.answer(path)
        if answer is None:
            return Response(b"404 page not found\n", HTTPStatus.NOT_FOUND)
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
        try:
            response = answer(Request(method, path, headers))
            return await response if inspect.isawaitable(response) else response
        except (Exception, SystemExit, KeyboardInterrupt):  # a plugin's code, which must not end us
            LOG.exception("%s: no answer for %s", self._listener.bound, path)
            return Response(b"internal error\n", HTTPStatus.INTERNAL_SERVER_ERROR)

    def _send_head(self, response: Response, size: int | None, *, keep: bool) -> None:
        headers = [
            ("Content-Type", response.content_type),
            ("Date", time.strftime(DATE, time.gmtime())),
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
        """Go on with the next request, or close."""
        self._task = None
        failed = not task.cancelled() and task.exception() is not None
        if failed:
            LOG.error("%s: an answer broke off: %r", self._listener.bound, task.exception())
        if self._transport.is_closing():
            return
        reusable = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if failed or task.cancelled():
            self.abort()  # what is half sent must not look whole
        elif not reusable or self._listener.draining:
            self.close()
        else:
            self._http.start_next_cycle()
            self._expire_in(TIMEOUT)
            self._transport.resume_reading()
            self._advance()

    def pause_writing(self) -> None:
        """Make no more of an answer than the client takes."""
        self._can_write.clear()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        self._can_write.set()

    def close_if_idle(self) -> None:
        """Close unless something is being answered, which closes when it is done."""
        if self.is_idle:
            self.close()

    def close(self) -> None:
        """Close after what is written has been sent."""
        self._transport.close()

    def end(self) -> None:
        """Close, at once if something is being answered."""
        if self.is_idle:
            self.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
