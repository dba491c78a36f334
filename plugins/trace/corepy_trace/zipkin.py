"""Zipkin's JSON, version 2 (github.com/openzipkin/zipkin-api, zipkin2-api.yaml)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from corepy_trace.formats import TAGS, named_tags, show_id, to_json
from corepy_trace.span import draw_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy_trace.formats import Headers
    from corepy_trace.settings import Settings
    from corepy_trace.span import Span

_HEADERS: Final = (("Content-Type", "application/json"),)
_MICROSECONDS: Final = 1_000_000


class ZipkinFormat:
    """Encodes spans as Zipkin takes them; trace IDs have 64 bits, as CoreDNS's."""

    def __init__(self, settings: Settings) -> None:
        """Name the service and the address of `settings` in each span."""
        self._endpoint: dict[str, Any] = {"serviceName": settings.service.lower()}
        host, port = settings.local
        if host:
            self._endpoint[f"ipv{ip_address(host).version}"] = host
        if port:
            self._endpoint["port"] = port

    def draw_trace_id(self) -> int:
        """Return a new trace ID."""
        return draw_id(64)

    def show_trace_id(self, ident: int) -> str:
        """Return 16 or 32 digits."""
        return show_id(ident)

    def encode(self, span: Span) -> bytes:
        """Return the JSON object of a span; times are in whole microseconds, at least one."""
        trace = span.trace
        fields: dict[str, Any] = {
            "traceId": show_id(trace.ident),
            "id": f"{span.ident:016x}",
            "name": span.name.lower(),
            "timestamp": round((trace.epoch + span.start) * _MICROSECONDS),
            "duration": max(1, round((span.end - span.start) * _MICROSECONDS)),
            "localEndpoint": self._endpoint,
        }
        if span.parent:
            fields["parentId"] = f"{span.parent:016x}"
        if span.above is None:
            fields["kind"] = "SERVER"
        elif span.peer is not None:
            host, port = span.peer[0].partition("%")[0], span.peer[1]
            fields["kind"] = "CLIENT"
            fields["remoteEndpoint"] = {f"ipv{ip_address(host).version}": host, "port": port}
        if span.is_shared:
            fields["shared"] = True
        tags = named_tags(span, TAGS)
        if span.error:
            tags["error"] = span.error
        if tags:
            fields["tags"] = tags
        return to_json(fields).encode()

    def assemble(self, spans: Sequence[Span], encoded: Sequence[bytes]) -> tuple[bytes, Headers]:
        """Return a JSON array of the spans."""
        return b"[%b]" % b",".join(encoded), _HEADERS
