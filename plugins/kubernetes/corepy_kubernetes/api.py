"""The API of Kubernetes, for the rest of the plugin: options, and the source of the objects."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from corepy_kubernetes.api_cluster import ClusterConfig, shared_clusters
from corepy_kubernetes.api_options import ApiOptions as ApiOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from corepy.plugin import Controller, LifecycleContext
    from corepy_kubernetes.api_cluster import Cluster
    from corepy_kubernetes.api_store import FeedReceiver
    from corepy_kubernetes.objects import Feed, Needs


class Source:
    """Keeps the index of one directive up to date."""

    def __init__(self, config: ClusterConfig, feed: Feed, name: str) -> None:
        self._config = config
        self._feed = feed
        self._name = name
        self._cluster: Cluster | None = None
        self._receiver: FeedReceiver | None = None

    async def start(self, context: LifecycleContext) -> None:
        """Begin to fill the index; it returns at once, in whatever state the API is."""
        self._cluster = shared_clusters().join(self._config, self, context)
        self._receiver = self._cluster.attach(self._feed, self._name)

    async def stop(self) -> None:
        """Change the index no further."""
        if self._cluster is None:
            return
        cluster, self._cluster = self._cluster, None
        if self._receiver is not None:
            cluster.detach(self._receiver)
        await shared_clusters().leave(self._config, self)

    def status(self) -> Mapping[str, Any]:
        """Return the state for an operator."""
        cluster = self._cluster
        if cluster is None:
            return {"state": "stopped", "problems": []}
        since = cluster.problems.since
        if since is None:
            state = "synced" if cluster.store.is_synced else "syncing"
        else:
            state = f"API failing since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(since))}"
        return {
            "state": state,
            "problems": cluster.problems.lines,
            "source": cluster.source,
            "objects": len(cluster.store),
        }


class KeptFiles:
    """The configurations whose objects are kept, by file, in all blocks of a Corefile."""

    def __init__(self) -> None:
        self._configs: dict[Path, ClusterConfig] = {}

    def add(self, config: ClusterConfig) -> bool:
        """Return whether a configuration has its file for itself."""
        return config.keep is None or self._configs.setdefault(config.keep, config) == config


def check_kept_file(controller: Controller, options: ApiOptions, needs: Needs) -> None:
    """Raise `CorefileError` if another directive keeps other objects in the same file."""
    if not controller.shared(KeptFiles).add(_config(options, needs)):
        message = f"{options.keep} is the file of a kubernetes directive with other options"
        raise controller.error(message, options.keep_token, "name another file")


def make_source(options: ApiOptions, needs: Needs, feed: Feed, name: str) -> Source:
    """Return the source of the objects that `needs` names, for one index; `name` is for tasks."""
    return Source(_config(options, needs), feed, name)


def _config(options: ApiOptions, needs: Needs) -> ClusterConfig:
    return ClusterConfig(options.access, options.limits, needs, options.keep)
