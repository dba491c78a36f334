"""`coredns_plugin_enabled`: the handlers of each zone at each address.

During a reload two generations exist, with mostly the same time series. Each time series belongs to
all generations that show it and is removed with the last one.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from typing import TYPE_CHECKING

from corepy.plugin import BlockFilters, Handler, ListenHosts, handlers_below, metrics

if TYPE_CHECKING:
    from corepy.plugin import BlockConfig, LifecycleContext

PLUGIN_ENABLED = metrics.gauge(
    "coredns_plugin_enabled",
    "A metric that indicates whether a plugin is enabled on per server and zone basis.",
    ("server", "zone", "view", "name"),
)

_shown: Counter[tuple[str, str, str, str]] = Counter()


class Enabled:
    """The time series of one server block."""

    def __init__(self, config: BlockConfig) -> None:
        self._config = config
        self._mine: list[tuple[str, str, str, str]] = []

    def show(self, own: Handler, context: LifecycleContext) -> None:
        """Show the handlers of the chain that contains `own`."""
        above = [
            plugin
            for plugin in context.plugins.get_plugins()
            if isinstance(plugin, Handler) and own in handlers_below(plugin)
        ]
        names = {handler.name for handler in (*above, own, *handlers_below(own))}
        view = self._config.get(BlockFilters).view
        for server, zone in self.served(context):
            for name in names:
                labels = (server, zone, view, name)
                self._mine.append(labels)
                _shown[labels] += 1
                PLUGIN_ENABLED.labels(*labels).set(1)

    def served(self, context: LifecycleContext) -> set[tuple[str, str]]:
        """Return the (server, zone) pairs of the block; sockets must be bound."""
        hosts = {_normal(host) for host in self._config.get(ListenHosts).hosts}
        served = set()
        for server in context.addresses:
            transport, _, address = server.partition("://")
            host, _, port = address.rpartition(":")
            for key in self._config.keys:
                same_port = key.port in (0, int(port))  # 0: chosen by the system
                if transport == key.transport and host.strip("[]") in hosts and same_port:
                    served.add((server, key.zone))
        return served

    def hide(self) -> None:
        """Remove the time series that no other generation or block shows."""
        for labels in self._mine:
            _shown[labels] -= 1
            if not _shown[labels]:
                del _shown[labels]
                PLUGIN_ENABLED.remove(*labels)
        self._mine.clear()


def _normal(host: str) -> str:
    """Return an address in the notation of `context.addresses`."""
    address, percent, zone = host.partition("%")
    return f"{ip_address(address)}{percent}{zone}" if host else ""
