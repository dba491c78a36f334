"""The handler: makes a message of each query, of each response, and of those of upstreams.

CoreDNS: plugin/dnstap/handler.go, writer.go; plugin/forward/dnstap.go.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import finish
from corepy.dns.constants import SERVFAIL
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    apply_step,
    hookimpl,
)
from corepy.plugin.placeholders import Format, without_reply
from corepy_dnstap import encoding
from corepy_dnstap.addresses import packed
from corepy_dnstap.encoding import LONGEST_TEXT, OVER_UDP, TCP, UDP, Envelope, message_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Reply, Request
    from corepy.plugin import LifecycleContext
    from corepy.plugin.handler import Answer
    from corepy.plugin.protocols import TappedMessage
    from corepy_dnstap.output import Output
    from corepy_dnstap.settings import Settings

_QUERY: Final = message_type(encoding.CLIENT_QUERY)
_RESPONSE: Final = message_type(encoding.CLIENT_RESPONSE)
_SECOND: Final = 1_000_000_000
_NO_FIELDS: Final = b""


class Extra:
    """The format of the field `extra`."""

    def __init__(self, text: str) -> None:
        self._format = Format(without_reply(text))
        names = self._format.names
        self.is_repeatable = not any(name == "local" or name.startswith("/") for name in names)
        """Whether the packet cache has all values when it repeats a reply."""

    def fix(self, request: Request) -> str:
        """Return the text for all queries with the bytes of `request`."""
        return self._format.fix(request, None)

    def encode(self, fixed: str, ident: bytes, client: object) -> bytes:
        """Return the field for one query: its two ID bytes and `Request.client`."""
        text = self._format.line(fixed, ident, client, 0.0)
        return text.encode("utf-8", "surrogateescape")[:LONGEST_TEXT]

    def of(self, request: Request) -> bytes:
        """Return the field for a query that came through the chain."""
        return self.encode(self.fix(request), request.wire[:2], request.client)


class RepeatedTap:
    """Taps the queries that the packet cache answers with a reply (`corepy.plugin.HitListener`)."""

    __slots__ = ("_handler", "_protocol", "_query", "_text")

    def __init__(self, handler: Dnstap, request: Request) -> None:
        self._handler = handler
        self._protocol = UDP if request.context.network == "udp" else TCP
        self._query = request.wire[2:] if handler.settings.full else b""
        self._text = "" if handler.extra is None else handler.extra.fix(request)

    def on_hit(
        self, ident: bytes, client: object, received: float
    ) -> Callable[[bytes], object] | None:
        """Send the messages of one query and its response."""
        handler = self._handler
        if not handler.output.is_taking:
            handler.output.skip(2)
            return None
        extra = b"" if handler.extra is None else handler.extra.encode(self._text, ident, client)
        socket = encoding.socket_fields(self._protocol, packed(client), None)
        # time of day: the collector compares it with that of others
        now = time.time_ns()
        asked = encoding.query_time(now - int((time.monotonic() - received) * _SECOND))
        answered = encoding.response_time(now)
        if not handler.settings.full:
            handler.send((_QUERY, socket, asked), extra)
            handler.send((_RESPONSE, socket, asked, answered), extra)
            return None
        handler.send((_QUERY, socket, asked, encoding.query_message(ident + self._query)), extra)

        def send_response(body: bytes) -> None:
            response = encoding.response_message(ident + body)
            handler.send((_RESPONSE, socket, asked, answered, response), extra)

        return send_response

    def count_hits(self, times: int) -> None:
        """Do nothing: `on_hit` has sent a message for each query."""


class Dnstap(FastHandler, ExplainedHandler):
    """Sends the messages of its server block; a `corepy.plugin.protocols.MessageTap`.

    It observes the packet cache, too. It is a part of the chain, not an `ObservingHandler`, because
    the message of a query precedes those of the queries to upstreams.
    """

    name: ClassVar[str] = "dnstap"
    inputs = b""
    listens_to_hits = True

    def __init__(self, settings: Settings, output: Output) -> None:
        """Send to `output`, which the hooks start and close."""
        self.settings = settings
        self.output = output
        self.extra = Extra(settings.extra) if settings.extra else None
        is_repeatable = self.extra is None or self.extra.is_repeatable
        self.cacheability = Cacheability.OBSERVES if is_repeatable else Cacheability.UNSAFE
        self._envelope = Envelope(settings.identity, settings.version)

    def begin_dns(self, request: Request) -> Answer:
        """Return the next handler's answer unchanged; send a message before and after it."""
        # The fields of both messages; None if nothing is sent now.
        fields = self._tap_query(request) if self.output.is_taking else None
        try:
            answer = self.next.begin_dns(request)
        except BaseException:
            self._tap_response(fields, request, None)
            raise
        return apply_step(answer, partial(self._answered, fields), request)

    def _answered(
        self, fields: tuple[bytes, bytes] | None, request: Request, reply: Reply | None
    ) -> Reply | None:
        if reply is not None and reply.series is not None:
            reply.series.on_end(partial(self._tap_response, fields, request))
            return reply
        self._tap_response(fields, request, reply)
        if reply is not None and reply.deadline is not None:
            reply.hit_counters += (RepeatedTap(self, request),)
        return reply

    def _tap_query(self, request: Request) -> tuple[bytes, bytes]:
        """Send the query; return the fields of the socket and of the time of the query."""
        protocol = UDP if request.context.network == "udp" else TCP
        socket = encoding.socket_fields(protocol, packed(request.client), None)
        waited = time.monotonic() - request.received
        # time of day: the collector compares it with that of others
        asked = encoding.query_time(time.time_ns() - int(waited * _SECOND))
        query = encoding.query_message(request.wire) if self.settings.full else _NO_FIELDS
        self.send((_QUERY, socket, asked, query), self._extra_of(request))
        return socket, asked

    def _tap_response(
        self, fields: tuple[bytes, bytes] | None, request: Request, reply: Reply | None
    ) -> None:
        """Send the response; without one, the SERVFAIL that the server sends. None if dropped."""
        if reply is not None and reply.is_dropped:
            return
        if fields is None or not self.output.is_taking:
            self.output.skip(1 if fields else 2)
            return
        response = _NO_FIELDS
        if self.settings.full:
            sent = finish(request, request.error(SERVFAIL) if reply is None else reply)
            response = encoding.response_message(sent)
        # time of day: as above
        answered = encoding.response_time(time.time_ns())
        self.send((_RESPONSE, *fields, answered, response), self._extra_of(request))

    def tap_message(self, request: Request, message: TappedMessage) -> None:
        """Send a message that another handler has exchanged with an upstream."""
        if not self.output.is_taking:
            self.output.skip(1)
            return
        protocol = UDP if message.protocol in OVER_UDP else TCP
        socket = encoding.socket_fields(protocol, packed(message.local), packed(message.upstream))
        at = int(message.time * _SECOND)
        full, wire = self.settings.full, message.wire
        if message.kind.value == encoding.FORWARDER_QUERY:
            query = encoding.query_message(wire) if full else _NO_FIELDS
            fields = socket, encoding.query_time(at), query
        else:
            sent = message.query_time
            asked = _NO_FIELDS if sent is None else encoding.query_time(int(sent * _SECOND))
            response = encoding.response_message(wire) if full else _NO_FIELDS
            fields = socket, asked + encoding.response_time(at), response
        self.send((message_type(message.kind.value), *fields), self._extra_of(request))

    def _extra_of(self, request: Request) -> bytes:
        return b"" if self.extra is None else self.extra.of(request)

    def send(self, message: tuple[bytes, ...], extra: bytes) -> None:
        """Send the encoded fields of a message; never waits."""
        self.output.put(self._envelope.frame(message, extra))

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the state of the connection, and the messages that were lost."""
        return {
            "state": self.output.state,
            "endpoint": self.output.label,
            "messages dropped": int(self.output.dropped.value),
        }

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Connect, or listen: before the first query. A failure never prevents a start."""
        if self.settings.listens and not context.process_group.is_leader:
            from corepy_dnstap.relay import RelayOutput

            self.output = RelayOutput(self.settings)
        await self.output.start(context.process_group)

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """Send what waits, for a second at most, and disconnect."""
        await self.output.close()
