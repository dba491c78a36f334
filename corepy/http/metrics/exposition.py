"""Builds the text of a scrape, with the metric families and encoders of prometheus_client.

Encoding takes microseconds per sample, and a scrape has thousands. So it is split into slices, and
the event loop serves DNS in between. (A thread would hold the GIL for 5 ms at a time.) Scrapes at
the same time take turns, since a slice of each would delay queries as much as a long one.
prometheus_client is large and is imported by the first scrape.
"""

from __future__ import annotations

import asyncio
import math
import platform
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from corepy.http.messages import HTTPResponse
from corepy.http.metrics import processes
from corepy.http.metrics.go_numbers import go_number, with_go_numbers
from corepy.plugin import metrics
from corepy.plugin.metrics import Distribution
from corepy.release import commit, version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

    from corepy.http.messages import HTTPRequest
    from corepy.plugin import ProcessGroup

SLICE: Final = 30
"""Samples of one family that are encoded at a time: up to half a millisecond."""

CLIENT: Final = "prometheus_client"
OPENMETRICS: Final = "application/openmetrics-text"
END: Final = b"# EOF\n"

_TEXT_KINDS: Final = frozenset(("text/plain", "text/*", "*/*"))

_sources: list[Callable[[], Iterable[Metric]]] = []


def add_source(source: Callable[[], Iterable[Metric]]) -> None:
    """Export the families that `source` returns on each scrape, until the process ends.

    For values that are not kept in `corepy.plugin.metrics`.
    """
    _sources.append(source)


async def scrape(
    process_group: ProcessGroup, request: HTTPRequest, encoding: asyncio.Lock
) -> HTTPResponse:
    """Return all metrics of `process_group`, in the format of the Accept header.

    Of all scrapes with the same lock `encoding`, one encodes a slice at a time.
    """
    # The slow import runs in a thread, so the loop continues meanwhile.
    await asyncio.get_running_loop().run_in_executor(None, import_module, CLIENT)
    from prometheus_client.exposition import choose_encoder

    await process_group.gather()
    accept = request.headers.get("accept", "")
    is_open = _takes_only_openmetrics(accept)
    encode, content_type = choose_encoder(accept if is_open else "")
    families = parts(process_group.followers, is_open=is_open)
    pieces = _pieces(families, encode, encoding, is_open=is_open)
    return HTTPResponse(pieces, content_type=content_type)


def _takes_only_openmetrics(accept: str) -> bool:
    """Whether a client does not accept the text format.

    CoreDNS always answers in the text format, though Prometheus prefers OpenMetrics. OpenMetrics
    writes the bounds of buckets differently, so a fleet of both servers would have two series for
    each bucket.
    """
    kinds = {kind.partition(";")[0].strip() for kind in accept.split(",")}
    return OPENMETRICS in kinds and kinds.isdisjoint(_TEXT_KINDS)


async def _pieces(
    families: Iterator[Metric],
    encode: Callable[[Collector], bytes],
    encoding: asyncio.Lock,
    *,
    is_open: bool,
) -> AsyncIterator[bytes]:
    name = ""
    while True:
        async with encoding:
            part = next(families, None)
            if part is None:
                break
            text = encode(_Only(part))
            text = text.removesuffix(END) if is_open else with_go_numbers(text)
            await asyncio.sleep(0)  # with the lock: no other slice in this turn of the event loop
        yield _without_head(text) if part.name == name else text
        name = part.name
    if is_open:
        yield END


class _Only:
    """A collector with one family, for the encoders."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def _without_head(text: bytes) -> bytes:
    """Return the samples of a family without its HELP and TYPE lines."""
    while text.startswith(b"# "):
        text = text.partition(b"\n")[2]
    return text


def parts(followers: Sequence[int] = (), *, is_open: bool = False) -> Iterator[Metric]:
    """Yield all metrics, each read only when it is encoded; large families in several parts.

    `followers` are the IDs of the other processes of this server; `is_open`: for OpenMetrics.
    """
    from prometheus_client import PLATFORM_COLLECTOR

    for metric in metrics.registered():
        yield from _parts_of(metric, is_open=is_open)
    yield _build_info()
    yield from processes.families(followers)
    yield from PLATFORM_COLLECTOR.collect()
    for source in _sources:
        yield from source()


def _parts_of(metric: metrics.Metric[Any], *, is_open: bool) -> Iterator[Metric]:
    if not metric.label_names:
        metric.labels()  # exists from the start, at zero
    part = _empty(metric)
    for values, child in metric.children():
        labels = dict(zip(metric.label_names, values, strict=True))
        if type(child) is Distribution:
            _add_histogram(part, labels, child, is_open=is_open)
        else:
            suffix = "_total" if metric.kind == "counter" else ""
            part.add_sample(part.name + suffix, labels, child.value)
        if len(part.samples) >= SLICE:
            yield part
            part = _empty(metric)
    if part.samples:
        yield part


def _empty(metric: metrics.Metric[Any]) -> Metric:
    from prometheus_client.metrics_core import Metric

    name = metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name
    return Metric(name, metric.help, metric.kind)


def _add_histogram(
    family: Metric, labels: dict[str, str], child: Distribution, *, is_open: bool
) -> None:
    from prometheus_client.utils import floatToGoString

    # OpenMetrics requires a decimal point, and parsers may insist on it.
    show: Callable[[float], str] = floatToGoString if is_open else go_number
    count, bucket = 0, family.name + "_bucket"
    for bound, below in zip((*child.bounds, math.inf), child.counts, strict=True):
        count += below
        le = show(bound)
        family.add_sample(bucket, {**labels, "le": le}, count)
    family.add_sample(family.name + "_count", labels, count)
    family.add_sample(family.name + "_sum", labels, child.total)


def _build_info() -> Metric:
    from prometheus_client.metrics_core import GaugeMetricFamily

    names = ("version", "revision", "goversion")
    help_text = "A constant 1, labeled by corepy's version, revision, and Python's version."
    family = GaugeMetricFamily("coredns_build_info", help_text, labels=names)
    family.add_metric((*_release(), f"python{platform.python_version()}"), 1)
    return family


@cache
def _release() -> tuple[str, str]:
    return version(), commit()
