"""Warns about listen addresses that no interface has yet, and logs when they appear.

Sockets are bound without that check (`corepy.net.sockets.open_all`), so that the server may start
before its address is assigned. A mistyped address is therefore not refused; only the warning shows
it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from corepy.net.sockets import own_address
from corepy.plugin.log import server_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.server.listen.endpoint import Endpoint

INTERVAL = 1.0
"""Seconds between two checks for missing addresses."""


class MissingAddresses:
    """Watches the endpoints whose address no interface has yet."""

    def __init__(self) -> None:
        self._missing: set[Endpoint] = set()
        self._task: asyncio.Task[None] | None = None

    def check(self, endpoints: Iterable[Endpoint]) -> None:
        """Warn about the missing ones of `endpoints`, all there are now, and watch them."""
        missing = {endpoint for endpoint in endpoints if _is_missing(endpoint)}
        for endpoint in missing - self._missing:
            server_logger().warning(
                "%s: no interface has this address yet; it is served as soon as one does",
                endpoint.label,
            )
        self._missing = missing
        if missing and self._task is None:
            self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while self._missing:
            await asyncio.sleep(INTERVAL)
            for endpoint in [one for one in self._missing if not _is_missing(one)]:
                self._missing.discard(endpoint)
                server_logger().info("%s: an interface has this address now", endpoint.label)
        self._task = None

    async def stop(self) -> None:
        """Stop watching."""
        self._missing.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None


def _is_missing(endpoint: Endpoint) -> bool:
    return own_address(endpoint.sockets[0]) is None
