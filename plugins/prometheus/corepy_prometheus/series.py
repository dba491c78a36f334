"""The metrics of queries: CoreDNS's names, labels and buckets (plugin/metrics/vars).

Labels are looked up once for each combination that occurs; a `Series` holds what they led to, so
that counting a query is a handful of additions.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from socket import AF_INET
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.address import host_port
from corepy.plugin import metrics
from corepy.plugin.metrics import TIME_BUCKETS

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.plugin.metrics import Value

    Labels = tuple[str, str, str, str, str, str]
    """Server, zone, view, proto, family, type."""

    Shape = tuple[int, int, bool, int]
    """The query's size, the reply's size, DO, rcode."""

SIZES: Final = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3)

REPEATED_SECONDS: Final = 0.00001
"""What the packet cache takes for an answer, which is not measured for each: well inside the lowest
bucket.
"""

MAX_SHAPES: Final = 1000
"""Observers that a series remembers; most replies are of a few shapes."""

MONITORED: Final = (
    "A", "AAAA", "ANY", "AXFR", "CNAME", "DNSKEY", "DS", "HTTPS", "IXFR", "MX", "NS", "NSEC",
    "NSEC3", "PTR", "RRSIG", "SOA", "SRV", "SVCB", "TXT",
)  # fmt: skip
TYPES: Final = {c.type_number(name): name for name in MONITORED}
OTHER: Final = "other"

REQUESTS = metrics.counter(
    "coredns_dns_requests_total",
    "Counter of DNS requests made per zone, protocol and family.",
    ("server", "zone", "view", "proto", "family", "type"),
)
REQUEST_DURATION = metrics.histogram(
    "coredns_dns_request_duration_seconds",
    "Histogram of the time (in seconds) each request took per zone.",
    ("server", "zone", "view"),
    bounds=TIME_BUCKETS,
)
REQUEST_SIZE = metrics.histogram(
    "coredns_dns_request_size_bytes",
    "Size of the request in bytes per zone and protocol.",
    ("server", "zone", "view", "proto"),
    bounds=SIZES,
)
DO_REQUESTS = metrics.counter(
    "coredns_dns_do_requests_total",
    "Counter of DNS requests with DO bit set per zone.",
    ("server", "zone", "view"),
)
RESPONSE_SIZE = metrics.histogram(
    "coredns_dns_response_size_bytes",
    "Size of the returned response in bytes.",
    ("server", "zone", "view", "proto"),
    bounds=SIZES,
)
RESPONSES = metrics.counter(
    "coredns_dns_responses_total",
    "Counter of response status codes.",
    ("server", "zone", "view", "rcode", "plugin"),
)

_OPT_SIZE: Final = 11
_RCODES: Final = {number: name for name, number in c.RCODES.items()}
_IPV4: Final = AF_INET.to_bytes(2, sys.byteorder)
_MAPPED: Final = bytes(10) + b"\xff\xff"


class Series:
    """The children that one combination of labels leads to."""

    __slots__ = (
        "_block",
        "_distributions",
        "_repetitions",
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
        self._distributions = self.duration, self.request_size, self.response_size
        self._responses: dict[tuple[int, str], Value] = {}
        self._repetitions: dict[Shape, Repetitions] = {}

    def responses(self, rcode: int, plugin: str) -> Value:
        """Return the counter of replies with `rcode` that `plugin` made."""
        child = self._responses.get((rcode, plugin))
        if child is None:
            name = _RCODES.get(rcode) or f"RCODE{rcode}"
            child = self._responses[rcode, plugin] = RESPONSES.labels(*self._block, name, plugin)
        return child

    def count(self, request: Request, reply: Reply, plugin: str, seconds: float) -> Shape:
        """Count one query, answered by `plugin` after `seconds`; return what its repetitions share.

        Runs for every query that the packet cache does not answer. What `Distribution.observe` does
        is written out: three calls would be a third of the cost.
        """
        wire, edns = reply.wire, request.edns
        asked, size, do = len(request.wire), len(wire), False
        if edns is not None:
            size += _OPT_SIZE + len(reply.options)
            if edns.do:
                do = True
                self.do_requests.value += 1
        self.requests.value += 1
        duration, request_size, response_size = self._distributions
        duration.counts[bisect_left(TIME_BUCKETS, seconds)] += 1
        duration.total += seconds
        request_size.counts[bisect_left(SIZES, asked)] += 1
        request_size.total += asked
        response_size.counts[bisect_left(SIZES, size)] += 1
        response_size.total += size
        rcode = reply.extended_rcode << 4 | wire[3] & 15
        known = self._responses.get((rcode, plugin))
        (known or self.responses(rcode, plugin)).value += 1
        return asked, size, do, rcode

    def repetitions(self, shape: Shape, plugin: str) -> Repetitions:
        """Return the observer of replies of this shape, which the packet cache repeats in place of
        `plugin`.
        """
        observer = self._repetitions.get(shape)
        if observer is None:
            if len(self._repetitions) >= MAX_SHAPES:
                self._repetitions.clear()
            observer = self._repetitions[shape] = Repetitions(self, shape, plugin)
        return observer


class Repetitions:
    """Counts the queries that the packet cache answers (`corepy.plugin.Observer`)."""

    __slots__ = ("_do", "_request_size", "_response_size", "_responses", "_series")

    def __init__(self, series: Series, shape: Shape, plugin: str) -> None:
        self._series = series
        self._request_size, self._response_size, self._do, rcode = shape
        self._responses = series.responses(rcode, plugin)

    def repeated(self, times: int) -> None:
        """Count `times` queries."""
        series = self._series
        series.requests.value += times
        self._responses.value += times
        series.duration.observe(REPEATED_SECONDS, times)
        series.request_size.observe(self._request_size, times)
        series.response_size.observe(self._response_size, times)
        if self._do:
            series.do_requests.value += times


def prepare(server: str, zone: str) -> None:
    """Let the time series that every query counts in be there before the first one, at zero."""
    REQUEST_DURATION.labels(server, zone, "")
    DO_REQUESTS.labels(server, zone, "")


def labels_of(request: Request) -> Labels:
    """Return the label values of a query."""
    peer = request.peer
    return (
        request.server,
        request.zone,
        request.view,
        request.proto,
        "1" if type(peer) is bytes and peer[:2] == _IPV4 else family(peer),
        TYPES.get(request.qtype, OTHER),
    )


def family(peer: object) -> str:
    """Return "1" for a client with an IPv4 address and "2" for one with IPv6."""
    if type(peer) is bytes:
        is_v4 = peer[:2] == _IPV4 or peer.startswith(_MAPPED, 8)
    else:
        is_v4 = ":" not in host_port(peer)[0]
    return "1" if is_v4 else "2"
