"""The metric of *shed* (CoreDNS: plugin/shed/metrics.go), taken from the server's own counters.

The server counts its drops in any case. The metric is brought up to date when the metrics are read,
so it costs nothing while queries are answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import hookimpl, metrics

if TYPE_CHECKING:
    from collections.abc import Collection

    from corepy.plugin import LifecycleContext

DROPPED: Final = metrics.counter(
    "coredns_shed_dropped_total",
    "Queries and replies that the server dropped, by reason.",
    ("server", "reason"),
)

# The server's counters. Whichever module declares them first, both get the same ones.
OVERFLOWS: Final = metrics.counter(
    "corepy_udp_overflows_total",
    "Queries dropped because they arrived faster than they could be processed.",
    ("server",),
)
UNSENT: Final = metrics.counter(
    "corepy_udp_unsent_total", "Replies that could not be sent.", ("server",)
)

_active: list[DropCounter] = []


class DropCounter:
    """Exports the drops of the servers of one server block, while it is in use.

    The counters of the leader include those of the other processes, so it is used there only.
    """

    def __init__(self, labels: Collection[str]) -> None:
        """Take the names of the servers, such as "dns://:53", with port 0 for any port."""
        self._labels = labels
        self.servers: list[str] = []

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Export the drops from now on."""
        self.servers = [it for it in context.addresses if self._is_of_block(it)]
        _active.append(self)

    @hookimpl
    def shutdown(self) -> None:
        """Leave the counters at their last values."""
        if self in _active:
            update()
            _active.remove(self)

    def _is_of_block(self, server: str) -> bool:
        return server in self._labels or f"{server.rpartition(':')[0]}:0" in self._labels


@metrics.before_reading
def update() -> None:
    """Copy the server's counters; called before the metrics are read."""
    for counter in _active:
        for server in counter.servers:
            DROPPED.labels(server, "query").value = OVERFLOWS.labels(server).value
            DROPPED.labels(server, "response").value = UNSENT.labels(server).value
