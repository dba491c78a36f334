"""Limits the requests of this process to the API, as client-go does (QPS and burst)."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from corepy_kubernetes.api_config import Limits


class RequestLimiter:
    """A token bucket, and a limit on requests at the same time."""

    def __init__(self, limits: Limits) -> None:
        self._qps = limits.qps
        self._burst = limits.burst
        self._free_at = 0.0
        """When the bucket would be full, on the monotonic clock."""
        self._inflight = asyncio.Semaphore(limits.max_inflight) if limits.max_inflight else None

    async def wait(self) -> float:
        """Wait for the turn of a request; return the seconds that it took."""
        now = time.monotonic()
        cost = 1 / self._qps
        full = max(self._free_at, now)
        delay = max(0.0, full + cost - now - self._burst * cost)
        self._free_at = full + cost
        if delay > 0:
            await asyncio.sleep(delay)
        return delay

    @asynccontextmanager
    async def in_flight(self) -> AsyncIterator[None]:
        """Count a request, and wait until it may be sent."""
        if self._inflight is None:
            yield
            return
        async with self._inflight:
            yield
