"""The metrics of queries: CoreDNS's names, labels and buckets (plugin/metrics/vars).

Each combination of labels is looked up once. A `Series` holds the result, so counting a query takes
a few additions.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from socket import AF_INET
from time import monotonic
from typing import TYPE_CHECKING, Final, final

from corepy.dns import constants as c
from corepy.dns.address import host_port
from corepy.plugin import metrics
from corepy.plugin.metrics import TIME_BUCKETS

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.plugin.metrics import Value

    Labels = tuple[str, str, str, str, str, str]
    """Server, zone, view, proto, family, type."""

    Shape = tuple[str, str, str, str, str, int, int, int, bool, int, str]
    """Labels with the type as a number; sizes of query and reply, DO, rcode, answering plugin."""

SERVER: Final = ""
"""The server itself, as the value of a plugin label."""

SIZES: Final = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3)

REPEATED_SECONDS: Final = 0.00001
"""Duration of an answer from the packet cache; not measured, well inside the lowest bucket."""

MAX_SHAPES: Final = 1000
"""Maximum number of shapes that a handler remembers; most queries have one of a few."""

MONITORED: Final = (
    "A", "AAAA", "ANY", "AXFR", "CNAME", "DNSKEY", "DS", "HTTPS", "IXFR", "MX", "NS", "NSEC",
    "NSEC3", "PTR", "RRSIG", "SOA", "SRV", "SVCB", "TXT",
)  # fmt: skip
TYPES: Final = {c.type_number(name): name for name in MONITORED}
OTHER: Final = "other"

REQUESTS: Final = metrics.counter(
    "coredns_dns_requests_total",
    "Counter of DNS requests made per zone, protocol and family.",
    ("server", "zone", "view", "proto", "family", "type"),
)
REQUEST_DURATION: Final = metrics.histogram(
    "coredns_dns_request_duration_seconds",
    "Histogram of the time (in seconds) each request took per zone.",
    ("server", "zone", "view"),
    bounds=TIME_BUCKETS,
)
REQUEST_SIZE: Final = metrics.histogram(
    "coredns_dns_request_size_bytes",
    "Size of the request in bytes per zone and protocol.",
    ("server", "zone", "view", "proto"),
    bounds=SIZES,
)
DO_REQUESTS: Final = metrics.counter(
    "coredns_dns_do_requests_total",
    "Counter of DNS requests with DO bit set per zone.",
    ("server", "zone", "view"),
)
RESPONSE_SIZE: Final = metrics.histogram(
    "coredns_dns_response_size_bytes",
    "Size of the returned response in bytes.",
    ("server", "zone", "view", "proto"),
    bounds=SIZES,
)
RESPONSES: Final = metrics.counter(
    "coredns_dns_responses_total",
    "Counter of response status codes.",
    ("server", "zone", "view", "rcode", "plugin"),
)

_OPT_SIZE: Final = 11
_RCODES: Final = {number: name for name, number in c.RCODES.items()}
_IPV4: Final = AF_INET.to_bytes(2, sys.byteorder)
_IPV4_SIZE: Final = 16
"""Bytes of an IPv4 socket address; an IPv6 one has 28."""
_MAPPED: Final = bytes(10) + b"\xff\xff"


@final
class Series:
    """The metric children of one combination of labels."""

    __slots__ = (
        "_block",
        "_responses",
        "do_requests",
        "duration",
        "request_size",
        "requests",
        "response_size",
    )

    def __init__(self, labels: Labels) -> None:
        self._block = block = labels[:3]
        by_proto = labels[:4]
        self.requests = REQUESTS.labels(*labels)
        self.duration = REQUEST_DURATION.labels(*block)
        self.request_size = REQUEST_SIZE.labels(*by_proto)
        self.do_requests = DO_REQUESTS.labels(*block)
        self.response_size = RESPONSE_SIZE.labels(*by_proto)
        self._responses: dict[tuple[int, str], Value] = {}

    def responses(self, rcode: int, plugin: str) -> Value:
        """Return the counter of replies with `rcode` by `plugin`."""
        child = self._responses.get((rcode, plugin))
        if child is None:
            name = _RCODES.get(rcode) or f"RCODE{rcode}"
            child = self._responses[rcode, plugin] = RESPONSES.labels(*self._block, name, plugin)
        return child


@final
class AllSeries:
    """The series of one handler, by `Shape`."""

    __slots__ = ("_counters", "_series", "deadline_setter")

    def __init__(self) -> None:
        self._counters: dict[Shape, ShapeCounter] = {}
        self._series: dict[Labels, Series] = {}
        self.deadline_setter = SERVER
        """The plugin whose replies the packet cache repeats."""

    def count(self, request: Request, reply: Reply) -> None:
        """Count a query and its reply, and let the packet cache count its repetitions."""
        # As in CoreDNS, where the server itself replies after an error.
        if reply.error is not None or reply.is_substitute:
            plugin = SERVER
        else:
            plugin = reply.answered_by or SERVER
        self.counter_for(request, reply, plugin).count(monotonic() - request.received)
        if reply.deadline is not None:
            reply.hit_counters += (self.counter_for(request, reply, self.deadline_setter),)

    def counter_for(self, request: Request, reply: Reply, plugin: str) -> ShapeCounter:
        """Return the counter for queries of this shape, answered by `plugin`.

        Runs for every query that the packet cache does not answer.
        """
        wire, edns, client, context = reply.wire, request.edns, request.client, request.context
        size, do = len(wire), False
        if edns is not None:
            size += _OPT_SIZE + len(reply.options)
            do = edns.do
        if reply.is_dropped:
            size = 0  # CoreDNS counts a query without a reply as NOERROR of this size
        elif reply.series is not None:
            size = reply.series.size
        shape = (
            context.server,
            context.zone,
            context.view,
            context.network,
            "1" if type(client) is bytes and len(client) == _IPV4_SIZE else family(client),
            request.qtype,
            len(request.wire),
            size,
            do,
            reply.extended_rcode << 4 | wire[3] & 15,
            plugin,
        )
        return self._counters.get(shape) or self._add(shape)

    def _add(self, shape: Shape) -> ShapeCounter:
        labels = (*shape[:5], TYPES.get(shape[5], OTHER))
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Series(labels)
        if len(self._counters) >= MAX_SHAPES:
            flush()
            self._counters.clear()
        counter = self._counters[shape] = ShapeCounter(series, shape)
        return counter


@final
class ShapeCounter:
    """Counts queries that are equal in all counted properties except their duration.

    It counts queries that the packet cache answers, as a `corepy.plugin.HitCounter`. It also counts
    queries that pass through the chain; most of that work is deferred until the metrics are read.
    """

    __slots__ = ("_do", "_duration", "_passed", "_request_size", "_response_size", "_responses",
                 "_series")  # fmt: skip

    def __init__(self, series: Series, shape: Shape) -> None:
        self._series = series
        self._duration = series.duration
        *_, self._request_size, self._response_size, self._do, rcode, plugin = shape
        self._responses = series.responses(rcode, plugin)
        self._passed = 0

    def count(self, seconds: float) -> None:
        """Count one query that took `seconds`."""
        if not self._passed:
            _uncounted.append(self)
        self._passed += 1
        duration = self._duration
        duration.counts[bisect_left(TIME_BUCKETS, seconds)] += 1
        duration.total += seconds

    def count_hits(self, times: int) -> None:
        """Count `times` queries that the packet cache answered."""
        self._duration.observe(REPEATED_SECONDS, times)
        self._count(times)

    def flush(self) -> None:
        """Count the queries since the last call."""
        times, self._passed = self._passed, 0
        self._count(times)

    def _count(self, times: int) -> None:
        series = self._series
        series.requests.value += times
        self._responses.value += times
        series.request_size.observe(self._request_size, times)
        series.response_size.observe(self._response_size, times)
        if self._do:
            series.do_requests.value += times


_uncounted: Final[list[ShapeCounter]] = []


def flush() -> None:
    """Count deferred queries, before the metrics are read."""
    for counter in _uncounted:
        counter.flush()
    _uncounted.clear()


metrics.before_reading(flush)


def prepare(server: str, zone: str) -> None:
    """Create the time series that count every query, with the value zero."""
    REQUEST_DURATION.labels(server, zone, "")
    DO_REQUESTS.labels(server, zone, "")


def family(peer: object) -> str:
    """Return "1" for a client with an IPv4 address and "2" for one with IPv6."""
    if type(peer) is bytes:
        is_v4 = peer[:2] == _IPV4 or peer.startswith(_MAPPED, 8)
    else:
        is_v4 = ":" not in host_port(peer)[0]
    return "1" if is_v4 else "2"
