"""The metrics of *etcd*. CoreDNS has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from corepy.plugin import metrics

if TYPE_CHECKING:
    from collections.abc import Sized

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
FAILURES = metrics.counter(
    "corepy_etcd_failures_total",
    "Times that etcd could not be followed any more, by path.",
    ("path",),
)


class ShownStore(Protocol):
    """The keys of a copy; see `store.Store`."""

    @property
    def prefix(self) -> bytes:
        """The path of the keys."""

    @property
    def entries(self) -> Sized:
        """The keys with a service."""

    @property
    def unusable(self) -> Sized:
        """The keys without one."""


class ShownWatcher(Protocol):
    """The connection of a copy to etcd; see `watching.Watcher`."""

    problem: str
    failures: int


class ShownSource(Protocol):
    """A copy; see `source.Source`."""

    @property
    def store(self) -> ShownStore:
        """Its keys."""

    @property
    def watcher(self) -> ShownWatcher | None:
        """Its connection, None in a follower."""


_shown: list[ShownSource] = []
"""The copies in use, once for each handler."""


def show(source: ShownSource) -> None:
    """Include a copy in the metrics."""
    _shown.append(source)


def hide(source: ShownSource) -> None:
    """Remove a copy from the metrics, unless another handler uses it, or it was not shown."""
    if source in _shown:
        _shown.remove(source)
    path = _path(source)
    if all(_path(other) != path for other in _shown):
        for gauge in (KEYS, IGNORED, FOLLOWED):
            gauge.remove(path)


def _path(source: ShownSource) -> str:
    return source.store.prefix.decode("utf-8", "backslashreplace")


@metrics.before_reading
def _update() -> None:
    for source in _shown:
        path = _path(source)
        KEYS.labels(path).value = len(source.store.entries)
        IGNORED.labels(path).value = len(source.store.unusable)
        if source.watcher is not None:
            FOLLOWED.labels(path).value = float(not source.watcher.problem)
