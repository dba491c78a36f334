"""The metrics of nodecache; the first one has node-cache's name and labels (app/metrics.go)."""

from __future__ import annotations

from typing import Final

from corepy.plugin import metrics

setup_errors: Final = metrics.counter(
    "coredns_nodecache_setup_errors_total",
    "The number of errors during periodic network setup for node-cache",
    ("errortype",),
)
rules: Final = metrics.gauge("coredns_nodecache_rules", "Packet filter rules in place.").labels()
addresses: Final = metrics.gauge("coredns_nodecache_addresses", "Addresses in place.").labels()
repairs: Final = metrics.counter(
    "coredns_nodecache_repairs_total", "Number of times that changes made by others were repaired."
).labels()
degraded: Final = metrics.gauge(
    "coredns_nodecache_degraded", "1 while the host differs from the configuration, else 0."
).labels()

for _kind in ("configmap", "interface_add", "interface_check", "iptables", "iptables_lock"):
    setup_errors.labels(_kind)
