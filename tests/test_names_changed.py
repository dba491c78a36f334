"""A plugin's data changes: `LifecycleContext.forget_names` and the hook `names_changed`."""

import asyncio
import logging

from corepy.plugin import Cacheability, Handler, hookimpl
from corepy.testing import serve, with_handlers
from corepy.testing.command import wait_until

CHANGED = b"\3www\7example\0"


class Source(Handler):
    """Keeps its context, to report a change."""

    name = "source"
    cacheability = Cacheability.SAFE

    @hookimpl
    def serving(self, context):
        self.context = context

    async def serve_dns(self, request):
        return request.error(0)

    def report(self):
        asyncio.get_running_loop().create_task(self.context.forget_names(CHANGED.__eq__))


class Store(Source):
    """Records the names that it is to forget."""

    name = "store"

    def __init__(self):
        self.forgotten = []

    @hookimpl
    async def names_changed(self, is_changed):
        await asyncio.sleep(0)
        self.forgotten += [name for name in (CHANGED, b"\0") if is_changed(name)]


class Broken(Store):
    name = "broken"

    @hookimpl
    def names_changed(self, is_changed):
        raise RuntimeError("no")


def test_every_plugin_is_called_although_one_fails(caplog):
    store, broken, source = Store(), Broken(), Source()
    plugins = with_handlers(broken=lambda: broken, store=lambda: store, source=lambda: source)
    with serve(". {\nbroken\nstore\nsource\n}", plugins=plugins) as server:
        server.call(source.report)
        wait_until(lambda: store.forgotten)
    assert store.forgotten == [CHANGED]
    errors = [(it.name, it.getMessage()) for it in caplog.records if it.levelno >= logging.ERROR]
    assert errors == [("corepy.plugin.broken", "names_changed failed: RuntimeError: no")]
