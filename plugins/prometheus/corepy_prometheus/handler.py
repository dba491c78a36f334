"""The handler that counts queries, including the packet cache's (plugin/metrics/handler.go).

See also CoreDNS's metrics.go. Counts are in the process's registry (`corepy.plugin.metrics`), so
they survive reloads.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.http.metrics import MetricsEndpoint
from corepy.plugin import (
    Cacheability,
    LifecycleContext,
    ObservingHandler,
    handlers_below,
    hookimpl,
    plugin_logger,
)
from corepy.plugin.protocols import MetricsZones
from corepy_prometheus import runtime
from corepy_prometheus.enabled import Enabled
from corepy_prometheus.series import AllSeries, prepare

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.plugin import BlockConfig, BlockHandlers

SERVER: Final = ""
"""The server itself, as the value of a plugin label."""

DROPPED: Final = "dropped"

LOG: Final = plugin_logger("prometheus")


class Prometheus(ObservingHandler):
    """Counts queries and exports metrics for one server block."""

    name: ClassVar[str] = "prometheus"

    def __init__(
        self,
        config: BlockConfig,
        address: str,
        block_handlers: BlockHandlers | None = None,
        *,
        runtime: bool = False,
    ) -> None:
        """Export at `address` (host:port); with `runtime`, measure the interpreter too."""
        self.address = address
        self.runtime = runtime
        self._enabled = Enabled(config)
        self._endpoint: MetricsEndpoint | None = None
        self._deadline_setter = SERVER
        self._series = AllSeries()
        self._block_handlers = block_handlers
        self._zone_sources: list[MetricsZones] = []

    def observe(self, request: Request, reply: Reply) -> None:
        """Count a query and its reply."""
        if self._zone_sources:
            self._label_zone(request)
        # As in CoreDNS, where the server itself replies after an error.
        if reply.error is not None or reply.is_substitute:
            plugin = SERVER
        else:
            plugin = reply.answered_by or SERVER
        self._series.counter_for(request, reply, plugin).count(time.monotonic() - request.received)
        if reply.deadline is not None:
            reply.hit_counters += (self._series.counter_for(request, reply, self._deadline_setter),)

    def _label_zone(self, request: Request) -> None:
        """Label a query with the zone that came at run time, instead of that of the block."""
        for source in self._zone_sources:
            zone = source.metrics_zone(request.name_wire)
            if zone is not None:
                request.context = replace(request.context, zone=zone)
                return

    @hookimpl
    def dropped(self, request: Request, reply: Reply) -> bool:
        """Count a query that no block answers, with the zone "dropped" (vars.Dropped)."""
        request.context = replace(request.context, zone=DROPPED)
        self._series.counter_for(request, reply, SERVER).count(time.monotonic() - request.received)
        return True

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Find the plugin whose replies the packet cache repeats, and those with zones."""
        if self._block_handlers is not None:
            self._zone_sources = self._block_handlers.of_kind(MetricsZones)
        self._deadline_setter = next(
            (
                handler.name
                for handler in handlers_below(self)
                if handler.cacheability is Cacheability.SETS_DEADLINE
            ),
            SERVER,
        )

    @hookimpl
    async def serving(self, context: LifecycleContext) -> None:
        """Start to export; in a server of several processes only the leader exports, for all."""
        if self.runtime:
            runtime.enable()
        if not context.process_group.is_leader:
            return
        self._enabled.show(self, context)
        for server, zone in self._enabled.served(context):
            prepare(server, zone)
        self._endpoint = MetricsEndpoint(self.address, context.process_group, LOG)
        await self._endpoint.open()

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """Stop exporting, unless a later generation continues."""
        self._enabled.hide()
        if self._endpoint is not None:
            await self._endpoint.close()
