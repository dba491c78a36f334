"""A cluster as this process knows it: shared by all directives with the same configuration.

The directives of several server blocks, and those of the old and the new generation during a
reload, use one client and one store, so a reload asks the API for nothing. In a server with several
processes, the leader watches and the followers get its objects; a follower that the leader does not
serve any more watches for itself, and continues with the objects that it has.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from corepy.net.backoff import jittered
from corepy.plugin import plugin_logger
from corepy.plugin.errors import describe
from corepy_kubernetes import following, snapshot
from corepy_kubernetes.api_client import APIClient
from corepy_kubernetes.api_config import fingerprint
from corepy_kubernetes.api_problems import Problems
from corepy_kubernetes.api_resources import resource
from corepy_kubernetes.api_store import Applier, FeedReceiver, Store
from corepy_kubernetes.api_turns import Turns
from corepy_kubernetes.api_watch import Watcher

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine
    from pathlib import Path

    from corepy.plugin import LifecycleContext, ProcessGroup
    from corepy_kubernetes.api_config import Access, Limits
    from corepy_kubernetes.item_lines import Change
    from corepy_kubernetes.objects import Feed, Needs, Serials

KEEP_INTERVAL: Final = 120.0
"""Seconds between two writes of the snapshot."""

STOP_TIMEOUT: Final = 5.0
"""Seconds that the stop of the server waits for the last write."""

_log = plugin_logger("kubernetes")


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """All that decides the objects, and the way to them."""

    access: Access
    limits: Limits
    needs: Needs
    keep: Path | None = None
    """The file of the snapshot."""

    @property
    def identity(self) -> str:
        """The same in all processes with the same objects."""
        return fingerprint(self.access.endpoints, self.needs)


class Cluster:
    """The store of a configuration, and the tasks that keep it up to date."""

    def __init__(self, config: ClusterConfig) -> None:
        self.config = config
        self.store = Store(config.needs.kinds())
        self.problems = Problems(config.access.cluster)
        self._receivers: list[FeedReceiver] = []
        self._client: APIClient | None = None
        self._group: ProcessGroup | None = None
        self._links: set[following.FollowerLink] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._kept = 0
        """`Store.changes` at the last write of the snapshot."""
        self._serials: Serials | None = None
        """Those of the leader, or of the snapshot."""
        self.source = ""
        """Where the objects come from, for `corepy status`."""

    # The indexes

    def attach(self, feed: Feed, name: str) -> FeedReceiver:
        """Fill an index with the objects, and pass the changes to it."""
        serials = self.serials
        receiver = FeedReceiver(self.store, feed)
        self._receivers.append(receiver)
        receiver.start(name, serials)
        return receiver

    def detach(self, receiver: FeedReceiver) -> None:
        """Pass no further changes to an index."""
        receiver.stop()
        self._serials = self.serials
        self._receivers.remove(receiver)

    @property
    def serials(self) -> Serials | None:
        """When the objects have changed last, by the oldest of the indexes."""
        return self._receivers[0].feed.serials if self._receivers else self._serials

    def _take_serials(self, serials: Serials) -> None:
        self._serials = serials
        for receiver in self._receivers:
            receiver.feed.serials = serials

    # The life of the cluster

    def start(self, context: LifecycleContext) -> None:
        """Begin to watch the API, or to follow the leader."""
        self._group = group = context.process_group
        if context.offline:
            self._run(self._restore(), "read the snapshot")
        elif group.is_leader:
            group.listen(self._name, self._connected)
            self._run(self._lead(), "keep the cluster up to date")
        else:
            self._run(self._follow(group), "follow the leader")

    @property
    def _name(self) -> str:
        return f"kubernetes {fingerprint(self.config)}"

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _lead(self) -> None:
        await self._restore()
        self._watch()
        while self.config.keep is not None:
            await asyncio.sleep(KEEP_INTERVAL)
            await self._keep(self.config.keep)

    def _watch(self) -> None:
        """Begin to watch all kinds."""
        config = self.config
        self.source = f"the API of {config.access.cluster}"
        self._client = client = APIClient(config.access, config.limits)
        for kind in self.store.kinds:
            place = resource(kind, config.needs)
            watcher = Watcher(client, place, config.needs, self.store, self.problems.report)
            self._run(watcher.run(), f"watch {kind.value}")

    async def stop(self, *, keeps: bool = True) -> None:
        """Stop watching, disconnect the followers and, with `keeps`, write the last snapshot."""
        if self._group is not None:  # at once: the next cluster may have the same name
            self._group.stop_listening(self._name, self._connected)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for link in tuple(self._links):
            link.close()
        if self._client is not None:
            self._client.close()
        is_leader = self._group is not None and self._group.is_leader
        if is_leader and keeps and self.config.keep is not None:
            await self._keep_in_time(self.config.keep)

    async def _keep_in_time(self, path: Path) -> None:
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._keep(path)
        except TimeoutError:
            _log.warning("%s is not written: the disk takes too long", path)

    # Several processes

    def _connected(self, sock: socket.socket) -> None:
        """Serve a follower, in the leader."""
        self._run(self._serve(sock), "serve a follower")

    async def _serve(self, sock: socket.socket) -> None:
        link = following.FollowerLink(self.store, lambda: self.serials, self._links.discard)
        self._links.add(link)
        try:
            await link.open(sock)
        except OSError as error:
            self._links.discard(link)
            _log.warning("a process cannot be served: %s", describe(error))

    async def _follow(self, group: ProcessGroup) -> None:
        """Follow the leader as long as it serves this process, then watch the API."""
        self.source = "the leader"
        while True:
            try:
                sock = await group.connect(self._name)
            except OSError:
                break
            try:
                await following.receive(sock, self.store, self._take_serials)
            except (OSError, ValueError) as error:
                _log.warning("the connection to the leader has failed: %s", describe(error))
            await asyncio.sleep(jittered(0.1, 0.2))
        self._watch()

    # The snapshot

    async def _restore(self) -> None:
        """Load the snapshot, if there is one."""
        path = self.config.keep
        if path is None:
            return
        try:
            found = await snapshot.read(path, self.config.identity)
            if found is None:
                _log.info("%s does not exist yet: names are known when the API answers", path)
                return
            await self._apply(found.changes)
        except ValueError as problem:
            _log.warning("%s is ignored: %s", path, problem)
        except Exception as error:  # none may prevent the start
            _log.warning("%s is ignored: %s", path, describe(error))
        else:
            message = (
                "continues with %d objects from %s, which is %.0f s old, until the API answers"
            )
            _log.info(message, len(self.store), path, found.age)
            self.source = f"{path}"

    async def _apply(self, changes: list[Change]) -> None:
        applier, turns = Applier(self.store), Turns()
        for change in changes:
            applier.apply(change)
            await turns.take()
        if applier.serials is not None:
            self._take_serials(applier.serials)
        self._kept = self.store.changes

    async def _keep(self, path: Path) -> None:
        """Write the snapshot, if all objects are known and there were changes."""
        count = self.store.changes
        if not self.store.is_synced or count == self._kept:
            return
        serials = self.serials
        changes = chain([] if serials is None else [serials], self.store.snapshot())
        try:
            await snapshot.write(path, self.config.identity, changes)
        except OSError as error:
            _log.warning("%s cannot be written: %s", path, describe(error))
        else:
            self._kept = count


class Clusters:
    """The clusters of a process, each as long as a directive uses it."""

    def __init__(self) -> None:
        self._clusters: dict[ClusterConfig, tuple[Cluster, set[object]]] = {}

    def join(self, config: ClusterConfig, user: object, context: LifecycleContext) -> Cluster:
        """Return the cluster of a configuration; the first user starts it."""
        found = self._clusters.get(config)
        if found is None:
            cluster = Cluster(config)
            self._clusters[config] = cluster, {user}
            cluster.start(context)
            return cluster
        cluster, users = found
        users.add(user)
        return cluster

    async def leave(self, config: ClusterConfig, user: object) -> None:
        """Stop a cluster after its last user has left."""
        cluster, users = self._clusters[config]
        users.discard(user)
        if not users:
            del self._clusters[config]
            # After a reload with other options, the file is that of the new cluster.
            await cluster.stop(keeps=all(it.keep != config.keep for it in self._clusters))


_clusters: WeakKeyDictionary[asyncio.AbstractEventLoop, Clusters] = WeakKeyDictionary()


def shared_clusters() -> Clusters:
    """Return the clusters of this process (of the running event loop)."""
    loop = asyncio.get_running_loop()
    found = _clusters.get(loop)
    if found is None:
        found = _clusters[loop] = Clusters()
    return found
