"""A feed that records what the client of the API passes to it, and a source for it."""

import asyncio
from contextlib import asynccontextmanager

import pluggy

from corepy.plugin import LifecycleContext
from corepy.testing import until as until
from corepy_kubernetes.api import Source
from corepy_kubernetes.api_cluster import ClusterConfig
from corepy_kubernetes.api_config import Access, Limits, endpoint_target
from corepy_kubernetes.objects import KINDS, Item, Kind, Needs, Serials

FAST = Limits(qps=1e6, burst=100)


ALL = Needs()


class RecordingFeed:
    """The objects by name, and all calls in their order."""

    def __init__(self, needs=ALL):
        self.kinds = needs.kinds()
        self.objects: dict[Kind, dict[tuple[str, str], Item]] = {kind: {} for kind in self.kinds}
        self.calls = []
        self.synced_kinds = set()
        self.serials = Serials()
        self._changed = asyncio.Event()

    @property
    def synced(self):
        return self.synced_kinds == set(self.kinds)

    def put(self, item, triggered=None):
        self.objects[KINDS[type(item)]][item.namespace, item.name] = item
        self._call("put", item.name, triggered)

    def remove(self, kind, namespace, name):
        self.objects[kind].pop((namespace, name), None)
        self._call("remove", name)

    def relist(self, kind):
        return _Relist(self, kind)

    def _call(self, *call):
        self.calls.append(call)
        self._changed.set()

    def names(self, kind=Kind.SERVICE):
        return sorted(name for _, name in self.objects[kind])

    async def until(self, condition):
        """Wait for a change after which `condition` is true."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def until_synced(self):
        await self.until(lambda: self.synced)

    async def until_names(self, *names, kind=Kind.SERVICE):
        await self.until(lambda: self.names(kind) == sorted(names))


class _Relist:
    def __init__(self, feed, kind):
        self.feed = feed
        self.kind = kind
        self.keys = set()

    def put(self, item):
        self.keys.add((item.namespace, item.name))
        self.feed.put(item)

    def finish(self):
        for key in set(self.feed.objects[self.kind]) - self.keys:
            self.feed.remove(self.kind, *key)
        self.feed.synced_kinds.add(self.kind)
        self.feed._call("finish", self.kind.value)


def context(group=None, **fields):
    async def no_reload(_):
        return False

    given = {} if group is None else {"process_group": group}
    return LifecycleContext(
        pluggy.PluginManager("corepy"), no_reload, lambda: None, **given, **fields
    )


def config_for(*urls, needs=ALL, keep=None, limits=FAST, **access):
    targets = tuple(endpoint_target(it, is_secure=False) for it in urls)
    return ClusterConfig(Access(targets, **access), limits, needs, keep)


@asynccontextmanager
async def started(config, feed=None, group=None):
    """Run a source for a feed, which it yields."""
    feed = feed or RecordingFeed(config.needs)
    source = Source(config, feed, "kubernetes.1")
    await source.start(context(group))
    feed.source = source
    try:
        yield feed
    finally:
        await source.stop()
