"""The traces of a Datadog agent, version 0.4: MessagePack over HTTP.

The fields are those of datadog-agent's pkg/trace/api (pb.Span). Only the part of MessagePack that
they need is encoded (github.com/msgpack/msgpack, spec.md). The keys are constant, so a span is
joined from prepared pieces.
"""

from __future__ import annotations

import platform
import time
from struct import pack
from typing import TYPE_CHECKING, Final

from corepy.release import version
from corepy_trace.formats import TAGS, named_tags
from corepy_trace.span import draw_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy_trace.formats import Headers
    from corepy_trace.settings import Settings
    from corepy_trace.span import Span

_TAGS: Final = {short: name.replace("coredns.io/", "coredns.io@") for short, name in TAGS.items()}
_NANOSECONDS: Final = 1_000_000_000
_LOW: Final = (1 << 64) - 1
_KEEP: Final = 1.0
"""The sampling priority of a trace that the agent is to keep: *trace* has selected the query."""


def text(value: str) -> bytes:
    """Return a string in MessagePack."""
    data = value.encode("utf-8", "replace")
    size = len(data)
    if size < 32:
        return bytes((0xA0 | size,)) + data
    if size < 1 << 8:
        return bytes((0xD9, size)) + data
    if size < 1 << 16:
        return pack("!BH", 0xDA, size) + data
    return pack("!BI", 0xDB, size) + data


def array_head(size: int) -> bytes:
    """Return the beginning of an array in MessagePack."""
    if size < 16:
        return bytes((0x90 | size,))
    return pack("!BH", 0xDC, size) if size < 1 << 16 else pack("!BI", 0xDD, size)


def strings(values: Mapping[str, str]) -> bytes:
    """Return a map of at most 15 strings in MessagePack."""
    pieces = [text(part) for pair in values.items() for part in pair]
    return b"".join((bytes((0x80 | len(values),)), *pieces))


def floats(values: Mapping[str, float]) -> bytes:
    """Return a map of at most 15 strings to numbers in MessagePack."""
    pieces = [text(key) + pack("!Bd", 0xCB, value) for key, value in values.items()]
    return b"".join((bytes((0x80 | len(values),)), *pieces))


_UINT64: Final = b"\xcf"
_INT64: Final = b"\xd3"
_IDS: Final = tuple(text(key) + _UINT64 for key in ("trace_id", "span_id", "parent_id"))
_TIMES: Final = tuple(text(key) + _INT64 for key in ("start", "duration"))
_NAME, _RESOURCE, _ERROR, _META, _METRICS = map(
    text, ("name", "resource", "error", "meta", "metrics")
)


class DatadogFormat:
    """Encodes spans as a Datadog agent takes them.

    A trace ID has 128 bits, of which the upper half is the time and a tag, as in Datadog's tracers.
    """

    def __init__(self, settings: Settings) -> None:
        """Use the service and the analytics rate of `settings`."""
        service = text("service") + text(settings.service) + text("type") + text("dns")
        self._start = b"\x8c" + service  # a map of 12 fields
        metrics = {"_sampling_priority_v1": _KEEP}
        if settings.analytics_rate:
            metrics["_dd1.sr.eausr"] = settings.analytics_rate
        self._metrics = _METRICS + floats(metrics)
        self._headers = (
            ("Content-Type", "application/msgpack"),
            ("Datadog-Meta-Lang", "python"),
            ("Datadog-Meta-Lang-Version", platform.python_version()),
            ("Datadog-Meta-Lang-Interpreter", platform.python_implementation()),
            ("Datadog-Meta-Tracer-Version", f"corepy-{version()}"),
        )

    def draw_trace_id(self) -> int:
        """Return a new trace ID: seconds since the epoch, 32 zero bits, 64 random bits."""
        # time of day: the format of the ID
        return int(time.time()) << 96 | draw_id(64)

    def show_trace_id(self, ident: int) -> str:
        """Return 32 digits."""
        return f"{ident:032x}"

    def encode(self, span: Span) -> bytes:
        """Return the map of a span."""
        trace, name = span.trace, text(span.name)
        meta = named_tags(span, _TAGS)
        if span.error:
            meta["error.message"] = span.error
            meta["error.type"] = "dns_error"
        is_top = span.above is None
        if is_top and trace.ident > _LOW:
            meta["_dd.p.tid"] = f"{trace.ident >> 64:016x}"
        ids = (trace.ident & _LOW, span.ident, span.parent)
        times = (trace.epoch + span.start, span.end - span.start)
        return b"".join(
            (
                self._start,
                *(key + pack("!Q", value) for key, value in zip(_IDS, ids, strict=True)),
                *(
                    key + pack("!q", round(value * _NANOSECONDS))
                    for key, value in zip(_TIMES, times, strict=True)
                ),
                _NAME + name + _RESOURCE + name,
                _ERROR + (b"\1" if span.error else b"\0"),
                _META + strings(meta),
                self._metrics if is_top else _METRICS + floats({}),
            )
        )

    def assemble(self, spans: Sequence[Span], encoded: Sequence[bytes]) -> tuple[bytes, Headers]:
        """Return an array of traces, which are arrays of spans."""
        traces: dict[int, list[bytes]] = {}
        for span, piece in zip(spans, encoded, strict=True):
            traces.setdefault(span.trace.ident, []).append(piece)
        pieces = [array_head(len(traces))]
        for group in traces.values():
            pieces += [array_head(len(group)), *group]
        return b"".join(pieces), (*self._headers, ("X-Datadog-Trace-Count", str(len(traces))))
