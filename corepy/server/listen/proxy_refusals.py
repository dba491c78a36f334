"""Counts and logs what a listener refuses because of its PROXY header."""

from __future__ import annotations

from time import monotonic
from typing import Final

from corepy.dns.address import host_port
from corepy.plugin import metrics
from corepy.plugin.log import server_logger

QUIET: Final = 60.0
"""Minimum seconds between two log lines of one listener, since anyone can cause them."""

REFUSED: Final = metrics.counter(
    "corepy_proxy_refused_total",
    "Connections and datagrams refused because of their PROXY header.",
    ("server",),
)


class ProxyRefusals:
    """The refusals at one socket."""

    def __init__(self, label: str) -> None:
        """`label` is the address of the server in logs and metrics."""
        self._label = label
        self._refused = REFUSED.labels(label)
        self._quiet_until = 0.0
        self._unreported = 0

    def add(self, peer: object, reason: object) -> None:
        """Count a refusal, and log it unless another one was logged within `QUIET` seconds."""
        self._refused.inc()
        self._unreported += 1
        now = monotonic()
        if now < self._quiet_until:
            return
        count, self._unreported, self._quiet_until = self._unreported, 0, now + QUIET
        server_logger().warning(
            "%s: refused a PROXY header from %s: %s (refused since the last such line: %d)",
            self._label,
            host_port(peer)[0],
            reason,
            count,
        )
