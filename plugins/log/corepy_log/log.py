"""The handler: says what was asked and what was answered (CoreDNS: plugin/log/log.go)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.constants import SERVFAIL
from corepy.dns.errors import FormError
from corepy.dns.names import ROOT, InvalidName, from_text, is_subdomain, lower
from corepy.dns.response import Kind, ReplyClass, classify, typify
from corepy.plugin import Handler, LifecycleContext, Purity, hookimpl
from corepy_log.format import COMMON, compile_format, metadata_labels
from corepy_log.writer import WRITER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Reply, Request

ALL: Final = frozenset((ReplyClass.ALL,))
TYPE_LABEL, CLASS_LABEL = "log/type", "log/class"
PATIENCE: Final = 0.5
"""Seconds that the end of the process waits for the last lines to be read."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which queries to log, and how."""

    scope: str = "."
    """The name that these queries ask for or end in."""

    format: str = COMMON
    classes: frozenset[ReplyClass] = ALL


class Logger:
    """A rule, prepared for use."""

    def __init__(self, rule: Rule) -> None:
        try:
            self.scope: bytes | None = lower(from_text(rule.scope))
        except InvalidName:
            self.scope = None
        self._render = compile_format("[INFO] " + rule.format)
        self._classes = None if ReplyClass.ALL in rule.classes else rule.classes
        labels = {TYPE_LABEL, CLASS_LABEL} & metadata_labels(rule.format)
        self._asks_kind = self._classes is not None or bool(labels)

    def covers(self, name_wire: bytes) -> bool:
        """Tell whether queries for this name, in lower case, are the rule's."""
        scope = self.scope
        return scope == ROOT or (scope is not None and is_subdomain(name_wire, scope))

    def log(self, request: Request, reply: Reply, seconds: float) -> None:
        """Write the line for a reply that took `seconds`, if it is of a class to be logged."""
        if self._asks_kind:
            kind = _kind(request, reply)
            of_class = classify(kind)
            request.metadata[TYPE_LABEL] = kind.value
            request.metadata[CLASS_LABEL] = of_class.value
            if self._classes is not None and of_class not in self._classes:
                return
        WRITER.write(self._render(request, reply, seconds))


class Log(Handler):
    """Logs the queries that pass. An observer: the packet cache may answer in place of the chain if
    it tells `observe` of each reply.
    """

    name: ClassVar[str] = "log"
    purity = Purity.OBSERVER

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Log each query by the first of `rules` that covers its name."""
        self.rules = rules
        self._loggers = [Logger(rule) for rule in rules]

    async def serve_dns(self, request: Request) -> Reply:
        """Return the next handler's reply as it is."""
        start = time.monotonic()
        try:
            reply = await self.next.serve_dns(request)
        except (Exception, asyncio.CancelledError):
            # The server answers SERVFAIL in place of the plugin that broke.
            self.observe(request, request.error(SERVFAIL), time.monotonic() - start)
            raise
        self.observe(request, reply, time.monotonic() - start)
        return reply

    def observe(self, request: Request, reply: Reply, seconds: float) -> None:
        """Log a query whose reply took `seconds`."""
        name_wire = request.name_wire
        for logger in self._loggers:
            if logger.covers(name_wire):
                logger.log(request, reply, seconds)
                return

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Write what is left."""
        WRITER.flush(PATIENCE if context.final else 0.0)


def _kind(request: Request, reply: Reply) -> Kind:
    try:
        # CoreDNS judges signatures if the reply has DO, which it has if the query has it.
        return typify(reply, time.time() if request.do else None)
    except FormError:
        return Kind.OTHER_ERROR
