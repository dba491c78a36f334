"""Running a chain for one query, without a task for those that need not wait.

A chain is a coroutine. Most replies come from memory, so it is stepped at once, right where the
query was read; only when it waits for something does a `Query` keep it going from the event loop. A
`Query` is what asyncio calls a task, cut down to what a chain needs: `asyncio.timeout`,
`asyncio.wait_for` and cancellation work in it, and `asyncio.current_task()` returns it, from the
first step on.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from corepy.dns import Reply
from corepy.plugin.pending import Pending
from corepy.server.blame import Blame, of_coroutine
from corepy.server.failure import NonsenseError, report_failure, substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from corepy.dns import Request
    from corepy.plugin import Handler

_enter, _leave = asyncio.tasks._enter_task, asyncio.tasks._leave_task


@contextmanager
def task_set_aside() -> Iterator[None]:
    """Let chains be stepped by a task's code: only one task can be the running one."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is not None:
        _leave(loop, task)
    try:
        yield
    finally:
        if task is not None:
            _enter(loop, task)


class Query:
    """A chain that waits; see the module."""

    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_chain",
        "_deliver",
        "_interrupt",
        "_loop",
        "_waits_for",
        "is_done",
        "is_overdue",
        "request",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._chain: Coroutine[Any, None, Reply]
        self._deliver: Callable[[Query, Reply], None]
        self._waits_for: asyncio.Future[Any] | None = None
        self._cancelled = 0
        self._interrupt: BaseException | None = None
        self.is_done = False
        self.is_overdue = False
        self.request: Request

    def step(self, interrupt: BaseException | None = None) -> Reply | None:
        """Run the chain until it waits (None) or has a reply. An exception in it becomes SERVFAIL,
        also one that would end the process, such as SystemExit.
        """
        loop, chain = self._loop, self._chain
        self._waits_for = None
        if self._interrupt is not None:
            interrupt, self._interrupt = self._interrupt, None
        _enter(loop, self)  # type: ignore[arg-type]  # a task in all that asyncio asks of it
        try:
            waits_for = chain.send(None) if interrupt is None else chain.throw(interrupt)
        except StopIteration as stop:
            return self._checked(stop.value)
        except asyncio.CancelledError as error:
            if self._cancelled:  # by us: the client has gone, or it has taken too long
                return substitute(self.request)
            return report_failure(self.request, error)
        except BaseException as error:
            return report_failure(self.request, error)
        finally:
            _leave(loop, self)  # type: ignore[arg-type]  # as above
        self._wait_for(waits_for)
        return None

    def _checked(self, reply: object) -> Reply:
        if type(reply) is Reply:
            return reply
        problem = f"the chain returned {type(reply).__name__} instead of a Reply"
        return report_failure(self.request, NonsenseError(problem))

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
        if self.is_done:  # given up meanwhile
            return
        if error is None and done is not None:
            try:
                done.result()
            except BaseException as raised:
                error = raised
        reply = self.step(error)
        if reply is not None:
            self._deliver(self, reply)

    def arrive(self, pending: Pending) -> None:
        """Deliver what a chain without coroutines has come to."""
        if self.is_done:  # given up meanwhile
            return
        try:
            reply = self._checked(pending.result())
        except asyncio.CancelledError as error:
            reply = (
                substitute(self.request) if self._cancelled else report_failure(self.request, error)
            )
        except BaseException as error:
            reply = report_failure(self.request, error)
        self._deliver(self, reply)

    def cancel(self, msg: Any = None) -> bool:
        """Interrupt the chain with CancelledError, at what it waits for or at its next wait."""
        self._cancelled += 1
        if self._waits_for is None or not self._waits_for.cancel(msg):
            self._interrupt = (
                asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
            )
        return True

    def expire(self) -> Blame:
        """End a chain that has had its time, and return whose code it waits in.

        It is interrupted first; one that goes on nevertheless is given up, and answered SERVFAIL.
        """
        found = of_coroutine(self._chain)
        if not self.is_overdue:
            self.is_overdue = True
            self.cancel()
            return found
        if self._waits_for is not None:
            self._waits_for.remove_done_callback(self._resume)
        self._deliver(self, substitute(self.request))
        _enter(self._loop, self)  # type: ignore[arg-type]  # as in step
        try:
            self._chain.close()
        except BaseException:  # noqa: S110 - it is answered; what else it says is nobody's business
            pass
        finally:
            _leave(self._loop, self)  # type: ignore[arg-type]  # as in step
        return found

    def cancelling(self) -> int:
        """Return how many cancellations are asked for and not taken back."""
        return self._cancelled

    def uncancel(self) -> int:
        """Take one cancellation back."""
        self._cancelled = max(0, self._cancelled - 1)
        return self._cancelled


class Runner:
    """Starts the queries of one listener and knows those that still wait."""

    __slots__ = ("_deliver", "_loop", "_spare", "waiting")

    def __init__(self, deliver: Callable[[Query, Reply], None]) -> None:
        """`deliver` is called with the query and the reply of each chain that had to wait."""
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._spare = Query(self._loop)
        self.waiting: set[Query] = set()

    def start(self, chain: Handler, request: Request) -> Reply | None:
        """Return the reply of `chain` if it has one at once; None if it will be delivered later."""
        try:
            answer = chain.begin_dns(request)
        except BaseException as error:
            return report_failure(request, error)
        if type(answer) is Reply:
            return answer
        query = self._spare
        if query._cancelled:
            query = self._spare = Query(self._loop)
        query._deliver = self._done
        query.request = request
        query._chain = answer  # type: ignore[assignment]  # or nonsense, which `step` reports
        if type(answer) is Pending:
            query._waits_for = answer  # type: ignore[assignment]  # a future in all that is asked
            answer.deliver(query.arrive)
            reply = None
        else:
            reply = query.step()
        if reply is None:
            self.waiting.add(query)
            self._spare = Query(self._loop)
        return reply

    def _done(self, query: Query, reply: Reply) -> None:
        query.is_done = True
        self.waiting.discard(query)
        self._deliver(query, reply)

    def cancel(self) -> None:
        """Interrupt all that still wait; each gets SERVFAIL."""
        for query in list(self.waiting):
            query.cancel()
