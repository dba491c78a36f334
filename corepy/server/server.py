"""The server of a process: which generation answers, and how another one takes its place."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from corepy.net.sockets import BindError
from corepy.net.stream_transport import close_poller
from corepy.plugin import LifecycleContext, StartupError
from corepy.plugin.errors import describe
from corepy.plugin.hooks import no_command
from corepy.plugin.log import server_logger
from corepy.server.contain.attribution import of_error
from corepy.server.contain.failure_report import report_background
from corepy.server.contain.loop_watchdog import LoopWatchdog
from corepy.server.even_shares import EvenShares
from corepy.server.listen.endpoint import drained
from corepy.server.listen.query_timeout import QueryTimeouts
from corepy.server.missing_addresses import MissingAddresses
from corepy.server.selfcheck import unanswered
from corepy.server.server_sockets import ServerSockets
from corepy.server.snapshots import Snapshots
from corepy.server.succession import read_files, take_over
from corepy.server.traffic.reloads import Reloads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from corepy.net.inherited import Manager, Sockets
    from corepy.server.build.generation import Generation
    from corepy.server.listen.endpoint import Endpoint, Listen
    from corepy.server.listen.waiting_query import WaitingQuery
    from corepy.server.workers.group import ServerProcessGroup

DRAIN_TIMEOUT = 5.0
"""Seconds that pending queries get when a generation stops.

