"""OTLP over HTTP in JSON (opentelemetry-proto: trace/v1/trace.proto, docs/specification.md).

The specification permits JSON and binary Protobuf. JSON is used since the encoder of Python's
library is written in C: Protobuf without a further dependency would cost several times the CPU time
of a node. In this JSON, IDs are hexadecimal, 64-bit numbers are strings, and enumerations are
numbers.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from corepy.release import version
from corepy_trace.formats import TAGS, named_tags, to_json
from corepy_trace.span import draw_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy_trace.formats import Headers
    from corepy_trace.settings import Settings
    from corepy_trace.span import Span

_HEADERS: Final = (("Content-Type", "application/json"),)
_NANOSECONDS: Final = 1_000_000_000
_KIND_INTERNAL: Final = 1
_KIND_SERVER: Final = 2
_KIND_CLIENT: Final = 3
_STATUS_ERROR: Final = 2


class OTLPFormat:
    """Encodes spans as OpenTelemetry's collectors take them."""

    def __init__(self, settings: Settings) -> None:
        """Name the service of `settings` and this host as the resource."""
        resource = {"service.name": settings.service, "host.name": socket.gethostname()}
        head = {"resource": {"attributes": _attributes(resource)}}
        scope = {"scope": {"name": "corepy", "version": version()}}
        self._start = (
            f'{{"resourceSpans":[{to_json(head)[:-1]},"scopeSpans":[{to_json(scope)[:-1]},"spans":['
        ).encode()

    def draw_trace_id(self) -> int:
        """Return a new trace ID."""
        return draw_id(128)

    def show_trace_id(self, ident: int) -> str:
        """Return 32 digits."""
        return f"{ident:032x}"

    def encode(self, span: Span) -> bytes:
        """Return the JSON object of a span."""
        trace = span.trace
        fields: dict[str, Any] = {
            "traceId": f"{trace.ident:032x}",
            "spanId": f"{span.ident:016x}",
            "name": span.name,
            "kind": _kind_of(span),
            "startTimeUnixNano": str(round((trace.epoch + span.start) * _NANOSECONDS)),
            "endTimeUnixNano": str(round((trace.epoch + span.end) * _NANOSECONDS)),
        }
        if span.parent:
            fields["parentSpanId"] = f"{span.parent:016x}"
        if span.tags:
            fields["attributes"] = _attributes(named_tags(span, TAGS))
        if span.error:
            fields["status"] = {"code": _STATUS_ERROR, "message": span.error}
        return to_json(fields).encode()

    def assemble(self, spans: Sequence[Span], encoded: Sequence[bytes]) -> tuple[bytes, Headers]:
        """Return the message ExportTraceServiceRequest."""
        return b"".join((self._start, b",".join(encoded), b"]}]}]}")), _HEADERS


def _kind_of(span: Span) -> int:
    if span.above is None:
        return _KIND_SERVER
    return _KIND_INTERNAL if span.peer is None else _KIND_CLIENT


def _attributes(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]
