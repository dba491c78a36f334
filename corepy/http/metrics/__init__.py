"""The page /metrics: all metrics of the process, for Prometheus.

*prometheus* and *nodecache* serve it, each at its own address. What is counted, and under which
names, is independent of this package: see `corepy.plugin.metrics`. This package is imported by the
plugins that need it, not by `corepy.http`.
"""

from corepy.http.metrics.exposition import add_source as add_source
from corepy.http.metrics.metrics_endpoint import MetricsEndpoint as MetricsEndpoint
