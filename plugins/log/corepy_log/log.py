"""The handler that logs queries and their replies (CoreDNS: plugin/log/log.go)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.constants import SERVFAIL
from corepy.dns.form_error import FormError
from corepy.dns.names import ROOT, InvalidName, from_text, is_subdomain, lower
from corepy.dns.response import Kind, ReplyClass, classify, typify
from corepy.plugin import Cacheability, Handler, LifecycleContext, hookimpl
from corepy.plugin.output import WRITER
from corepy.plugin.placeholders import COMMON, Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply, Request

ALL: Final = frozenset((ReplyClass.ALL,))
TYPE_LABEL, CLASS_LABEL = "log/type", "log/class"
OWN_LABELS: Final = (TYPE_LABEL, CLASS_LABEL)
PATIENCE: Final = 0.5
"""Seconds that a stopping process waits until the last lines are read."""


@dataclass(frozen=True, slots=True)
class LogRule:
    """A selection of queries to log, and their format."""

    scope: str = "."
    """The zone of the queries' names."""

    format: str = COMMON
    classes: frozenset[ReplyClass] = ALL


class Logger:
    """A rule, prepared for use."""

    def __init__(self, rule: LogRule) -> None:
        try:
            self._scope: bytes | None = lower(from_text(rule.scope))
        except InvalidName:
            self._scope = None
        self.format = Format("[INFO] " + rule.format)
        self._classes = None if ReplyClass.ALL in rule.classes else rule.classes
        own = self.format.names & {"/" + TYPE_LABEL, "/" + CLASS_LABEL}
        self._asks_kind = self._classes is not None or bool(own)
        metadata = {name for name in self.format.names if name.startswith("/")}
        self.is_repeatable = "local" not in self.format.names and metadata == own
        """Whether no constant field can differ when the packet cache repeats the reply."""

    def covers(self, name_wire: bytes) -> bool:
        """Return whether a name, in lower case, is in the rule's scope."""
        scope = self._scope
        return scope == ROOT or (scope is not None and is_subdomain(name_wire, scope))

    def wants(self, request: Request, reply: Reply) -> bool:
        """Return whether a reply has a class to be logged."""
        if not self._asks_kind:
            return True
        kind = _kind(request, reply)
        of_class = classify(kind)
        request.metadata[TYPE_LABEL] = kind.value
        request.metadata[CLASS_LABEL] = of_class.value
        return self._classes is None or of_class in self._classes


class HitLogger:
    """Logs the queries that the packet cache answers with a reply (`corepy.plugin.HitListener`)."""

    __slots__ = ("_fixed", "_format")

    def __init__(self, line_format: Format, fixed: str) -> None:
        self._format = line_format
        self._fixed = fixed

    def on_hit(self, ident: bytes, client: object, received: float) -> None:
        """Log one query."""
        seconds = time.monotonic() - received
        WRITER.write(self._format.line(self._fixed, ident, client, seconds))

    def count_hits(self, times: int) -> None:
        """Do nothing: `on_hit` has logged each query."""


class Log(Handler):
    """Logs queries, including those that the packet cache answers in place of the chain."""

    name: ClassVar[str] = "log"
    inputs = b""
    listens_to_hits = True

    def __init__(self, rules: Sequence[LogRule]) -> None:
        """Log each query by the first of `rules` that covers its name."""
        self.rules = rules
        self._loggers = [Logger(rule) for rule in rules]
        repeatable = all(logger.is_repeatable for logger in self._loggers)
        self.cacheability = Cacheability.OBSERVES if repeatable else Cacheability.UNSAFE

    async def serve_dns(self, request: Request) -> Reply:
        """Return the next handler's reply unchanged."""
        start = time.monotonic()
        try:
            reply = await self.next.serve_dns(request)
        except (Exception, asyncio.CancelledError):
            # The server answers SERVFAIL after an exception in a plugin.
            self._log(request, request.error(SERVFAIL), time.monotonic() - start)
            raise
        if reply.series is not None:
            reply.series.on_end(lambda last: self._log(request, last, time.monotonic() - start))
            return reply
        self._log(request, reply, time.monotonic() - start)
        return reply

    def _log(self, request: Request, reply: Reply, seconds: float) -> None:
        name_wire = request.name_wire
        for logger in self._loggers:
            if logger.covers(name_wire):
                if logger.wants(request, reply):
                    fixed = logger.format.fix(request, reply)
                    ident, peer = request.wire[:2], request.client
                    WRITER.write(logger.format.line(fixed, ident, peer, seconds))
                    if reply.deadline is not None:
                        reply.hit_counters += (HitLogger(logger.format, fixed),)
                return

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Write the remaining lines."""
        WRITER.flush(PATIENCE if context.final else 0.0)


def _kind(request: Request, reply: Reply) -> Kind:
    if reply.is_dropped:
        return Kind.OTHER_ERROR  # as in CoreDNS (plugin/pkg/response/typify.go)
    try:
        # CoreDNS checks signatures if the reply has DO, which it has if the query has it.
        # time of day: whether a signature is valid (RFC 4034 section 3.1.5)
        return typify(reply, time.time() if request.do else None)
    except FormError:
        return Kind.OTHER_ERROR
