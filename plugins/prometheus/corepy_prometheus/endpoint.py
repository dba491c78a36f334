"""Export /metrics at an address, and retry while the address is in use.

An address that cannot be bound must not prevent DNS service. The error is logged and binding is
retried. (In CoreDNS the start fails.)
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.http import claim
from corepy.net.sockets import BindError
from corepy.plugin import plugin_logger
from corepy_prometheus.exposition import scrape

if TYPE_CHECKING:
    from corepy.http import Claim
    from corepy.plugin import ProcessGroup

PATH: Final = "/metrics"
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two attempts, doubled after each."""

LOG = plugin_logger("prometheus")


class MetricsEndpoint:
    """Serves the metrics of all processes at one address."""

    def __init__(self, address: str, process_group: ProcessGroup) -> None:
        """Export the metrics of the processes in `process_group` at `address` (host:port)."""
        self._address = address
        self._process_group = process_group
        self._claim: Claim | None = None
        self._retrying: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start to export, or retry in the background until the address can be bound."""
        error = await self._try()
        if error is not None:
            LOG.error("%s; metrics are not exported yet, retrying", error)
            self._retrying = asyncio.create_task(self._retry())

    async def _try(self) -> BindError | None:
        try:
            self._claim = await claim(self._address)
        except BindError as error:
            return error
        self._claim.serve(PATH, partial(scrape, self._process_group))
        return None

    async def _retry(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            if await self._try() is None:
                LOG.info("metrics are now exported at %s", self._address)
                return
            pause = min(2 * pause, LONGEST_PAUSE)

    async def close(self) -> None:
        """Stop exporting."""
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.wait([self._retrying])
        if self._claim is not None:
            await self._claim.close()
