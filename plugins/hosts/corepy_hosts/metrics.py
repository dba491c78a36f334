"""The metrics of *hosts* (CoreDNS: plugin/hosts/metrics.go), which are set when they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from corepy.plugin import metrics

if TYPE_CHECKING:
    from pathlib import Path

    from corepy_hosts.table import HostTable

ENTRIES = metrics.gauge(
    "coredns_hosts_entries",
    "The number of addresses and names in a hosts file and the Corefile.",
    ("hostsfile",),
    merge="max",
)
RELOADED = metrics.gauge(
    "coredns_hosts_reload_timestamp_seconds",
    "The modification time of the hosts file that was loaded last.",
    merge="max",
)


class ShownFile(Protocol):
    """A hosts file in use; see `hosts_file.HostsFile`."""

    path: Path
    value: HostTable


_shown: list[ShownFile] = []
"""The files in use, the newest last: during a reload those of two generations."""


def show(file: ShownFile) -> None:
    """Include a file in the metrics."""
    _shown.append(file)


def hide(file: ShownFile) -> None:
    """Remove a file from the metrics; has no effect if it is not there."""
    if file in _shown:
        _shown.remove(file)
        ENTRIES.remove(str(file.path))


@metrics.before_reading
def _update() -> None:
    for file in _shown:
        ENTRIES.labels(str(file.path)).value = file.value.entries
    if _shown:
        RELOADED.labels().value = max(file.value.modified for file in _shown)
