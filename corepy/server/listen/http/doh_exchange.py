"""Answers requests of DNS over HTTPS, whatever the version of HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from corepy.server.listen.http import doh
from corepy.server.listen.status_query import is_probe

if TYPE_CHECKING:
    from corepy.server.listen.http.http_exchange import Asker, Fields, Respond
    from corepy.server.listen.stream_queries import StreamQuery


@final
class DoHApplication:
    """Answers the requests of one connection."""

    __slots__ = ("_connection", "_counter")

    def __init__(self, connection: Asker, counter: doh.ResponseCounter) -> None:
        self._connection, self._counter = connection, counter

    def open(self, respond: Respond, method: str, target: str, fields: Fields) -> DoHExchange:
        """Begin to answer a request; see `Application.open`."""
        request = doh.DoHRequest(method, target, fields)
        return DoHExchange(self._connection, self._counter, respond, request)


@final
class DoHExchange:
    """One request and its response."""

    __slots__ = (
        "_connection",
        "_counter",
        "_is_answered",
        "_message",
        "_query",
        "_respond",
        "request",
    )

    def __init__(
        self,
        connection: Asker,
        counter: doh.ResponseCounter,
        respond: Respond,
        request: doh.DoHRequest,
    ) -> None:
        self._connection, self._counter, self._respond = connection, counter, respond
        self.request = request
        self._message = b""
        self._query: StreamQuery | None = None
        self._is_answered = False

    def receive(self, content: bytes) -> None:
        """Take a piece of the content; refuse a request whose content is of no use."""
        self.request.receive(content)
        self._refuse()

    def _refuse(self) -> None:
        if self.request.status != doh.OK and not self._is_answered:
            self._answer(doh.refusal(self.request.status))

    def end(self) -> None:
        """Answer the query."""
        if self._is_answered:
            return
        self._message = self.request.message()
        if self._message:
            facts = self.request.facts
            self._query = self._connection.ask(self._message, facts, self._deliver)
        else:
            self._refuse()

    def _deliver(self, reply: bytes) -> None:
        self._answer(doh.response(self._message, reply))

    def _answer(self, response: doh.DoHResponse) -> None:
        self._is_answered = True
        if not is_probe(self._message):  # of the self-check
            self._counter[response.status].inc()
        self._respond(response.status, response.fields, response.content)

    def cancel(self) -> None:
        """Cancel the query."""
        if self._query is not None:
            self._query.cancel()
