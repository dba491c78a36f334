"""Spans, and the trace of one query that they belong to.

Times are those of the monotonic clock; `QueryTrace.epoch` turns them into the time of day. A span
that ends after its query, such as that of a prefetch, is sent on its own.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

TOP: Final = "servedns"
"""The name of a query's span (CoreDNS: defaultTopLevelSpanName)."""

ATTEMPT: Final = "connect"
"""The name of an attempt's span (CoreDNS: plugin/forward/forward.go)."""


def draw_id(bits: int) -> int:
    """Return a random number other than 0, which would mean that there is no ID."""
    while not (number := int.from_bytes(os.urandom(bits // 8), "big")):
        pass
    return number


class SpanSink(Protocol):
    """Takes spans that have ended, to send them."""

    def add(self, spans: Sequence[Span]) -> None:
        """Take the spans of one trace; never blocks."""


class QueryTrace:
    """The trace of one query."""

    __slots__ = ("_ended", "_is_over", "_sink", "epoch", "ident")

    def __init__(self, ident: int, sink: SpanSink, now: float) -> None:
        """`now` is the time of the monotonic clock."""
        self.ident = ident
        # time of day: the spans of several hosts are shown beside each other
        self.epoch = time.time() - now
        """Seconds since the epoch when the monotonic clock was 0."""
        self._sink = sink
        self._ended: list[Span] = []
        self._is_over = False

    def end(self, span: Span) -> None:
        """Take a span that has ended; that of the query, which has no parent here, sends all."""
        if self._is_over:
            self._sink.add([span])
            return
        self._ended.append(span)
        if span.above is None:
            self._is_over = True
            self._sink.add(self._ended)
            self._ended = []


class Span:
    """A query, the call of a plugin in it, or an attempt of a plugin at an upstream."""

    __slots__ = (
        "above", "end", "error", "ident", "is_shared", "name", "parent", "peer", "start", "tags",
        "trace",
    )  # fmt: skip

    def __init__(
        self, trace: QueryTrace, name: str, start: float, above: Span | None, parent: int = 0
    ) -> None:
        """`above` is the span of the caller; without one, `parent` is the client's ID, or 0."""
        self.trace = trace
        self.name = name
        self.start = self.end = start
        self.above = above
        self.ident = draw_id(64)
        self.parent = parent if above is None else above.ident
        self.tags: dict[str, Any] = {}
        """Values by the short names of tags: "name", "type", "rcode", "proto", "remote", "peer"."""
        self.peer: tuple[str, int] | None = None
        """IP address and port of the server that was asked, for the span of an attempt."""
        self.error = ""
        """A description of the failure, "" without one."""
        self.is_shared = False
        """Whether it has the ID of the client's own span."""
