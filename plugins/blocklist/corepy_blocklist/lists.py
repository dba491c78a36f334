"""The table in use: loaded at the start, and replaced whenever the files change."""

from __future__ import annotations

import asyncio
import hashlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin import LifecycleContext, StartupError, hookimpl, in_thread, plugin_logger
from corepy.plugin.errors import describe
from corepy_blocklist import metrics
from corepy_blocklist.loader import Loader
from corepy_blocklist.reporting import Reporter
from corepy_blocklist.sharing import Publisher, Subscription
from corepy_blocklist.transferring import TransferredZone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.plugin import ProcessGroup
    from corepy_blocklist.files import Found, Source
    from corepy_blocklist.rule import Rule
    from corepy_blocklist.table import Table

START_WAIT: Final = 15.0
"""Seconds that a start waits for the lists; `-supervise` expects a start within 30."""

FOLLOWER_WAIT: Final = 5.0
"""Seconds that a follower waits for the table of the leader."""

_log = plugin_logger("blocklist")


class Lists:
    """The rules of one directive."""

    def __init__(self, sources: Sequence[Source], plain_scope: int, interval: float) -> None:
        """`plain_scope` is the scope of plain names; check the files every `interval` seconds.

        An interval of 0 disables the checks.
        """
        self.table: Table | None = None
        self.loaded = 0.0
        """The time of the last load, in seconds since the epoch."""

        self.loader = Loader(sources, plain_scope)
        self.interval = interval
        self._zones = [it for it in sources if isinstance(it, TransferredZone)]
        self._lock = asyncio.Lock()
        self._found: Found | None = None
        self._reporter = Reporter(_log)
        self._task: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[Any] | None = None
        self._failure = ""
        self._publisher: Publisher | None = None
        self._subscription: Subscription | None = None
        text = repr((plain_scope, [(type(it).__name__, it.identity) for it in sources]))
        self._name = f"blocklist {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def path_of(self, table: Table, rule: Rule) -> str:
        """Return the path of the file that a rule comes from."""
        path: str = table.files[rule.source % len(table.files)]["path"]
        return path

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Load the files; one that cannot be used is left out. Raises `StartupError`."""
        await self._prepare(context, None if context.replaces else START_WAIT)

    async def _prepare(self, context: LifecycleContext, wait: float | None) -> None:
        """Load the files, and continue without them after `wait` seconds."""
        group = context.process_group
        if not group.is_leader and await self._subscribe(group):
            return
        if not context.offline:
            await asyncio.gather(*(zone.start() for zone in self._zones))
        if group.is_leader and group.size > 1:
            self._publisher = Publisher.join(group, self._name, self)
        metrics.show(self)
        self.loader.is_serving = context.replaces
        self._loading = asyncio.create_task(in_thread(self.loader.load), name="load block lists")
        await asyncio.wait([self._loading], timeout=wait)
        if self._loading.done():
            self._take_loaded(self._loading)
        else:
            _log.warning("the lists are still being read: until then, no rules are in use")

    def _take_loaded(self, loading: asyncio.Task[Any]) -> None:
        self._loading = None  # its result would keep the table in memory
        try:
            self._take(*loading.result())
        except Exception as error:
            raise StartupError(f"the lists cannot be loaded: {describe(error)}") from None

    @hookimpl
    def ready(self) -> bool:
        """Return whether the lists are loaded."""
        return self.table is not None

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Load the files, to answer a single query."""
        await self._prepare(context, None)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Start to watch the files, and to refresh the zones; a follower gets tables instead."""
        self.loader.is_serving = True
        if self._subscription is None:
            self._task = asyncio.create_task(self._watch(context), name="watch block lists")
        else:
            take, ended = partial(self._replace, context), partial(self._end_subscription, context)
            self._subscription.receive_with(take, ended)

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop watching and refreshing, and end a process that compiles."""
        for zone in self._zones:
            zone.stop()
        for task in (self._task, self._loading):
            if task is not None:
                task.cancel()
        if self._subscription is not None:
            self._subscription.close()
        if self._publisher is not None:
            self._publisher.leave(self)
        self.loader.stop()
        metrics.hide(self)

    async def look(self) -> bool:
        """Load the files if they have changed; return whether there is a new table."""
        try:
            load = partial(self.loader.load_changed, self._found, self.table)
            loaded = await in_thread(load)
        except Exception as error:
            problem = describe(error)
            if problem != self._failure and not self.loader.is_stopped:
                _log.error("the lists cannot be loaded; the rules stay in use: %s", problem)
            self._failure = problem
            return False
        if loaded is None:
            return False
        self._failure = ""
        self._take(*loaded)
        return True

    def _take(self, found: Found, table: Table) -> None:
        self._found, self.table = found, table
        self.loaded = time.time()  # time of day: it is shown to operators
        self._reporter.report(table)
        if self._publisher is not None:
            self._publisher.publish(table)

    async def _watch(self, context: LifecycleContext) -> None:
        """Finish the first load, and load the files and zones again when they change."""
        if self.table is None:
            await self._finish_load(context)
        for zone in self._zones:
            zone.refresh_with(partial(self._renew, context))
        while self.interval:
            await asyncio.sleep(self.interval)
            await self._renew(context)

    async def _finish_load(self, context: LifecycleContext) -> None:
        if self._loading is not None:
            await asyncio.wait([self._loading])
            try:
                self._take_loaded(self._loading)
            except StartupError as error:
                _log.error("%s", error)
            context.forget()

    def _end_subscription(self, context: LifecycleContext) -> None:
        """Read the files in this process, since the leader sends no more tables."""
        self._task = asyncio.create_task(self._watch(context), name="watch block lists")

    async def _renew(self, context: LifecycleContext) -> None:
        """Load the files if they have changed; then cached replies are no longer correct."""
        async with self._lock:
            if await self.look():
                context.forget()

    async def _subscribe(self, group: ProcessGroup) -> bool:
        """Use the table of the leader; return whether it has one."""
        try:
            subscription = await Subscription.open(group, self._name)
        except OSError:
            return False
        try:
            async with asyncio.timeout(FOLLOWER_WAIT):
                self.table = await subscription.receive()
        except TimeoutError:
            pass  # the leader is still reading the files
        except BaseException as error:
            subscription.close()
            if isinstance(error, OSError | ValueError):
                return False
            raise
        self._subscription = subscription
        return True

    def _replace(self, context: LifecycleContext, table: Table) -> None:
        """Use another table of the leader."""
        self.table = table
        context.forget()
