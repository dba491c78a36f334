"""The handler: counts every query that passes, and those that the packet cache answers in its place
(CoreDNS: plugin/metrics/handler.go, metrics.go).

Counts live in the process's registry (`corepy.plugin.metrics`), so they survive reloads.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.constants import SERVFAIL
from corepy.plugin import Handler, LifecycleContext, Purity, hookimpl
from corepy_prometheus import runtime
from corepy_prometheus.enabled import Enabled
from corepy_prometheus.endpoint import Endpoint
from corepy_prometheus.series import Series, labels_of, prepare
from corepy_prometheus.tracker import ANSWERED_BY, keeper_below, put_marks

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.plugin import BlockConfig
    from corepy_prometheus.series import Labels

SERVER: Final = ""
"""Stands for the server itself where a plugin is named."""

DROPPED: Final = "dropped"


class Prometheus(Handler):
    """See the module."""

    name: ClassVar[str] = "prometheus"
    purity = Purity.OBSERVER

    def __init__(self, config: BlockConfig, address: str, *, runtime: bool = False) -> None:
        """Export at `address`, host:port; with `runtime`, measure the interpreter too."""
        self.address = address
        self.runtime = runtime
        self._enabled = Enabled(config)
        self._endpoint: Endpoint | None = None
        self._keeper = SERVER
        self._series: dict[Labels, Series] = {}

    async def serve_dns(self, request: Request) -> Reply:
        """Return the next handler's reply as it is."""
        try:
            reply = await self.next.serve_dns(request)
        except (Exception, asyncio.CancelledError):
            # The server answers SERVFAIL in place of the plugin that broke.
            self._count(request, request.error(SERVFAIL), SERVER)
            raise
        # As in CoreDNS, where the server writes the reply to an error.
        plugin = SERVER if reply.error is not None else request.metadata.get(ANSWERED_BY, SERVER)
        self._count(request, reply, plugin)
        return reply

    def _count(self, request: Request, reply: Reply, plugin: str) -> None:
        labels = labels_of(request)
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Series(labels)
        shape = series.count(request, reply, plugin, time.monotonic() - request.received)
        if reply.deadline is not None:
            reply.observers += (series.repetitions(shape, self._keeper),)

    @hookimpl
    def dropped(self, request: Request, reply: Reply) -> bool:
        """Count a query that no block answers, as of the zone "dropped" (vars.Dropped)."""
        request.zone = DROPPED
        self._count(request, reply, SERVER)
        return True

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Get to know the chain, which is whole now."""
        self._keeper = keeper_below(self)
        put_marks(self)

    @hookimpl
    async def serving(self, context: LifecycleContext) -> None:
        """Export."""
        self._enabled.show(self, context)
        for server, zone in self._enabled.served(context):
            prepare(server, zone)
        if self.runtime:
            runtime.enable()
        self._endpoint = Endpoint(self.address)
        await self._endpoint.open()

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """Export no more, unless a successor does."""
        self._enabled.hide()
        if self._endpoint is not None:
            await self._endpoint.close()
