"""One HTTP/2 connection to an upstream, with many calls in flight."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from corepy.net.http2_client import Failure, HTTP2Client, ProtocolError, Response
from corepy_grpc.messages import MOST_BODY

if TYPE_CHECKING:
    from collections.abc import Sequence

USER_TIMEOUT: Final = 1000
"""Milliseconds that sent data may stay unacknowledged before the kernel aborts the connection."""

MOST_UNSENT: Final = 1 << 20
"""Bytes in the send buffer above which the connection is aborted: the upstream does not read."""


class Lost(Exception):
    """Raised for a call without a response; `may_repeat` if the connection is to blame."""

    def __init__(self, reason: str, *, may_repeat: bool) -> None:
        super().__init__(reason)
        self.may_repeat = may_repeat


class Connection(asyncio.Protocol):
    """An established connection, or one that has ended."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._http = HTTP2Client(MOST_BODY)
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, asyncio.Future[Response]] = {}
        self._flushing = False
        self._received = monotonic()
        self._begun: asyncio.Future[None] = self._loop.create_future()
        self._reason = ""

    @property
    def is_usable(self) -> bool:
        """Whether it takes further calls."""
        return self._transport is not None and not self._http.is_closing

    async def begun(self) -> None:
        """Wait until the server has begun to speak HTTP/2; raises `Lost` if it does not."""
        await self._begun
        if not self._http.has_begun:
            raise Lost(self._reason, may_repeat=False)

    async def call(self, headers: Sequence[tuple[str, str]], body: bytes) -> Response:
        """Return the response to a request; raises `Lost`.

        If the caller is cancelled, the request is cancelled. If no data has arrived since then, the
        connection is aborted as well: it may be broken.
        """
        if not self.is_usable:
            raise Lost("connection closed", may_repeat=True)
        sent = monotonic()
        number = self._http.request(headers, body)
        future: asyncio.Future[Response] = self._loop.create_future()
        self._calls[number] = future
        self._flush_soon()
        try:
            return await future
        except asyncio.CancelledError:
            self._cancel(number, sent)
            raise
        finally:
            self._calls.pop(number, None)

    def _cancel(self, number: int, sent: float) -> None:
        self._http.cancel(number)
        if self._received < sent:
            self.abort()
        else:
            self._flush_soon()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the beginning of the connection."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
        self._flush()

    def _flush_soon(self) -> None:
        """Schedule one write for all calls of this turn of the event loop."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is None:
            return
        data = self._http.data_to_send()
        if data:
            self._transport.write(data)
        if self._transport.get_write_buffer_size() > MOST_UNSENT:
            self.abort()
        elif self._http.is_closing and not self._calls:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Process the received bytes."""
        self._received = monotonic()
        try:
            ended = self._http.receive(data)
        except ProtocolError as error:
            reason = f"not HTTP/2: {error}" if self._http.has_begun else str(error)
            self._end(reason, may_repeat=False)
            self.abort()
            return
        for result in ended:
            self._finish(result)
        if self._http.has_begun and not self._begun.done():
            self._begun.set_result(None)
        self._flush()

    def _finish(self, result: Response | Failure) -> None:
        future = self._calls.pop(result.number, None)
        if future is None or future.done():
            return
        if isinstance(result, Failure):
            future.set_exception(Lost(result.reason, may_repeat=result.is_unprocessed))
        else:
            future.set_result(result)

    def connection_lost(self, exc: Exception | None) -> None:
        """End all calls."""
        self._transport = None
        self._end("EOF" if exc is None else str(exc).lower(), may_repeat=True)

    def _end(self, reason: str, *, may_repeat: bool) -> None:
        if not self._begun.done():
            self._reason = reason
            self._begun.set_result(None)
        calls, self._calls = self._calls, {}
        for future in calls.values():
            if not future.done():
                future.set_exception(Lost(reason, may_repeat=may_repeat))

    def abort(self) -> None:
        """Close the connection without sending the rest."""
        if self._transport is not None:
            self._transport.abort()
