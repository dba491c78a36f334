"""The endpoint /health (CoreDNS: plugin/health/health.go).

It answers 503 if this server does not answer DNS queries.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from corepy.http import HTTPRequest, HTTPResponse, claim
from corepy.plugin import LifecycleContext, ProcessGroup, hookimpl
from corepy_health import overload, probe
from corepy_health.overload import LOG

if TYPE_CHECKING:
    from corepy.http import Claim

PATH = "/health"


class Health:
    """Serves /health and monitors the listen addresses of this server."""

    def __init__(self, address: str, lameduck: float = 0.0) -> None:
        """Serve at `address` (host:port), and continue for `lameduck` seconds on shutdown."""
        self.address = address
        self.lameduck = lameduck
        self._claim: Claim | None = None
        self._process_group = ProcessGroup()
        self._targets: list[probe.Target] = []
        self._tasks: list[asyncio.Task[None]] = []

    @hookimpl(tryfirst=True)  # tryfirst runs last at the start
    async def before_listen(self, context: LifecycleContext) -> None:
        """Bind the address, which nodecache may just have added; a failure refuses the start."""
        self._claim = await claim(self.address)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Serve /health, and monitor the addresses that this server listens on."""
        assert self._claim is not None
        self._process_group = context.process_group
        self._targets = probe.targets(list(context.addresses))
        watches = [target.watch() for target in self._targets]
        watches.append(overload.watch(self._claim.address))
        self._tasks = [asyncio.create_task(watch) for watch in watches]
        self._claim.serve(PATH, self.answer)

    async def answer(self, request: HTTPRequest) -> HTTPResponse:
        """Answer a request for /health."""
        late = [target for target in self._targets if target.is_late]
        found = await asyncio.gather(*(target.problem() for target in late)) if late else []
        problems = [
            problem for problem in found if problem is not None
        ] + self._process_group.problems()
        if problems:
            body = "".join(f"{problem}\n" for problem in problems)
            return HTTPResponse(body.encode(), HTTPStatus.SERVICE_UNAVAILABLE)
        return HTTPResponse(b"OK")

    @hookimpl
    def ready(self) -> bool:
        """Return whether all addresses have answered lately, for *ready* and its `/ready`."""
        late = any(target.is_late for target in self._targets)
        return not late and not self._process_group.problems()

    @hookimpl
    def status(self) -> dict[str, Any]:
        """Return whether the addresses answer the queries of *health*, for an operator."""
        late = [target.status for target in self._targets if target.is_late]
        problems = [*late, *self._process_group.problems()]
        state = "failing" if problems else "answering"
        return {"state": state, "problems": problems, "endpoint": self.address}

    @hookimpl
    async def stopping(self, context: LifecycleContext) -> None:
        """Continue for the lameduck period, for clients that do not know of the shutdown yet."""
        if context.final and self.lameduck > 0:
            LOG.info("Going into lameduck mode for %gs", self.lameduck)
            await asyncio.sleep(self.lameduck)
        for task in self._tasks:
            task.cancel()  # before sockets close, which is not a failure

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """Release the address."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._targets.clear()
        if self._claim is not None:
            await self._claim.close()
