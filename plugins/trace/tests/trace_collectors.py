"""Readers of what each kind of collector gets, written after its specification.

They check every field, and return the same plain `Got` for all kinds.
"""

import json
import re
import struct
from typing import NamedTuple

import pytest

KINDS = pytest.mark.parametrize("kind", ["zipkin", "datadog", "otlp"])
ZONE = {"www.test. A": ["www.test. 60 IN A 192.0.2.1"]}
IN_TIME = range(1_600_000_000, 5_000_000_000)  # seconds since the epoch


class Got(NamedTuple):
    """A span."""

    trace: str
    ident: str
    parent: str
    name: str
    start: float  # seconds since the epoch
    seconds: float
    is_server: bool
    tags: dict[str, str]
    error: str


def unpack(data, at=0):
    """Return the value at an offset, and the end of it: MessagePack (spec.md), all that is used."""
    first, at = data[at], at + 1
    if first < 0x80:
        return first, at
    if first < 0xA0:
        return unpack_items(data, at, first & 15, is_map=first < 0x90)
    if first < 0xC0:
        return data[at : at + (first & 31)].decode(), at + (first & 31)
    code, size = {
        0xCB: ("d", 8), 0xCF: ("Q", 8), 0xD3: ("q", 8),
        0xD9: ("B", 1), 0xDA: ("H", 2), 0xDB: ("I", 4), 0xDC: ("H", 2), 0xDD: ("I", 4),
    }[first]  # fmt: skip
    (value,), at = struct.unpack_from(f"!{code}", data, at), at + size
    if first < 0xD9:
        return value, at
    if first < 0xDC:
        return data[at : at + value].decode(), at + value
    return unpack_items(data, at, value, is_map=False)


def unpack_items(data, at, count, *, is_map):
    items = []
    for _ in range(count * (2 if is_map else 1)):
        item, at = unpack(data, at)
        items.append(item)
    return (dict(zip(items[::2], items[1::2], strict=True)) if is_map else items), at


def read_zipkin(request):
    """zipkin2-api.yaml, ListOfSpans."""
    assert request.headers["content-type"] == "application/json"
    spans = json.loads(request.body)
    for span in spans:
        assert re.fullmatch(r"[0-9a-f]{16}|[0-9a-f]{32}", span["traceId"])
        assert re.fullmatch(r"[0-9a-f]{16}", span["id"])
        assert re.fullmatch(r"[0-9a-f]{16}", span.get("parentId", "0" * 16))
        assert span["name"] == span["name"].lower()
        assert span.get("kind", "SERVER") in ("SERVER", "CLIENT")
        assert ("remoteEndpoint" in span) == (span.get("kind") == "CLIENT")
        assert type(span["timestamp"]) is type(span["duration"]) is int
        assert span["duration"] >= 1
        endpoint = span["localEndpoint"]
        assert endpoint["serviceName"] == endpoint["serviceName"].lower()
        assert endpoint.keys() <= {"serviceName", "ipv4", "ipv6", "port"}
        assert {type(it) for it in span.get("tags", {"": ""}).values()} == {str}
        optional = {"parentId", "kind", "shared", "tags", "remoteEndpoint"}
        required = {"traceId", "id", "name", "timestamp", "duration", "localEndpoint"}
        assert required <= span.keys() <= required | optional
        tags = dict(span.get("tags", {}))
        yield Got(
            span["traceId"], span["id"], span.get("parentId", ""), span["name"],
            span["timestamp"] / 1e6, span["duration"] / 1e6, span.get("kind") == "SERVER",
            tags, tags.pop("error", ""),
        )  # fmt: skip


def read_datadog(request):
    """The agent's API for traces, version 0.4: pb.Span (datadog-agent, pkg/trace)."""
    assert request.headers["content-type"] == "application/msgpack"
    traces, end = unpack(request.body)
    assert end == len(request.body)
    assert request.headers["x-datadog-trace-count"] == str(len(traces))
    assert request.headers["datadog-meta-lang"] == "python"
    for trace in traces:
        upper = {it for span in trace if (it := span["meta"].get("_dd.p.tid"))}
        assert len({span["trace_id"] for span in trace}) == len(upper) == 1
        for span in trace:
            assert span.keys() == {
                "service", "type", "trace_id", "span_id", "parent_id", "start", "duration",
                "name", "resource", "error", "meta", "metrics",
            }  # fmt: skip
            assert (span["type"], span["resource"]) == ("dns", span["name"])
            assert all(0 < span[key] < 1 << 64 for key in ("trace_id", "span_id"))
            is_top = bool(span["metrics"])
            assert span["metrics"].get("_sampling_priority_v1", 1.0) == 1.0
            meta = {key: it for key, it in span["meta"].items() if key != "_dd.p.tid"}
            error = meta.pop("error.message", "")
            assert (span["error"], meta.pop("error.type", "")) == (
                (1, "dns_error") if error else (0, "")
            )
            parent = f"{span['parent_id']:016x}" if span["parent_id"] else ""
            yield Got(
                f"{next(iter(upper))}{span['trace_id']:016x}", f"{span['span_id']:016x}", parent,
                span["name"], span["start"] / 1e9, span["duration"] / 1e9, is_top,
                {key.replace("coredns.io@", "coredns.io/"): it for key, it in meta.items()}, error,
            )  # fmt: skip


