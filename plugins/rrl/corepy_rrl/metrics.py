"""The metrics of *rrl* (github.com/coredns/rrl: plugins/rrl/metrics.go).

The original has a series for each client address, so a flood with spoofed addresses fills the
memory of the server and of Prometheus. Here the number of addresses is limited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns.address import host_port
from corepy.plugin import metrics

if TYPE_CHECKING:
    from corepy.plugin.metrics import Metric, Value

MOST_CLIENTS: Final = 100
"""Values of the label `client_ip`, each for as long as the process runs."""

OTHER: Final = "other"
"""The value for all other clients."""

REQUESTS: Final = metrics.counter(
    "coredns_rrl_requests_exceeded_total", "Requests over the allowed rate.", ("client_ip",)
)
RESPONSES: Final = metrics.counter(
    "coredns_rrl_responses_exceeded_total", "Responses over the allowed rate.", ("client_ip",)
)
SLIPPED: Final = metrics.counter(
    "corepy_rrl_slipped_total", "Responses over the allowed rate that were sent truncated."
).labels()
_shown: Final = set[str]()


def count(metric: Metric[Value], peer: object) -> None:
    """Count an event of the client at a socket address."""
    host = host_port(peer)[0]
    if host not in _shown:
        if len(_shown) < MOST_CLIENTS:
            _shown.add(host)
        else:
            host = OTHER
    metric.labels(host).inc()
