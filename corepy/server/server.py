"""The server of a process: its endpoints, and the generation that answers at them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from corepy.net.datagrams import open_batch
from corepy.net.inherited import Manager
from corepy.net.sockets import Address, BindError, bound, leave_group
from corepy.plugin import LifecycleContext, StartupError
from corepy.plugin.errors import describe
from corepy.plugin.log import server_logger
from corepy.server.contain.attribution import of_error
from corepy.server.contain.failure_report import report_background
from corepy.server.contain.loop_watchdog import LoopWatchdog
from corepy.server.listen.endpoint import Endpoint, drained
from corepy.server.listen.packet_cache import MemoryPool
from corepy.server.listen.query_timeout import QueryTimeouts
from corepy.server.missing_addresses import MissingAddresses
from corepy.server.selfcheck import unanswered
from corepy.server.workers.group import Endpoints, ServerProcessGroup

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator

    from corepy.net.inherited import Sockets
    from corepy.server.build.generation import Generation
    from corepy.server.listen.chain_runner import ChainTask
    from corepy.server.listen.endpoint import Listen

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
    in_flight: set[ChainTask] = field(default_factory=set)


class Server(Endpoints):
    """Runs one generation at a time; belongs to one event loop."""

    def __init__(
        self,
        reload: Callable[[str], Awaitable[bool]] | None = None,
        inherited: Sockets | None = None,
        manager: Manager | None = None,
        process_group: ServerProcessGroup | None = None,
    ) -> None:
        """Create a server without endpoints; plugins call `reload` to load the Corefile again.

        `inherited` sockets are used where their address matches. `manager` keeps the sockets in use
        for the next process. `process_group` drives the other processes of this server.
        """
        self._inherited = inherited if inherited is not None else {}
        self._manager = manager or Manager({})
        self._reload = reload or _no_reload
        self.generation: Generation | None = None
        """The generation that answers."""
        self.generations: list[Generation] = []
        """All generations started and not yet stopped; two during a takeover."""
        self.endpoints: dict[Listen, Endpoint] = {}
        self.shared: dict[tuple[Listen, int], Endpoint] = {}
        """The sockets of other processes, at which this one answers while they do not run."""
        self._process_group = process_group or ServerProcessGroup()
        self._process_group.open_to(self)
        self._batch = open_batch()
        self._memory_pool = MemoryPool()
        self._missing_addresses = MissingAddresses()
        self._query_timeouts = QueryTimeouts(self._waiting)
        self._loop_watchdog = LoopWatchdog(asyncio.get_running_loop())
        self._changing = asyncio.Lock()
        self._change: _Change

    async def run(self, generation: Generation) -> None:
        """Start `generation`, or replace the running one by it.

        All or nothing: if a hook refuses, a socket cannot be opened or a listener fails, the
        previous state is restored and `StartupError` is raised. On a takeover the old generation
        answers the pending queries, the new one all later queries.
        """
        async with self._changing:
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
        await self._process_group.prepare()

    async def activate(self) -> None:
        """Take the second step: make the generation answer."""
        change = self._change
        generation, context = change.generation, change.context
        self._open(generation)
        change.in_flight = self._waiting()
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
        self._query_timeouts.start(self.generation.time_limits())
        self._loop_watchdog.start()
        if self._process_group.is_leader:
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

    async def rollback(self) -> None:
        """Restore the state before `prepare`."""
        change = self._change
        try:
            await self._process_group.rollback()
        except Exception as error:
            report_background(error, "other processes have not returned to the old configuration")
        self._memory_pool.divide(self._process_group.size)
        kept = {*change.endpoints.values(), *change.shared.values()}
        for endpoint in self._every():
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
                if hand_over is not True:
                    self._release(it for it in self._every() if it.listen not in (hand_over or ()))
                await self._retire(self.generation, set(), final=True)
                self.generation = None
                self._query_timeouts.stop()
                self._loop_watchdog.stop()

    def adopt(self, endpoint: Endpoint) -> None:
        """Use an endpoint opened by the leader for the generation that is being prepared."""
        self.endpoints[endpoint.listen] = endpoint

    def new_endpoint(
        self, listen: Listen, inherited: Sockets, port: int | None = None, shard: int = 0
    ) -> Endpoint:
        """Return a new endpoint with the resources of this server; see `Endpoint`."""
        return Endpoint(listen, self._batch, self._memory_pool, inherited, port=port, shard=shard)

    def take_over_shard(self, shard: int) -> None:
        """Answer at the sockets of a shard whose process is not running."""
        for (_, there), endpoint in self.shared.items():
            if there == shard:
                endpoint.resume()

    def hand_back_shard(self, shard: int) -> None:
        """Stop answering at the sockets of a shard whose process is running."""
        for (_, there), endpoint in self.shared.items():
            if there == shard:
                endpoint.pause()

    def _every(self) -> Iterator[Endpoint]:
        yield from self.endpoints.values()
        yield from self.shared.values()

    def _hand_over(self) -> None:
        """Give the sockets in use to the manager, and close unused inherited ones."""
        for key, (sock, lent) in self._inherited.items():
            self._manager.release([sock], key.shard, key.scheme)
            if key.shard and not lent and key.protocol == "udp":
                leave_group(sock)  # leaves the queries to the rest of the SO_REUSEPORT group
            sock.close()
        self._inherited.clear()
        for endpoint in self._every():
            if not endpoint.kept and self._manager.keeps_sockets:
                self._keep(endpoint)
                endpoint.kept = True

    def _keep(self, endpoint: Endpoint) -> None:
        self._manager.keep(endpoint.sockets, endpoint.shard, endpoint.listen.transport)

    def resend_state(self) -> None:
        """Send the complete state to a new manager, whose predecessor was killed."""
        if self.generation is not None:
            for endpoint in self._every():
                if endpoint.kept:
                    self._keep(endpoint)
            self._manager.tell("READY=1")

    def _release(self, endpoints: Iterable[Endpoint]) -> None:
        """Take the sockets of `endpoints` back from the manager."""
        for endpoint in endpoints:
            if endpoint.kept:
                self._manager.release(endpoint.sockets, endpoint.shard, endpoint.listen.transport)
                endpoint.kept = False

    def _open(self, generation: Generation) -> None:
        for listen in generation.routers:
            if listen not in self.endpoints:
                self.endpoints[listen] = self.new_endpoint(listen, self._inherited)
            if not self._process_group.shares_sockets:
                continue
            port = self.endpoints[listen].port
            # Surplus sockets of an earlier process may have queries in their queues.
            inherited = self._inherited_shards(listen, port)
            for shard in {*range(1, generation.sockets[listen]), *inherited}:
                if (listen, shard) not in self.shared:
                    self.shared[listen, shard] = self.new_endpoint(
                        listen, self._inherited, port, shard
                    )

    def _route(self, generation: Generation) -> None:
        """Make `generation` answer at its endpoints, first at those already in use.

        It answers at the sockets of another process only while that process does not run.
        """
        mine = self._of(generation)
        for endpoint in mine:
            listen = endpoint.listen
            endpoint.swap(generation.routers[listen], generation.settings[listen])
        for endpoint in mine:
            if self._answers_at(endpoint):
                endpoint.start()

    def _route_back(self, generation: Generation) -> None:
        """Make `generation` answer at its endpoints again, whatever their listeners raise."""
        for endpoint in self._of(generation):
            listen = endpoint.listen
            endpoint.swap_back(generation.routers[listen], generation.settings[listen])
            if self._answers_at(endpoint):
                endpoint.resume()

    def _of(self, generation: Generation) -> list[Endpoint]:
        return [endpoint for endpoint in self._every() if endpoint.listen in generation.routers]

    def _answers_at(self, endpoint: Endpoint) -> bool:
        mine = self.endpoints[endpoint.listen]
        return endpoint is mine or not self._process_group.has(endpoint.shard)

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
        self, generation: Generation, in_flight: set[ChainTask], *, final: bool
    ) -> None:
        """Stop `generation`: its unused endpoints, its pending queries, its plugins."""
        context = self._context(generation)
        context.final = final
        await generation.stop_hooks("stopping", context)
        leaving = list(self._every()) if final else self._unwanted()
        if not final:
            self._release(leaving)
        process_group = self._process_group.stop() if final else self._process_group.finalize()
        await self._drain_and_close(leaving, in_flight, process_group)
        self.generations.remove(generation)
        await generation.stop_hooks("shutdown", context)

    async def _drain_and_close(
        self, leaving: list[Endpoint], in_flight: set[ChainTask], process_group: Awaitable[None]
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

    def _inherited_shards(self, listen: Listen, port: int) -> set[int]:
        wanted = listen.transport, bound(Address(listen.host, port))
        return {
            key.shard
            for key in self._inherited
            if (key.scheme, key.address) == wanted and key.shard
        }

    def _unwanted(self) -> list[Endpoint]:
        return [endpoint for endpoint in self._every() if not self._wants(endpoint)]

    def _wants(self, endpoint: Endpoint) -> bool:
        """Return whether the current generation uses `endpoint`."""
        generation, listen = self.generation, endpoint.listen
        if generation is None or listen not in generation.routers:
            return False
        own = endpoint is self.endpoints.get(listen)
        return own or endpoint.shard < generation.sockets[listen]

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
        )

    async def command(self, name: str, argument: Any) -> list[dict[str, Any]]:
        """Make all plugins of all processes carry out an operator's command.

        Returns their results. Raises `CommandError`.
        """
        found = [await each.command(name, argument) for each in list(self.generations)]
        found.append(await self._process_group.command(name, argument))
        return [result for results in found for result in results]

    def forget(self) -> None:
        """Empty all packet caches."""
        for endpoint in self._every():
            endpoint.forget()

    async def _forget_names(
        self, generation: Generation, is_changed: Callable[[bytes], bool]
    ) -> None:
        """Remove replies for changed names from the caches of plugins and from packet caches."""
        await generation.forget_names(is_changed)
        self.forget()

    def _waiting(self) -> set[ChainTask]:
        return {query for endpoint in self._every() for query in endpoint.waiting()}


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
