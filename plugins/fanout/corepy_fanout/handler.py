"""The handler of *fanout* (github.com/networkservicemesh/fanout: fanout.go).

Each upstream has a *forward* handler of its own, so that it is asked as *forward* does: over UDP
and then TCP, with EDNS if it supports that, and from random ports.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns import names
from corepy.dns.constants import NOERROR, SERVFAIL, rcode_name
from corepy.plugin import Cacheability, ExplainedHandler, FastHandler, ZoneMatcher
from corepy_fanout.metrics import DURATION, RCODES, REQUESTS
from corepy_fanout.selection import selection_of
from corepy_fanout.settings import LONGEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.dns import Reply, Request
    from corepy.plugin import Handler
    from corepy.plugin.handler import Answer
    from corepy_fanout.settings import Settings

PAUSE: Final = 0.1
"""Seconds before an upstream is asked again, if the number of attempts is not limited."""

LABEL: Final = "fanout/upstream"
"""The label of metadata with the upstream whose reply was returned."""

_Tasks = dict["asyncio.Task[Reply]", None]
"""In the order in which they were started."""


class Fanout(FastHandler, ExplainedHandler):
    """Asks several upstreams at the same time, and returns the first good reply."""

    name: ClassVar[str] = "fanout"
    cacheability = Cacheability.SAFE

    def __init__(
        self, settings: Settings, embedded: Sequence[Handler], *, with_metadata: bool = False
    ) -> None:
        """Take complete settings, and a handler for each upstream.

        `with_metadata`: store the upstream that answered in each query.
        """
        self.settings = settings
        self.embedded = tuple(embedded)
        self.selection = selection_of(settings)
        self._addresses = [upstream.address for upstream in settings.upstreams]
        self._zone = names.from_text(settings.zone)
        self._excluded = ZoneMatcher(settings.excluded)
        self._timeout = min(settings.timeout, LONGEST)
        self._with_metadata = with_metadata

    @property
    def inputs(self) -> bytes | None:
        """The inputs of the embedded handlers."""
        found = [it.inputs for it in self.embedded]
        return None if None in found else repr(found).encode()

    def begin_dns(self, request: Request) -> Answer:
        """Ask the upstreams, or the next handler about a name that is not forwarded."""
        if not self.matches(request.name_wire):
            return self.next.begin_dns(request)
        return self._first_good(request)

    def matches(self, name: bytes) -> bool:
        """Return whether a name, in wire form and lower case, is forwarded."""
        return names.is_subdomain(name, self._zone) and self._excluded.find(name) is None

    async def _first_good(self, request: Request) -> Reply:
        """Return the first reply with NOERROR, without one the first reply.

        With `race`, the first reply.
        """
        deadline = monotonic() + self._timeout
        order = iter(self.selection())
        tasks: _Tasks = {}
        best: asyncio.Task[Reply] | None = None
        failure: Reply | None = None
        try:
            while self._start(order, tasks, request):
                done, _ = await asyncio.wait(
                    tasks,
                    timeout=max(deadline - monotonic(), 0),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    break
                for task in [it for it in tasks if it in done]:
                    del tasks[task]
                    reply = task.result()
                    if reply.error is not None:
                        failure = failure or reply
                    elif reply.rcode == NOERROR or self.settings.is_race:
                        return self._chosen(request, task)
                    else:
                        best = best or task
        finally:
            for task in tasks:
                task.cancel()
        if best is not None:
            return self._chosen(request, best)
        return failure or request.error(SERVFAIL, f"no reply within {self._timeout:g}s")

    def _start(self, order: Iterable[int], tasks: _Tasks, request: Request) -> bool:
        """Ask upstreams up to the number of workers; return whether a reply is outstanding."""
        for index in order:
            task = asyncio.create_task(self._ask(index, request), name=self._addresses[index])
            tasks[task] = None
            if len(tasks) >= self.settings.worker_count:
                break
        return bool(tasks)

    def _chosen(self, request: Request, task: asyncio.Task[Reply]) -> Reply:
        if self._with_metadata:
            request.metadata[LABEL] = task.get_name()
        return task.result()

    async def _ask(self, index: int, request: Request) -> Reply:
        """Return the reply of an upstream; one with an `error` if there is none."""
        address = self._addresses[index]
        while True:
            sent = monotonic()
            reply = await self.embedded[index].serve_dns(request)
            if reply.error is None:
                REQUESTS.labels(address).inc()
                RCODES.labels(rcode_name(reply.rcode), address).inc()
                DURATION.labels(address).observe(monotonic() - sent)
                return reply
            if self.settings.attempts:
                return reply
            await asyncio.sleep(PAUSE)

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the upstreams that the query is sent to."""
        if not self.matches(request.name_wire):
            return {"state": "the name is outside its zones"}
        settings = self.settings
        return {
            "upstreams": ", ".join(self._addresses),
            "policy": settings.policy,
            "asked": f"{settings.server_count}, {settings.worker_count} at the same time",
        }
