"""The second address of the metrics, as node-cache has one (app/metrics.go).

There, both addresses export the same: everything in the process. So the option `metrics` exports
what *prometheus* exports, whether or not a server block has *prometheus*.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from corepy.http.metrics import MetricsEndpoint
from corepy.plugin import LifecycleContext, hookimpl, metrics, plugin_logger
from corepy_nodecache.metrics import setup_errors as setup_errors  # exported from the start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from corepy.http import HTTPRequest, HTTPResponse

SCRAPES: Final = metrics.counter(
    "promhttp_metric_handler_requests_total",
    "Total number of scrapes by HTTP status code.",
    ("code",),
)
IN_FLIGHT: Final = metrics.gauge(
    "promhttp_metric_handler_requests_in_flight", "Current number of scrapes being served."
).labels()

OK, FAILED, BUSY = "200", "500", "503"
for _code in (OK, FAILED, BUSY):
    SCRAPES.labels(_code)

log = plugin_logger("nodecache")


class CountedEndpoint(MetricsEndpoint):
    """Counts its scrapes, as node-cache's does (client_golang, promhttp.Handler)."""

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Return all metrics, and count this request at the end of the response."""
        try:
            response = await super().answer(request)
        except Exception:
            SCRAPES.labels(FAILED).inc()
            raise
        assert not isinstance(response.body, bytes)
        return replace(response, body=_counted(response.body))


async def _counted(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    code = OK  # also if the client closes the connection before the end
    IN_FLIGHT.inc()
    try:
        async for piece in pieces:
            yield piece
    except Exception:
        code = FAILED
        raise
    finally:
        IN_FLIGHT.inc(-1)
        SCRAPES.labels(code).inc()


class SetupMetrics:
    """The option `metrics` of one server block of one generation."""

    def __init__(self, address: str) -> None:
        """Export at `address` (host:port)."""
        self._address = address
        self._endpoint: MetricsEndpoint | None = None

    @hookimpl
    async def serving(self, context: LifecycleContext) -> None:
        """Start to export; if the address is in use, DNS is served and the attempt repeated."""
        self._endpoint = CountedEndpoint(self._address, context.process_group, log)
        await self._endpoint.open()

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """Stop exporting, unless a later generation continues."""
        if self._endpoint is not None:
            await self._endpoint.close()
