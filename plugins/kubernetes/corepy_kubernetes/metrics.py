"""The metric of *kubernetes* (CoreDNS: plugin/kubernetes/object/metrics.go)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from corepy.plugin import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy_kubernetes.objects import Service

_BOUNDS: Final = tuple(0.001 * 2**n for n in range(20))
"""Seconds, from 1 ms to 17 minutes."""

PROGRAMMING: Final = metrics.histogram(
    "coredns_kubernetes_dns_programming_duration_seconds",
    "Time from a change of a service or pod until DNS answers with it.",
    ("service_kind",),
    bounds=_BOUNDS,
)


class Programming:
    """Observes the time that changes of endpoints take to get to DNS (`index.LatencyObserver`)."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:  # time of day: as in objects
        self._now = now

    def observe(self, service: Service, triggered: float) -> None:
        """Count a change of the endpoints of `service` that something at `triggered` caused.

        Only the controller of Kubernetes sets the time, for services with a selector.
        """
        kind = "headless_with_selector" if service.headless else "cluster_ip"
        PROGRAMMING.labels(kind).observe(max(self._now() - triggered, 0.0))