def read_otlp(request):
    """opentelemetry-proto, trace.proto, in the JSON encoding of OTLP's specification."""
    assert request.headers["content-type"] == "application/json"
    message = json.loads(request.body)
    assert message.keys() == {"resourceSpans"}
    (resource,) = message["resourceSpans"]
    assert resource.keys() == {"resource", "scopeSpans"}
    assert attributes(resource["resource"]).keys() == {"service.name", "host.name"}
    (scope,) = resource["scopeSpans"]
    assert scope.keys() == {"scope", "spans"}
    assert scope["scope"].keys() == {"name", "version"}
    for span in scope["spans"]:
        assert re.fullmatch(r"[0-9a-f]{32}", span["traceId"])
        assert re.fullmatch(r"[0-9a-f]{16}", span["spanId"])
        assert re.fullmatch(r"[0-9a-f]{16}|", span.get("parentSpanId", ""))
        assert span["kind"] in (1, 2, 3)
        start, end = (span[f"{it}TimeUnixNano"] for it in ("start", "end"))
        assert type(start) is type(end) is str
        assert int(start) <= int(end)
        status = span.get("status", {"code": 2, "message": ""})
        assert status == {"code": 2, "message": status["message"]}
        required = {"traceId", "spanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano"}
        assert required <= span.keys() <= required | {"parentSpanId", "attributes", "status"}
        yield Got(
            span["traceId"], span["spanId"], span.get("parentSpanId", ""), span["name"],
            int(start) / 1e9, (int(end) - int(start)) / 1e9, span["kind"] == 2,
            attributes(span), status["message"],
        )  # fmt: skip


def attributes(owner):
    found = owner.get("attributes", [])
    assert all(it.keys() == {"key", "value"} for it in found)
    assert all(it["value"].keys() == {"stringValue"} for it in found)
    return {it["key"]: it["value"]["stringValue"] for it in found}


READERS = {"zipkin": read_zipkin, "datadog": read_datadog, "otlp": read_otlp}


def spans_of(collector, count, kind="zipkin"):
    """Return the next `count` spans of a collector, by trace in the order of arrival."""
    spans: list[Got] = []
    while len(spans) < count:
        spans += READERS[kind](collector.next())
    assert len(spans) == count
    traces: dict[str, list[Got]] = {}
    for span in spans:
        assert int(span.start) in IN_TIME
        assert 0 <= span.seconds < 3600
        traces.setdefault(span.trace, []).append(span)
    return list(traces.values())


def tree(trace):
    """Return the names of a trace's spans in nested lists; a plugin's begin and end are its caller's."""
    top = [it for it in trace if it.parent not in {other.ident for other in trace}]
    assert [it.is_server for it in top] == [True]
    by_parent: dict[str, list[Got]] = {}
    for span in trace:
        by_parent.setdefault(span.parent, []).append(span)

    def below(span):
        children = sorted(by_parent.get(span.ident, ()), key=lambda it: it.start)
        for child in children:
            assert not child.is_server
            assert child.start >= span.start - 1e-6
        return [span.name, *map(below, children)]

    return below(top[0])


def top_of(trace):
    return next(it for it in trace if it.is_server)


def traced(collector, rest, kind="", options="", before="bind 127.0.0.1"):
    """Return a Corefile whose queries are traced, and sent at once."""
    return (
        f". {{\n{before}\ntrace {kind or 'zipkin'} 127.0.0.1:{collector.port} {{\n"
        f"zipkin_max_batch_interval 1ms\n{options}\n}}\n{rest}\n}}"
    )


def tags(rcode="NOERROR", name="www.test.", qtype="A", proto="udp", **more):
    return {
        "coredns.io/name": name, "coredns.io/type": qtype, "coredns.io/rcode": rcode,
        "coredns.io/proto": proto, "coredns.io/remote": "127.0.0.1", **more,
    }  # fmt: skip
