"""HTTP/1.1 (RFC 9112) on one connection of the server: h11 implements the protocol.

Requests are answered one after another. Pipelined ones wait: h11 holds at most one read of them,
because the connection is not read meanwhile. h11 refuses requests whose length is ambiguous.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Final, final

import h11

from corepy.server.listen.http import doh

if TYPE_CHECKING:
    from corepy.server.listen.http.http_exchange import Application, Carrier, Exchange, Fields

MAX_HEAD: Final = 32_768
"""Bytes of the request line and the header fields of a request."""

COST: Final = 8
"""The cost of a request, in queries of a turn of the event loop."""


@final
class HTTP1Session:
    """The server's side of one connection."""

    def __init__(self, connection: Carrier, application: Application) -> None:
        self._connection, self._application = connection, application
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._exchange: Exchange  # of the open request
        self._number = 0  # of the latest request
        self._is_open = False  # whether a request is being read or answered
        self._is_answering = False  # whether it is complete
        self._is_head = self._is_draining = False
        self._since = 0.0  # the time when the request began to arrive
        self.is_behind = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is being received or answered."""
        return not self._is_open and not self._since and not self.is_behind

    def receive(self, data: bytes) -> None:
        """Process requests, up to the limits of the connection."""
        try:
            if data:
                self._h11.receive_data(data)
            self._advance()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)

    def _advance(self) -> None:
        turns = self._connection.turns
        left = most = turns.step()
        self.is_behind = False
        while not self._is_answering and left > 0 and self._h11.our_state is not h11.MUST_CLOSE:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                if self._is_open:
                    self._exchange.receive(b"")
                if not self._is_answering:
                    self._wait_for_data()
                break
            left -= COST if type(event) is h11.Request else 1
            if type(event) is h11.ConnectionClosed:
                self._connection.close_when_done()
                break
            if event is h11.PAUSED:
                break
            self._process(event)
        self.is_behind = self._is_answering or left <= 0
        turns.count(most - left)
        if self.is_behind and not self._is_answering:
            turns.wait(self._connection)

    def _wait_for_data(self) -> None:
        if self._h11.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[]))
        trailing, _ = self._h11.trailing_data
        if trailing and not self._since:
            self._since = monotonic()

    def _process(self, event: object) -> None:
        if type(event) is h11.Request:
            self._open(event)
        elif type(event) is h11.Data and self._is_open:
            self._exchange.receive(bytes(event.data))
        elif type(event) is h11.EndOfMessage and self._is_open:
            self._is_answering = True
            self._exchange.end()

    def _open(self, request: h11.Request) -> None:
        self._since = self._since or monotonic()
        self._connection.note_request(self._since)
        problem = _problem(request)
        if problem:
            self._refuse(problem)
            return
        method = request.method.decode("latin-1")
        self._is_head = method == "HEAD"
        if method == "CONNECT":
            self.begin_drain()  # the bytes after it may belong to another protocol
        self._is_open = True
        self._number += 1
        fields = tuple((name.decode(), value.decode("latin-1")) for name, value in request.headers)
        target = request.target.decode("latin-1")
        respond = partial(self._respond, self._number)
        self._exchange = self._application.open(respond, method, target, fields)

    def _respond(
        self,
        number: int,
        status: int,
        fields: Fields,
        content: bytes = b"",
        _trailers: Fields = (),
    ) -> None:
        """Send a response, see `Respond`; close after it if the request is not complete."""
        if number != self._number or not self._is_open:
            return
        closes = self._is_draining or not self._is_answering
        extra = (("connection", "close"),) if closes else ()
        reason = HTTPStatus(status).phrase.encode()
        self._send(h11.Response(status_code=status, headers=[*fields, *extra], reason=reason))
        if content and not self._is_head:
            self._send(h11.Data(data=content))
        self._send(h11.EndOfMessage())
        self._is_open = self._is_answering = False
        self._since = 0.0
        self._connection.note_request(monotonic())
        if self._h11.our_state is h11.MUST_CLOSE:
            self._connection.close_when_done()
        else:
            self._h11.start_next_cycle()
            self.is_behind = bool(self._h11.trailing_data[0])

    def _send(self, event: h11.Event) -> None:
        data = self._h11.send(event)
        if data:
            self._connection.send(data)

    def _refuse(self, status: int) -> None:
        """Answer a message that is not HTTP/1.1, and close."""
        if self._is_open:
            self._exchange.cancel()
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            text = HTTPStatus(status).phrase.encode() + b"\n"
            self._is_open = True
            self._respond(self._number, status, doh.fields(doh.TEXT, len(text)), text)
        self._connection.close_when_done()

    def end_input(self) -> None:
        """Let h11 find out whether a request is incomplete."""
        self._h11.receive_data(b"")
        self.receive(b"")

    def expire(self, now: float) -> None:
        """Refuse a request that takes too long to arrive."""
        limit = self._connection.timeouts.read
        if self._since and not self._is_answering and now - self._since > limit:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def begin_drain(self) -> None:
        """Close after the next response."""
        self._is_draining = True

    def end(self) -> None:
        """Do nothing: the end of the connection is its last message."""


def _problem(request: h11.Request) -> int:
    """Return the status of the response to a head that h11 accepts and this server does not.

    A length beside a transfer coding is a sign of request smuggling (RFC 9112 section 6.1).
    """
    names = {name for name, _ in request.headers}
    if b"content-length" in names and b"transfer-encoding" in names:
        return HTTPStatus.BAD_REQUEST
    size = len(request.target) + sum(len(name) + len(value) for name, value in request.headers)
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if size > MAX_HEAD else 0
