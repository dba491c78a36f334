"""The HTTP self-check: measures the time this process takes to answer its own /health.

CoreDNS: plugin/health/overloaded.go.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corepy.plugin import metrics, plugin_logger

if TYPE_CHECKING:
    from corepy.net.sockets import Address

INTERVAL: Final = 1.0
TIMEOUT: Final = 3.0
"""Seconds after which a request has failed."""

SLOW: Final = 1.0
"""Seconds after which a local request indicates a problem."""

DURATION = metrics.histogram(
    "coredns_health_request_duration_seconds",
    "Histogram of the time (in seconds) each request took.",
    bounds=tuple(0.00025 * 10**n for n in range(5)),
)
FAILURES = metrics.counter(
    "coredns_health_request_failures_total", "The number of times the health check failed."
)
LOG = plugin_logger("health")

_REQUEST: Final = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def watch(address: Address) -> None:
    """Request /health at `address` periodically and measure the time."""
    host, loop = address.host or "localhost", asyncio.get_running_loop()
    url = f"http://{address}/health"
    while True:
        await asyncio.sleep(INTERVAL)
        start, failure = loop.time(), ""
        try:
            async with asyncio.timeout(TIMEOUT):
                status = await _get(host, address.port)
        except OSError as error:  # includes TimeoutError
            failure = error.strerror or str(error) or "timed out"
        else:
            failure = "" if b" 200 " in status else status.decode("latin-1").strip()
        took = loop.time() - start
        DURATION.labels().observe(took)
        if failure:
            FAILURES.labels().inc()
            LOG.warning("Local health request to %r failed: %s", url, failure)
        elif took > SLOW:
            LOG.warning("Local health request to %r took more than 1s: %.3fs", url, took)


async def _get(host: str, port: int) -> bytes:
    """Return the status line."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_REQUEST)
        head = await reader.read()
        return head.partition(b"\r\n")[0]
    finally:
        writer.close()
