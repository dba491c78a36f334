"""The server of a process: the endpoints it holds open and the generation that answers at them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from corepy.net.datagrams import open_batch
from corepy.net.inherited import Manager
from corepy.net.sockets import BindError
from corepy.plugin import LifecycleContext, StartupError
from corepy.plugin.log import server_logger
from corepy.server.absence import Absence
from corepy.server.endpoint import Endpoint, drained
from corepy.server.overdue import Overdue
from corepy.server.packet_cache import Room
from corepy.server.selfcheck import unanswered
from corepy.server.watch import LoopWatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from corepy.net.inherited import Sockets
    from corepy.server.endpoint import Listen
    from corepy.server.generation import Generation
    from corepy.server.query import Query

DRAIN_TIMEOUT = 5.0
"""Seconds that queries in flight get when a generation stops (core/dnsserver/server.go:
graceTimeout).
"""

SELF_CHECK_TIMEOUT = 10.0
"""Seconds within which a new generation must have answered its own questions."""


class Server:
    """Runs one generation at a time; lives in one event loop."""

    def __init__(
        self,
        reload: Callable[[str], Awaitable[bool]] | None = None,
        inherited: Sockets | None = None,
        manager: Manager | None = None,
    ) -> None:
        """`reload` is what plugins call to have the Corefile loaded anew.

        Sockets that were `inherited` are used where they fit; `manager` keeps those in use for the
        next process.
        """
        self._inherited = inherited if inherited is not None else {}
        self._manager = manager or Manager({})
        self._reload = reload or _no_reload
        self.generation: Generation | None = None
        """The one that answers."""
        self.generations: list[Generation] = []
        """All that have begun to start and not ended: on a takeover there are two."""
        self.endpoints: dict[Listen, Endpoint] = {}
        self._batch = open_batch()
        self._room = Room()
        self._absence = Absence()
        self._overdue = Overdue(self._waiting)
        self._watch = LoopWatch(asyncio.get_running_loop())
        self._changing = asyncio.Lock()

    async def run(self, generation: Generation) -> None:
        """Start `generation`, or let it take over from the one that runs.

        All or nothing: raises `StartupError` and leaves everything as it was when a hook refuses or
        a socket cannot be opened. On a takeover the queries in flight are answered by the old
        generation, later ones by the new.
        """
        async with self._changing:
            old, before = self.generation, dict(self.endpoints)
            context = self._context(generation)
            context.replaces = old is not None
            self.generations.append(generation)
            try:
                await generation.start_hooks("before_listen", context)
                self._open(generation)
                in_flight = self._waiting()
                self._route(generation)
                mine = [self.endpoints[listen] for listen in generation.routers]
                context.addresses = [endpoint.label for endpoint in mine]
                await self._prove(mine)
                await generation.start_hooks("serving", context)
            except (StartupError, BindError) as error:
                await self._undo(generation, old, before)
                raise StartupError(str(error)) from error
            self.generation = generation
            self._overdue.start()
            self._watch.start()
            self._absence.look(mine)
            self._hand_over()
            if old is not None:
                await self._retire(old, in_flight, final=False)

    async def stop(self, *, hand_over: bool = False) -> None:
        """Drain and stop; the server can be used again.

        With `hand_over` the sockets that the manager keeps go on to the next process, with what
        lies in their queues.
        """
        async with self._changing:
            if self.generation is not None:
                await self._absence.stop()
                if not hand_over:
                    self._release(self.endpoints.values())
                await self._retire(self.generation, set(), final=True)
                self.generation = None
                self._overdue.stop()
                self._watch.stop()

    def _hand_over(self) -> None:
        """Let the manager keep the sockets in use, and close inherited ones that nobody wanted."""
        for sock, _ in self._inherited.values():
            self._manager.release([sock])
            sock.close()
        self._inherited.clear()
        for endpoint in self.endpoints.values():
            if not endpoint.kept and self._manager.keeps_sockets:
                self._manager.keep(endpoint.sockets)
                endpoint.kept = True

    def _release(self, endpoints: Iterable[Endpoint]) -> None:
        """Let the manager keep the sockets of `endpoints` no longer."""
        for endpoint in endpoints:
            if endpoint.kept:
                self._manager.release(endpoint.sockets)
                endpoint.kept = False

    def _open(self, generation: Generation) -> None:
        for listen in generation.routers:
            if listen not in self.endpoints:
                self.endpoints[listen] = Endpoint(listen, self._batch, self._room, self._inherited)

    def _route(self, generation: Generation) -> None:
        """Let `generation` answer: first, at once, where sockets are in use already, then at the
        new ones.
        """
        mine = [listen for listen in generation.routers if listen in self.endpoints]
        for listen in mine:
            self.endpoints[listen].swap(generation.routers[listen], generation.settings[listen])
        for listen in mine:
            self.endpoints[listen].start()

    async def _prove(self, endpoints: list[Endpoint]) -> None:
        """Go on only if queries are answered: plugins may now send the node's traffic here."""
        silent = await unanswered(endpoints, SELF_CHECK_TIMEOUT)
        if silent:
            raise StartupError(
                f"no answer from ourselves at {', '.join(silent)}: something (a firewall, another"
                f" program) keeps queries away"
            )

    async def _undo(
        self, generation: Generation, old: Generation | None, before: dict[Listen, Endpoint]
    ) -> None:
        """Put everything back as it was before `generation` tried to start."""
        if old is not None:
            self._route(old)
        for listen, endpoint in self.endpoints.items():
            if listen not in before:
                endpoint.close()
        self.endpoints = before
        context = self._context(generation)
        context.final = old is None
        self.generations.remove(generation)
        await generation.stop_hooks("shutdown", context)

    async def _retire(self, generation: Generation, in_flight: set[Query], *, final: bool) -> None:
        """End `generation`: the endpoints that nobody wants any more, its queries in flight, its
        plugins.
        """
        context = self._context(generation)
        context.final = final
        await generation.stop_hooks("stopping", context)
        wanted = {} if final or self.generation is None else self.generation.routers
        leaving = [endpoint for listen, endpoint in self.endpoints.items() if listen not in wanted]
        if not final:
            self._release(leaving)
        for endpoint in leaving:
            endpoint.stop()
            in_flight |= endpoint.waiting()
        left = await drained(in_flight, leaving, DRAIN_TIMEOUT)
        if left:
            log = server_logger()
            log.warning("%d queries have no answer after %g s of draining", left, DRAIN_TIMEOUT)
            for query in in_flight:
                query.cancel()
            await asyncio.sleep(0)
        for endpoint in leaving:
            endpoint.close()
            del self.endpoints[endpoint.listen]
        await asyncio.sleep(0)  # transports that were closed say so in the next turn
        self.generations.remove(generation)
        await generation.stop_hooks("shutdown", context)

    def _context(self, generation: Generation) -> LifecycleContext:
        labels = [
            self.endpoints[listen].label if listen in self.endpoints else listen.label()
            for listen in generation.routers
        ]
        return LifecycleContext(
            generation.plugins, self._reload, self.forget, generation.files, addresses=labels
        )

    async def command(self, name: str, argument: Any) -> list[dict[str, Any]]:
        """Let all plugins carry out an operator's command; return their results.

        Raises `CommandError`.
        """
        found = [await each.command(name, argument) for each in list(self.generations)]
        return [result for results in found for result in results]

    def forget(self) -> None:
        """Empty all packet caches."""
        for endpoint in self.endpoints.values():
            endpoint.forget()

    def _waiting(self) -> set[Query]:
        return {query for endpoint in self.endpoints.values() for query in endpoint.waiting()}


async def _no_reload(_reason: str) -> bool:
    return False