From core/dnsserver/server.go: graceTimeout.
"""

SELF_CHECK_TIMEOUT = 10.0
"""Seconds within which a new generation must have answered its self-check queries."""


@dataclass(slots=True)
class _Change:
    """A generation that is being started, and the state to restore if that fails."""

    generation: Generation
    old: Generation | None
    context: LifecycleContext
    endpoints: dict[Listen, Endpoint]
    shared: dict[tuple[Listen, int], Endpoint]
    in_flight: set[WaitingQuery] = field(default_factory=set)
    outcomes: list[str] = field(default_factory=list)
    """Lines for the log about handlers with state, if the change succeeds."""


class Server(ServerSockets):
    """Runs one generation at a time; belongs to one event loop."""

    def __init__(
        self,
        reload: Callable[[str], Awaitable[bool]] | None = None,
        inherited: Sockets | None = None,
        manager: Manager | None = None,
        process_group: ServerProcessGroup | None = None,
        state: int | None = None,
    ) -> None:
        """Create a server without endpoints; plugins call `reload` to load the Corefile again.

        `inherited` sockets are used where their address matches. `manager` keeps the sockets in use
        for the next process. `process_group` drives the other processes of this server. `state` is
        the descriptor of a snapshot that the process before has left in memory.
        """
        super().__init__(inherited, manager, process_group)
        self._process_group.open_to(self)
        self._reload = reload or _no_reload
        self.generations: list[Generation] = []
        """All generations started and not yet stopped; two during a takeover."""
        self._snapshots = Snapshots(self._manager, self._process_group, state)
        self._missing_addresses = MissingAddresses()
        self._even_shares = EvenShares()
        self._query_timeouts = QueryTimeouts(self._waiting)
        self._loop_watchdog = LoopWatchdog(asyncio.get_running_loop())
        self.started = time.time()  # time of day: for the reader of `corepy status`
        """UNIX time in seconds at which the process began to serve."""
        self.loaded = self.started
        """The same for the generation that answers."""
        self.configuration_name = "Corefile"
        """The Corefile as it was named at the start, for messages."""
        self.reloads = Reloads()
        self.run_command: Callable[[str, Any], Awaitable[Any]] = no_command
        """Carries out a command; set by the program, as `corepy.server.commands` makes it."""
        self._changing = asyncio.Lock()
        self._change: _Change

    async def run(self, generation: Generation) -> None:
        """Start `generation`, or replace the running one by it.

        All or nothing: if a hook refuses, a socket cannot be opened or a listener fails, the
        previous state is restored and `StartupError` is raised. On a takeover the old generation
        answers the pending queries, the new one all later queries. A generation that is to replace
        the running one is refused if the server is stopped before its turn.
        """
        replaces = self.generation is not None
        async with self._changing:
            if replaces and self.generation is None:
                raise StartupError("the server has been stopped")
            try:
                await self.prepare(generation)
                await self.activate()
            except GeneratorExit:  # nothing can be awaited any more
                raise
            except BaseException as error:  # the listeners may be those of a third party
                await self.rollback()
                if _is_cancelled(error):
                    raise
                raise StartupError(_reason(error)) from error
            await self.finalize()

    async def prepare(self, generation: Generation) -> None:
        """Take the first step of `run`: everything that needs no socket.

        If this step or the next one raises an exception, the caller must call `rollback`.
        """
        context = self._context(generation)
        context.replaces = self.generation is not None
        self._change = _Change(
            generation, self.generation, context, dict(self.endpoints), dict(self.shared)
        )
        self.generations.append(generation)
        self._process_group.expect(generation)
        self._memory_pool.divide(self._process_group.size)
        await generation.start_hooks("before_listen", context)
        await read_files(generation)
        if self.generation is None:
            self._change.outcomes = await self._snapshots.restore(generation)
        if self._process_group.is_leader and self._process_group.size > 1:
            await self._snapshots.provide(self.generation or generation)
        await self._process_group.prepare()

    async def activate(self) -> None:
        """Take the second step: make the generation answer."""
        change = self._change
        generation, context = change.generation, change.context
        self._open(generation)
        change.in_flight = self._waiting()
        if change.old is not None:
            change.outcomes = take_over(change.old, generation)
        self._route(generation)
        mine = [self.endpoints[listen] for listen in generation.routers]
        context.addresses = [endpoint.label for endpoint in mine]
        await self._process_group.activate()
        if self._process_group.is_leader:
            await self._self_check(mine)
        await generation.start_hooks("serving", context)

    async def finalize(self) -> None:
        """Take the last step, which cannot be undone: stop the old generation."""
        change = self._change
        self.generation = change.generation
        self.loaded = time.time()  # time of day: as `started`
        self.traffic.start()
        self._snapshots.start(self.generation)
        self._query_timeouts.start(self.generation.time_limits())
        self._loop_watchdog.start()
        if self._process_group.is_leader:
            for outcome in change.outcomes:
                server_logger().info("%s", outcome)
            self._missing_addresses.check(
                [self.endpoints[listen] for listen in self.generation.routers]
            )
        self._hand_over()
        if change.old is None:
            leaving = self._unwanted()
            self._release(leaving)
            await self._drain_and_close(leaving, set(), self._process_group.finalize())
        else:
            await self._retire(change.old, change.in_flight, final=False)
        self._even_shares.apply(self._groups())

    async def rollback(self) -> None:
        """Restore the state before `prepare`."""
        change = self._change
        try:
            await self._process_group.rollback()
        except Exception as error:
            report_background(error, "other processes have not returned to the old configuration")
        self._memory_pool.divide(self._process_group.size)
        kept = {*change.endpoints.values(), *change.shared.values()}
        for endpoint in self.every_endpoint():
            if endpoint not in kept:
                endpoint.close()
        self.endpoints, self.shared = change.endpoints, change.shared
        if change.old is not None:
            self._route_back(change.old)
        context = self._context(change.generation)
        context.final = change.old is None
        self.generations.remove(change.generation)
        await change.generation.stop_hooks("shutdown", context)

    async def stop(self, *, hand_over: bool | Collection[Listen] = False) -> None:
        """Drain and stop; the server can be used again.

        With `hand_over` the next process gets the sockets that the manager keeps, including the
        queries in their queues. A collection of addresses selects these sockets.
        """
        async with self._changing:
            if self.generation is not None:
                await self._missing_addresses.stop()
                await self._even_shares.stop()
                if hand_over is not True:
                    self._release(
                        it for it in self.every_endpoint() if it.listen not in (hand_over or ())
                    )
                await self._retire(self.generation, set(), final=True)
                self.generation = None
                self._query_timeouts.stop()
                self.traffic.stop()
                self._loop_watchdog.stop()

    @property
    def state_descriptor(self) -> int | None:
        """The last snapshot in memory, for followers that start."""
        return self._snapshots.descriptor

    @property
    def is_state_revoked(self) -> bool:
        """Whether the snapshot that the leader has passed was discarded meanwhile."""
        return self._snapshots.is_revoked

    def inherit_state(self, descriptor: int) -> None:
        """Continue with the state in this snapshot, when the first generation is prepared."""
        self._snapshots.inherit(descriptor)

    def resend_state(self) -> None:
        """Send the complete state to a new manager, whose predecessor was killed."""
        super().resend_state()
        self._snapshots.send_again()

    async def _self_check(self, endpoints: list[Endpoint]) -> None:
        """Raise `StartupError` unless queries are answered at `endpoints`.

        After this check plugins may direct the node's traffic to this server.
        """
        silent = await unanswered(endpoints, SELF_CHECK_TIMEOUT)
        if silent:
            raise StartupError(
                f"no reply to the self-check at {', '.join(silent)}: a firewall or another program"
                " may intercept the queries"
            )

    async def _retire(
        self, generation: Generation, in_flight: set[WaitingQuery], *, final: bool
    ) -> None:
        """Stop `generation`: its unused endpoints, its pending queries, its plugins."""
        context = self._context(generation)
        context.final = final
        await generation.stop_hooks("stopping", context)
        leaving = list(self.every_endpoint()) if final else self._unwanted()
        if not final:
            self._release(leaving)
        process_group = self._process_group.stop() if final else self._process_group.finalize()
        await self._drain_and_close(leaving, in_flight, process_group)
        if final:  # nothing would ever send the rest to clients that have not read it
            for endpoint in leaving:
                endpoint.abort()
            await asyncio.sleep(0)
            close_poller()  # and connections that a faulty listener left open
            await self._snapshots.stop()
        self.generations.remove(generation)
        await generation.stop_hooks("shutdown", context)

    async def _drain_and_close(
        self, leaving: list[Endpoint], in_flight: set[WaitingQuery], process_group: Awaitable[None]
    ) -> None:
        """Close the endpoints `leaving` after their queries and those `in_flight` are answered.

        `process_group` runs at the same time in the other processes.
        """
        for endpoint in leaving:
            # Includes endpoints of followers: a follower gets its request later, and may hang.
            endpoint.stop()
            in_flight |= endpoint.waiting()
        left, _ = await asyncio.gather(drained(in_flight, leaving, DRAIN_TIMEOUT), process_group)
        if left:
            log = server_logger()
            log.warning("%d queries are unanswered after %g s of draining", left, DRAIN_TIMEOUT)
            for query in in_flight:
                query.cancel()
            await asyncio.sleep(0)
        for endpoint in leaving:
            endpoint.close()
        gone = set(leaving)
        self.endpoints = {at: it for at, it in self.endpoints.items() if it not in gone}
        self.shared = {at: it for at, it in self.shared.items() if it not in gone}
        await asyncio.sleep(0)  # closed transports call connection_lost in the next turn

    def _context(self, generation: Generation) -> LifecycleContext:
        labels = [
            self.endpoints[listen].label if listen in self.endpoints else listen.label()
            for listen in generation.routers
        ]
        return LifecycleContext(
            generation.plugins,
            self._reload,
            self.forget,
            generation.files,
            addresses=labels,
            process_group=self._process_group,
            forget_names=partial(self._forget_names, generation),
            discard_snapshots=self._snapshots.discard,
            run_command=self.run_command,
        )

    async def command(self, name: str, argument: Any) -> list[dict[str, Any]]:
        """Make all plugins of all processes carry out an operator's command.

        Returns their results. Raises `CommandError`.
        """
        found = [await each.command(name, argument) for each in list(self.generations)]
        found.append(await self._process_group.command(name, argument))
        return [result for results in found for result in results]

    async def ask_followers(self, name: str, argument: Any) -> list[Any]:
        """Return the results of a command of the server itself in its other processes."""
        return await self._process_group.command(name, argument)

    def process_problems(self) -> list[str]:
        """Return a line for each process that has sockets but does not respond."""
        return self._process_group.problems()

    async def _forget_names(
        self, generation: Generation, is_changed: Callable[[bytes], bool]
    ) -> None:
        """Remove replies for changed names from the caches of plugins and from packet caches."""
        await generation.forget_names(is_changed)
        self.forget()
        await self._snapshots.discard()


def _is_cancelled(error: BaseException) -> bool:
    """Return whether `error` is the cancellation of the running task."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _reason(error: BaseException) -> str:
    """Return why a generation cannot run, with the place of an error that is not expected."""
    if isinstance(error, StartupError | BindError):
        return str(error)
    return f"{describe(error)} (at {of_error(error).where})"


async def _no_reload(_reason: str) -> bool:
    return False
