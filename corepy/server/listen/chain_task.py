"""`ChainTask`: the task that continues a chain which awaits something.

A chain is a coroutine then. A `ChainTask` is a minimal asyncio task: `asyncio.timeout`,
`asyncio.wait_for` and cancellation work in the chain, and `asyncio.current_task()` returns the
`ChainTask` from the first step on. So libraries may refer to it weakly, and this module is not
compiled.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from corepy.server.contain.attribution import Attribution, of_coroutine
from corepy.server.contain.failure_report import substitute
from corepy.server.listen.waiting_query import WaitingQuery, validated

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from corepy.dns import Reply

_enter, _leave = asyncio.tasks._enter_task, asyncio.tasks._leave_task


@contextmanager
def task_set_aside() -> Iterator[None]:
    """Unset the current task within the context, so that code of a task can step chains.

    asyncio allows one current task per loop.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is not None:
        _leave(loop, task)
    try:
        yield
    finally:
        if task is not None:
            _enter(loop, task)


class ChainTask(WaitingQuery):
    """A pending chain, driven by the event loop as asyncio drives a task."""

    __slots__ = ("__weakref__", "_chain", "_interrupt", "_loop", "_waits_for")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._chain: Coroutine[Any, None, Reply]
        self._waits_for: asyncio.Future[Any] | None = None
        self._interrupt: BaseException | None = None

    def step(self, interrupt: BaseException | None = None) -> Reply | None:
        """Run the chain until it awaits something (returns None) or has a reply."""
        loop, chain = self._loop, self._chain
        if self._interrupt is not None:
            interrupt, self._interrupt = self._interrupt, None
        _enter(loop, self)  # type: ignore[arg-type]  # has the methods of a task that asyncio uses
        try:
            waits_for = chain.send(None) if interrupt is None else chain.throw(interrupt)
        except StopIteration as stop:
            return validated(self.request, stop.value, self._handler)
        except BaseException as error:
            return self._failed(error, self._handler)
        finally:
            _leave(loop, self)  # type: ignore[arg-type]  # as above
        self._wait_for(waits_for)
        return None

    def _wait_for(self, awaited: Any) -> None:
        if awaited is None:  # a bare yield: asyncio.sleep(0)
            self._loop.call_soon(self._resume, None)
            return
        if getattr(awaited, "_asyncio_future_blocking", None) is not True:
            problem = RuntimeError(f"the chain awaits {awaited!r}, which is not an asyncio future")
            self._loop.call_soon(self._resume, None, problem)
            return
        awaited._asyncio_future_blocking = False
        awaited.add_done_callback(self._resume)
        self._waits_for = awaited
        if self._interrupt is not None and awaited.cancel(*self._interrupt.args):
            self._interrupt = None

    def _resume(self, done: asyncio.Future[Any] | None, error: BaseException | None = None) -> None:
        if self.is_done:  # expired meanwhile
            return
        if error is None and done is not None:
            try:
                done.result()
            except BaseException as raised:
                error = raised
        reply = self.step(error)
        if reply is not None:
            self._deliver(self, reply)

    def cancel(self, msg: Any = None) -> bool:
        """Raise CancelledError in the chain, where it waits now or at its next wait."""
        self._cancelled += 1
        if self._waits_for is None or not self._waits_for.cancel(msg):
            self._interrupt = (
                asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
            )
        return True

    def expire(self) -> Attribution:
        """See `WaitingQuery.expire`."""
        found = of_coroutine(self._chain)
        if not self.has_timed_out:
            self.has_timed_out = True
            self.cancel()
            return found
        if self._waits_for is not None:
            self._waits_for.remove_done_callback(self._resume)
        self._deliver(self, substitute(self.request))
        self._abandon()
        return found

    def _abandon(self) -> None:
        """Close a chain that continues after its cancellation."""
        _enter(self._loop, self)  # type: ignore[arg-type]  # as in step
        try:
            self._chain.close()
        except BaseException:  # noqa: S110 - the client has its answer already
            pass
        finally:
            _leave(self._loop, self)  # type: ignore[arg-type]  # as in step

    def cancelling(self) -> int:
        """Return the number of cancellations requested and not withdrawn."""
        return self._cancelled

    def uncancel(self) -> int:
        """Withdraw one cancellation; return the number left."""
        self._cancelled = max(0, self._cancelled - 1)
        return self._cancelled


async def awaiting(answer: Any) -> Reply:
    """Await an object that is not a coroutine, such as a task."""
    reply: Reply = await answer
    return reply
