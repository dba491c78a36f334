"""The gauges of *etcd*. CoreDNS has no metrics of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import metrics

if TYPE_CHECKING:
    from corepy_etcd.source import Source

KEYS = metrics.gauge("corepy_etcd_keys", "Keys with a service, by path.", ("path",), merge="max")
IGNORED = metrics.gauge(
    "corepy_etcd_ignored_keys",
    "Keys that are ignored because they are malformed, by path.",
    ("path",),
    merge="max",
)
FOLLOWED = metrics.gauge(
    "corepy_etcd_followed",
    "1 if the changes of etcd arrive, 0 while they do not, by path.",
    ("path",),
    merge="max",
)


_shown: list[Source] = []
"""The copies in use, once for each handler."""


def show(source: Source) -> None:
    """Include a copy in the metrics."""
    _shown.append(source)


def hide(source: Source) -> None:
    """Remove a copy from the metrics, unless another handler uses it, or it was not shown."""
    if source in _shown:
        _shown.remove(source)
    path = _path(source)
    if all(_path(other) != path for other in _shown):
        for gauge in (KEYS, IGNORED, FOLLOWED):
            gauge.remove(path)


def _path(source: Source) -> str:
    return source.store.prefix.decode("utf-8", "backslashreplace")


@metrics.before_reading
def _update() -> None:
    """Show the sums of the copies with one path, such as those of two clusters."""
    copies: dict[str, list[Source]] = {}
    for source in dict.fromkeys(_shown):
        copies.setdefault(_path(source), []).append(source)
    for path, sources in copies.items():
        KEYS.labels(path).value = sum(len(it.store.entries) for it in sources)
        IGNORED.labels(path).value = sum(len(it.store.unusable) for it in sources)
        watchers = [it.watcher for it in sources if it.watcher is not None]
        if watchers:
            FOLLOWED.labels(path).value = float(not any(it.problem for it in watchers))
