"""Addresses that are listened on but on no interface: said once, and once more when they appear.

Sockets are bound freely (`corepy.net.sockets.open_pair`), so that address and server may come in
any order. A mistyped address is not refused then, so it has to be heard of.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from corepy.net.sockets import own_address
from corepy.plugin.log import server_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.server.endpoint import Endpoint

INTERVAL = 1.0
"""Seconds between two looks for what is missing."""


class Absence:
    """The endpoints that cannot be reached yet."""

    def __init__(self) -> None:
        self._missing: set[Endpoint] = set()
        self._task: asyncio.Task[None] | None = None

    def look(self, endpoints: Iterable[Endpoint]) -> None:
        """Say which of `endpoints`, all there are now, are missing; watch for them."""
        missing = {endpoint for endpoint in endpoints if _is_missing(endpoint)}
        for endpoint in missing - self._missing:
            server_logger().warning(
                "%s: no interface has the address; it is served as soon as one has", endpoint.label
            )
        self._missing = missing
        if missing and self._task is None:
            self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while self._missing:
            await asyncio.sleep(INTERVAL)
            for endpoint in [one for one in self._missing if not _is_missing(one)]:
                self._missing.discard(endpoint)
                server_logger().info("%s: the address is there now", endpoint.label)
        self._task = None

    async def stop(self) -> None:
        """Watch no longer."""
        self._missing.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None


def _is_missing(endpoint: Endpoint) -> bool:
    return own_address(endpoint.sockets[0]) is None
