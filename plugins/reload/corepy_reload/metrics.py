"""The metrics of *reload*; the first two have CoreDNS's names (plugin/reload/metrics.go)."""

from __future__ import annotations

from typing import Final

from corepy.plugin import metrics

FAILED: Final = metrics.counter(
    "coredns_reload_failed_total",
    "Counter of the number of failed reload attempts.",
).labels()
VERSION: Final = metrics.gauge(
    "coredns_reload_version_info",
    "1, with the kind and the value of the hash of the configuration in use.",
    ("hash", "value"),
)
CONFIG_HASH: Final = metrics.gauge(
    "coredns_reload_config_hash",
    "The first 48 bits of the hash of the configuration in use, as a number.",
).labels()
SUCCESS_TIME: Final = metrics.gauge(
    "coredns_reload_last_success_timestamp_seconds",
    "Unix time at which the configuration in use was activated.",
).labels()
SUCCESSFUL: Final = metrics.gauge(
    "coredns_reload_last_successful",
    "1 if the configuration in the files is in use, 0 if the last attempt to load it failed.",
).labels()
