"""Exports /metrics at an address, and retries while the address is in use.

An address that cannot be bound must not prevent DNS service. The error is logged and binding is
retried. (In CoreDNS the start fails.)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corepy.http.listener import claim
from corepy.http.metrics.exposition import scrape
from corepy.net.sockets import BindError

if TYPE_CHECKING:
    import logging

    from corepy.http.listener import Claim
    from corepy.http.messages import HTTPRequest, HTTPResponse
    from corepy.plugin import ProcessGroup

PATH: Final = "/metrics"
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two attempts, doubled after each."""


class MetricsEndpoint:
    """Serves the metrics of all processes at one address."""

    def __init__(self, address: str, process_group: ProcessGroup, log: logging.Logger) -> None:
        """Export the metrics of the processes in `process_group` at `address` (host:port).

        `log` is the logger of the plugin.
        """
        self._address = address
        self._process_group = process_group
        self._log = log
        self._claim: Claim | None = None
        self._retrying: asyncio.Task[None] | None = None
        self._encoding = asyncio.Lock()

    async def open(self) -> None:
        """Start to export, or retry in the background until the address can be bound."""
        error = await self._try()
        if error is not None:
            self._log.error("%s; metrics are not exported yet, retrying", error)
            self._retrying = asyncio.create_task(self._retry())

    async def _try(self) -> BindError | None:
        try:
            self._claim = await claim(self._address)
        except BindError as error:
            return error
        self._claim.serve(PATH, self.answer)
        return None

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Return all metrics, as text that is made while it is sent."""
        return await scrape(self._process_group, request, self._encoding)

    async def _retry(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            if await self._try() is None:
                self._log.info("metrics are now exported at %s", self._address)
                return
            pause = min(2 * pause, LONGEST_PAUSE)

    async def close(self) -> None:
        """Stop exporting."""
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.wait([self._retrying])
        if self._claim is not None:
            await self._claim.close()
