"""The handler that traces queries (CoreDNS: plugin/trace/trace.go, plugin/plugin.go).

A selected query gets a span, and `CallObserver` gives each call of a plugin below one of its own.
A plugin that queries upstreams adds its attempts (`corepy.plugin.protocols.AttemptObserver`).
The current span of a query is in its metadata, so derived queries and look-ups continue the trace.
Other queries pass through with one call.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from corepy.dns import Reply
from corepy.dns.address import host_port
from corepy.dns.constants import SERVFAIL, rcode_name, type_name
from corepy.dns.names import to_text
from corepy.http.http_client import HTTPClient
from corepy.net.sockets import Address
from corepy.plugin import (
    Cacheability,
    CallObserver,
    ExplainedHandler,
    FastHandler,
    LifecycleContext,
    Pending,
    apply_step,
    hookimpl,
)
from corepy_trace.parent import parent_of
from corepy_trace.reporter import TIMEOUT, Reporter
from corepy_trace.settings import Kind
from corepy_trace.span import ATTEMPT, TOP, QueryTrace, Span

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from corepy.dns import Request
    from corepy.plugin import Handler, HitCounter
    from corepy.plugin.handler import Answer
    from corepy.plugin.protocols import UpstreamAttempt
    from corepy_trace.formats import Format
    from corepy_trace.settings import Settings

CURRENT: Final = "corepy/span"
"""Metadata label of the span in which a query is now."""

TRACE_ID: Final = "trace/traceid"
"""Metadata label of the trace ID (CoreDNS: metaTraceIdKey)."""

_OLDEST: Final = 60.0
"""Seconds since the arrival of a query, above which the time of arrival is not believed."""

_FAILED: Final = "the plugin has failed"
_NEVER: Final = float("inf")


class Trace(FastHandler, CallObserver, ExplainedHandler):
    """Selects one of `every` queries and sends its spans to a collector.

    The packet cache stays on. If each query is selected, it calls `Hit.on_hit` for each repetition,
    which is then a trace of one span. Otherwise it reports the number of repetitions, which count
    for the selection; the selected query is the next one that passes through the chain.
    """

    name: ClassVar[str] = "trace"
    cacheability = Cacheability.OBSERVES
    inputs = b""
    call_label: ClassVar[str] = CURRENT

    def __init__(self, settings: Settings) -> None:
        """Trace as `settings` describe, from the hook `before_listen` on."""
        self.settings = settings
        self.listens_to_hits = settings.every == 1
        self._every = settings.every or _NEVER
        self._left = self._every
        self._counts: tuple[HitCounter, ...] = (self,) if settings.every > 1 else ()
        self._encoder: Format
        self.reporter: Reporter | None = None

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Begin to trace: at a reload, queries arrive before the hook `serving`."""
        if self._every is _NEVER:
            return
        self._encoder = _format_of(self.settings)
        client = HTTPClient(self.settings.target, TIMEOUT)
        self.reporter = Reporter(self.settings, self._encoder, client)
        self.reporter.start()

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """Send the remaining spans."""
        reporter, self.reporter = self.reporter, None
        if reporter is not None:
            await reporter.close()

    def begin_dns(self, request: Request) -> Answer:
        """Return the answer of the handlers below unchanged."""
        self._left -= 1
        if self._left <= 0:
            self._left = self._every
            span = self._select(request)
            if span is not None:
                return self._trace(request, span)
        answer = self.next.begin_dns(request)
        if not request.context.uses_deadlines:
            return answer
        if type(answer) is Reply:
            if answer.deadline is not None:
                answer.hit_counters += self._counts or self._hits(request, answer)
            return answer
        return apply_step(answer, self._watch_hits, request)

    def _watch_hits(self, request: Request, reply: Reply | None) -> Reply | None:
        if reply is not None and reply.deadline is not None:
            reply.hit_counters += self._counts or self._hits(request, reply)
        return reply

    def _hits(self, request: Request, reply: Reply) -> tuple[HitCounter, ...]:
        if not self.listens_to_hits:
            return ()
        return (Hit(self, request.asked, request.context.network, reply.rcode),)

    def count_hits(self, times: int) -> None:
        """Count queries that the packet cache has answered (`corepy.plugin.HitCounter`)."""
        self._left -= times

    def _select(self, request: Request) -> Span | None:
        """Return the span of a query that is to be traced, None if it is not."""
        reporter = self.reporter
        if reporter is None or dict.get(request.metadata, CURRENT) is not None:
            return None  # not started yet, or a look-up of a query that is traced
        if reporter.is_stalled:
            reporter.skipped.inc()
            return None
        http = request.identity.http
        parent = None if http is None else parent_of(http)
        if parent is not None and not parent.is_sampled:
            return None
        ident = parent.trace if parent is not None else 0
        now, arrived = time.monotonic(), request.received
        trace = QueryTrace(ident or self._encoder.draw_trace_id(), reporter, now)
        start = arrived if now - _OLDEST < arrived <= now else now
        span = Span(trace, TOP, start, None, parent.span if parent is not None else 0)
        if parent is not None and self._shares_spans:
            span.ident, span.parent, span.is_shared = parent.span, parent.above, True
        return span

    @property
    def _shares_spans(self) -> bool:
        return self.settings.client_server and self.settings.kind is Kind.ZIPKIN

    def _trace(self, request: Request, span: Span) -> Answer:
        request.metadata[CURRENT] = span
        request.metadata[TRACE_ID] = self._encoder.show_trace_id(span.trace.ident)
        try:
            answer = self.next.begin_dns(request)
        except BaseException:
            self._end(request, span, None)
            raise
        if type(answer) is Reply:
            return self._ended(request, span, answer)
        if type(answer) is Pending:
            answer.steps.append(partial(self._arrived, request, span))
            return answer
        return self._late(request, span, answer)

    async def _late(
        self, request: Request, span: Span, answer: Coroutine[Any, Any, Reply]
    ) -> Reply:
        try:
            reply = await answer
        except BaseException:  # also of a query that is abandoned
            self._end(request, span, None)
            raise
        return self._ended(request, span, reply)

    def _arrived(self, request: Request, span: Span, reply: Reply | None) -> Reply | None:
        if reply is None:
            self._end(request, span, None)
            return None
        return self._ended(request, span, reply)

    def _ended(self, request: Request, span: Span, reply: Reply) -> Reply:
        if reply.series is not None:
            reply.series.on_end(partial(self._end, request, span))
        else:
            self._end(request, span, reply)
            self._watch_hits(request, reply)
        return reply

    def _end(self, request: Request, span: Span, reply: Reply | None) -> None:
        """End the span of a query; without a reply the client gets SERVFAIL."""
        span.end = time.monotonic()
        span.tags = {
            "name": request.name,
            "type": request.type,
            "proto": request.context.network,
            "remote": request.remote[0],
            "rcode": rcode_name(SERVFAIL if reply is None else reply.rcode),
        }
        if reply is None or reply.is_substitute:
            span.error = _FAILED
        else:
            span.error = reply.error or ""
        span.trace.end(span)

    def begin_call(self, handler: str, request: Request) -> Span:
        """Begin the span of a plugin, within that of its caller."""
        above: Span = request.metadata[CURRENT]
        span = Span(above.trace, handler, time.monotonic(), above)
        request.metadata[CURRENT] = span
        return span

    def end_call(self, call: Span, request: Request, reply: Reply | None) -> None:
        """End the span of a plugin."""
        call.end = time.monotonic()
        request.metadata[CURRENT] = call.above
        if reply is None:
            call.error = _FAILED
        call.trace.end(call)

    def observe_attempt(self, request: Request, attempt: UpstreamAttempt) -> None:
        """Send the span of an attempt at an upstream, within that of the plugin that has made it.

        An attempt that the query shares with an earlier one begins with the span of the plugin.
        """
        above: Span = request.metadata[CURRENT]
        span = Span(above.trace, ATTEMPT, max(attempt.sent, above.start), above)
        span.end = max(attempt.ended, span.start)
        span.peer = attempt.upstream
        span.tags = {"peer": str(Address(*attempt.upstream))}
        span.error = attempt.error
        above.trace.end(span)

    def trace_hit(self, tags: dict[str, str], received: float) -> None:
        """Send the span of a query that the packet cache has answered."""
        reporter = self.reporter
        if reporter is None:
            return
        if reporter.is_stalled:
            reporter.skipped.inc()
            return
        now = time.monotonic()
        trace = QueryTrace(self._encoder.draw_trace_id(), reporter, now)
        span = Span(trace, TOP, received, None)
        span.end = now
        span.tags = tags
        trace.end(span)

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the selection and the state of the collector."""
        state: dict[str, str | int] = {
            "state": "traces none" if self._every is _NEVER else "traces",
            "every": self.settings.every,
            "collector": self.settings.target.url,
        }
        if self.reporter is not None:
            state["spans waiting"] = self.reporter.waiting
            if self.reporter.problem:
                state["problem"] = self.reporter.problem
        return state

    def copy_for_trace(self, below: Handler) -> Self:
        """Return a copy that traces nothing: an explained question does not come from a client."""
        traced = super().copy_for_trace(below)
        traced._left = _NEVER
        return traced


class Hit:
    """Traces the repetitions of a reply by the packet cache (`corepy.plugin.HitListener`)."""

    __slots__ = ("_asked", "_handler", "_proto", "_rcode")

    def __init__(self, handler: Trace, asked: bytes, proto: str, rcode: int) -> None:
        """Remember as little as possible: each reply in the packet cache has one of these."""
        self._handler = handler
        self._asked = asked
        self._proto = proto
        self._rcode = rcode

    def on_hit(self, ident: bytes, client: object, received: float) -> None:
        """Trace one query."""
        asked = self._asked
        tags = {
            "name": to_text(asked[:-4]),
            "type": type_name(asked[-4] << 8 | asked[-3]),
            "proto": self._proto,
            "remote": host_port(client)[0],
            "rcode": rcode_name(self._rcode),
            "packet_cache": "true",
        }
        self._handler.trace_hit(tags, received)

    def count_hits(self, times: int) -> None:
        """Do nothing: `on_hit` has traced each query."""


def _format_of(settings: Settings) -> Format:
    """Return the format of the collector; only its module is imported."""
    if settings.kind is Kind.DATADOG:
        from corepy_trace.datadog import DatadogFormat

        return DatadogFormat(settings)
    if settings.kind is Kind.OTLP:
        from corepy_trace.otlp import OTLPFormat

        return OTLPFormat(settings)
    from corepy_trace.zipkin import ZipkinFormat

    return ZipkinFormat(settings)
