"""The common part of the formats: the values of a span, and the names of its tags."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from corepy_trace.span import Span

    Headers = Sequence[tuple[str, str]]

TAGS: Final = {
    "name": "coredns.io/name",
    "type": "coredns.io/type",
    "rcode": "coredns.io/rcode",
    "proto": "coredns.io/proto",
    "remote": "coredns.io/remote",
    "packet_cache": "corepy.packet_cache",
    "peer": "peer.address",
}
"""The names of the tags in zipkin and OTLP; all but `corepy.packet_cache` are CoreDNS's."""

to_json: Final[Callable[[Any], str]] = json.JSONEncoder(separators=(",", ":")).encode


class Format(Protocol):
    """Encodes spans for one kind of collector."""

    def draw_trace_id(self) -> int:
        """Return a new trace ID."""

    def show_trace_id(self, ident: int) -> str:
        """Return a trace ID as the collector shows it."""

    def encode(self, span: Span) -> bytes:
        """Return a span, which is then no longer needed."""

    def assemble(self, spans: Sequence[Span], encoded: Sequence[bytes]) -> tuple[bytes, Headers]:
        """Return the content and the headers of the request that sends `spans`."""


def named_tags(span: Span, names: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a span with the names of a format."""
    return {names[short]: value for short, value in span.tags.items()}


def show_id(ident: int) -> str:
    """Return a trace ID of 64 bits as 16 digits, a longer one as 32."""
    return f"{ident:016x}" if ident < 1 << 64 else f"{ident:032x}"
