"""Answers the calls of CoreDNS's gRPC service, with the statuses of grpc-go.

A call whose query gets no reply ends with UNKNOWN, as one whose message is not a query. CoreDNS
sends the query back as its own reply if a plugin drops it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from corepy.dns import HTTPFacts
from corepy.net.dns_packet import CONTENT_TYPE, METHOD, SERVICE, pack
from corepy.server.listen.http import doh
from corepy.server.listen.http.grpc_messages import (
    OK,
    UNIMPLEMENTED,
    UNKNOWN,
    GRPCError,
    MessageReader,
)

if TYPE_CHECKING:
    from corepy.server.listen.http.http_exchange import Asker, Fields, Respond
    from corepy.server.listen.stream_queries import StreamQuery

_HEAD: Final = (("content-type", CONTENT_TYPE),)
_SUCCESS: Final = (("grpc-status", str(OK)),)
_METHOD_NOT_ALLOWED: Final = 405
_WRONG_TYPE: Final = 415
_HTTP_OK: Final = 200


@final
class GRPCApplication:
    """Answers the calls of one connection."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Asker) -> None:
        self._connection = connection

    def open(self, respond: Respond, method: str, target: str, fields: Fields) -> GRPCExchange:
        """Begin to answer a call; see `Application.open`."""
        facts = HTTPFacts(method, target.partition("?")[0], fields)
        return GRPCExchange(self._connection, respond, facts)


@final
class GRPCExchange:
    """One call."""

    __slots__ = (
        "_connection",
        "_facts",
        "_is_answered",
        "_message",
        "_query",
        "_reader",
        "_respond",
    )

    def __init__(self, connection: Asker, respond: Respond, facts: HTTPFacts) -> None:
        self._connection, self._respond, self._facts = connection, respond, facts
        self._reader = MessageReader()
        self._message = b""
        self._query: StreamQuery | None = None
        self._is_answered = False
        self._check()

    def _check(self) -> None:
        """Refuse a call that no message could make valid."""
        facts = self._facts
        media_type = (facts.header("content-type") or "").lower()
        if facts.method != "POST":
            self._refuse(_METHOD_NOT_ALLOWED)
        elif not media_type.startswith(CONTENT_TYPE) or media_type[len(CONTENT_TYPE) :][:1] not in (
            "",
            "+",
            ";",
        ):
            self._refuse(_WRONG_TYPE)
        elif facts.path != METHOD:
            known = "method" if facts.path.startswith(SERVICE) else "service"
            self._fail(GRPCError(UNIMPLEMENTED, f"unknown {known} {facts.path}"))
        elif (encoding := facts.header("grpc-encoding") or "identity") != "identity":
            self._fail(GRPCError(UNIMPLEMENTED, f"the encoding {encoding} is not supported"))

    def receive(self, content: bytes) -> None:
        """Take a piece of the content."""
        if self._is_answered:
            return
        try:
            self._reader.receive(content)
        except GRPCError as error:
            self._fail(error)

    def end(self) -> None:
        """Answer the query of the call."""
        if self._is_answered:
            return
        try:
            self._message = self._reader.query()
        except GRPCError as error:
            self._fail(error)
            return
        if doh.is_query(self._message):
            self._query = self._connection.ask(self._message, self._facts, self._deliver)
        else:
            self._fail(_rejected())

    def _deliver(self, reply: bytes) -> None:
        if not reply:
            self._fail(GRPCError(UNKNOWN, "no reply"))
        elif doh.is_refused(self._message, reply):
            self._fail(_rejected())
        else:
            self._is_answered = True
            self._respond(_HTTP_OK, _HEAD, pack(reply), _SUCCESS)

    def _fail(self, error: GRPCError) -> None:
        self._is_answered = True
        self._respond(_HTTP_OK, (*_HEAD, *error.trailers))

    def _refuse(self, status: int) -> None:
        """Refuse a request that is not a call."""
        self._is_answered = True
        self._respond(status, (("content-length", "0"),))

    def cancel(self) -> None:
        """Cancel the query."""
        if self._query is not None:
            self._query.cancel()


def _rejected() -> GRPCError:
    return GRPCError(UNKNOWN, "dns request rejected")
