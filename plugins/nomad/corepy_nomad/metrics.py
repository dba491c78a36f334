"""The counters of *nomad*, with CoreDNS's names (plugin/nomad/metrics.go), and a gauge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import metrics

if TYPE_CHECKING:
    from corepy_nomad.source import Source

SUCCESSES: Final = metrics.counter(
    "coredns_nomad_success_requests_total",
    "Queries for services that exist, by server and namespace.",
    ("server", "namespace"),
)
FAILURES: Final = metrics.counter(
    "coredns_nomad_failed_requests_total",
    "Queries for services that do not exist or could not be read, by server and namespace.",
    ("server", "namespace"),
)
FOLLOWED: Final = metrics.gauge(
    "corepy_nomad_followed",
    "1 if the changes of Nomad arrive, 0 while they do not, by the first address.",
    ("address",),
    merge="min",
)

_shown: list[Source] = []
"""The copies in use, once for each handler."""


def show(source: Source) -> None:
    """Include a copy in the metrics."""
    _shown.append(source)


def hide(source: Source) -> None:
    """Remove a copy from the metrics, unless another handler uses it."""
    _shown.remove(source)
    address = _address(source)
    if all(_address(other) != address for other in _shown):
        FOLLOWED.remove(address)


def _address(source: Source) -> str:
    return str(source.settings.addresses[0])


@metrics.before_reading
def _update() -> None:
    """Show whether all copies with one first address are followed."""
    followed: dict[str, bool] = {}
    for source in _shown:
        address = _address(source)
        is_followed = source.is_ready and not source.problems.is_present
        followed[address] = followed.get(address, True) and is_followed
    for address, value in followed.items():
        FOLLOWED.labels(address).value = float(value)
