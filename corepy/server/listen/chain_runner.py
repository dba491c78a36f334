"""Runs the chain of each query without an asyncio task.

A chain is a coroutine. Most replies come from memory, so the chain is first stepped directly in the
callback that read the query. Only if it awaits something does a `ChainTask` continue it from the
event loop. A `ChainTask` is a minimal asyncio task: `asyncio.timeout`, `asyncio.wait_for` and
cancellation work in the chain, and `asyncio.current_task()` returns the `ChainTask` from the first
step on.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
from contextlib import contextmanager
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from corepy.dns import Reply
from corepy.dns.reply import NO_COUNTERS, NOT_SET
from corepy.dns.reply_validation import NO_OPTIONS, reply_problem
from corepy.plugin.pending import Pending
from corepy.server.contain.attribution import Attribution, of_coroutine
from corepy.server.contain.failure_report import InvalidReplyError, report_failure, substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from corepy.dns import Request
    from corepy.plugin import Handler

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


class ChainTask:
    """A pending chain, driven by the event loop as asyncio drives a task."""

    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_chain",
        "_deliver",
        "_handler",
        "_interrupt",
        "_loop",
        "_waits_for",
        "has_timed_out",
        "is_done",
        "request",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._chain: Coroutine[Any, None, Reply]
        self._handler: Handler  # the first one of the chain
        self._deliver: Callable[[ChainTask, Reply], None]
        self._waits_for: asyncio.Future[Any] | None = None
        self._cancelled = 0
        self._interrupt: BaseException | None = None
        self.is_done = False
        self.has_timed_out = False
        self.request: Request

    def step(self, interrupt: BaseException | None = None) -> Reply | None:
        """Run the chain until it awaits something (returns None) or has a reply.

        Every exception in the chain becomes SERVFAIL, including those that would end the process,
        such as SystemExit.
        """
        loop, chain = self._loop, self._chain
        if self._interrupt is not None:
            interrupt, self._interrupt = self._interrupt, None
        _enter(loop, self)  # type: ignore[arg-type]  # has the methods of a task that asyncio uses
        try:
            waits_for = chain.send(None) if interrupt is None else chain.throw(interrupt)
        except StopIteration as stop:
            return validated(self.request, stop.value, self._handler)
        except asyncio.CancelledError as error:
            if self._cancelled:  # the client disconnected, or the time limit is exceeded
                return substitute(self.request)
            return report_failure(self.request, error, self._handler)
        except BaseException as error:
            return report_failure(self.request, error, self._handler)
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

    def arrive(self, pending: Pending) -> None:
        """Deliver the result of a `Pending`, the reply of a chain without coroutines."""
        if self.is_done:  # expired meanwhile
            return
        try:
            reply = validated(self.request, pending.result(), self._handler)
        except asyncio.CancelledError as error:
            if self._cancelled:
                reply = substitute(self.request)
            else:
                reply = report_failure(self.request, error, self._handler)
        except BaseException as error:
            reply = report_failure(self.request, error, self._handler)
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
        """Cancel a chain that exceeded its time limit, and return the plugin whose code waits.

        If the chain is still running at the next call, it is abandoned and the client gets
        SERVFAIL.
        """
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

    @property
    def outcome(self) -> str:
        """What the client gets if the query fails now, for the log."""
        return "answered SERVFAIL"

    def cancelling(self) -> int:
        """Return the number of cancellations requested and not withdrawn."""
        return self._cancelled

    def uncancel(self) -> int:
        """Withdraw one cancellation; return the number left."""
        self._cancelled = max(0, self._cancelled - 1)
        return self._cancelled


def validated(request: Request, reply: Any, handler: Handler) -> Reply:
    """Return the reply of a chain's first handler if it is valid, else SERVFAIL."""
    problem = reply_problem(request, reply)
    if problem is None:
        return reply  # type: ignore[no-any-return]  # it is a Reply
    return report_failure(request, InvalidReplyError(problem, handler))


async def _awaiting(answer: Any) -> Reply:
    """Await an object that is not a coroutine, such as a task."""
    reply: Reply = await answer
    return reply


class ChainRunner:
    """Starts the queries of one listener and keeps track of the pending ones."""

    __slots__ = ("_deliver", "_loop", "_spare", "waiting")

    def __init__(self, deliver: Callable[[ChainTask, Reply], None]) -> None:
        """`deliver` gets the query and the reply of each chain that did not reply at once."""
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._spare = ChainTask(self._loop)
        self.waiting: set[ChainTask] = set()

    def start(self, chain: Handler, request: Request) -> Reply | None:
        """Return the reply of `chain` if it has one at once; None if it will be delivered later."""
        try:
            answer = chain.begin_dns(request)
        except BaseException as error:
            return report_failure(request, error, chain)
        if type(answer) is Reply:
            if (  # `reply_problem` would find nothing, at a higher cost
                answer.validated is answer.wire
                and answer.validated_for is request.asked
                and answer.options is NO_OPTIONS
                and answer.deadline is None
                and answer.since == NOT_SET
                and answer.hit_counters is NO_COUNTERS
                and answer.extended_rcode == 0
            ):
                return answer
            return validated(request, answer, chain)
        query = self._spare
        if query._cancelled:
            query = self._spare = ChainTask(self._loop)
        query._deliver = self._done
        query.request = request
        query._handler = chain
        query._chain = answer  # type: ignore[assignment]  # or a Pending, which has no steps
        if type(answer) is Pending:
            if answer.handler is None:
                answer.handler = chain
            query._waits_for = answer  # type: ignore[assignment]  # has what is used of a future
            answer.deliver(query.arrive)
            reply = None
        else:
            if type(answer) is not CoroutineType:
                query._chain = _awaiting(answer)
            reply = query.step()
        if reply is None:
            self.waiting.add(query)
            self._spare = ChainTask(self._loop)
        return reply

    def deliver(self, request: Request, reply: Reply) -> None:
        """Deliver a reply that a chain had at once, as one that arrives later."""
        query = ChainTask(self._loop)
        query.request = request
        self._deliver(query, reply)

    def add(self, query: ChainTask) -> None:
        """Run a task of another kind in the next turn of the loop; it is pending until `remove`."""
        self.waiting.add(query)
        self._loop.call_soon(query._resume, None)

    def remove(self, query: ChainTask) -> None:
        """Finish a task that was added."""
        query.is_done = True
        self.waiting.discard(query)

    def _done(self, query: ChainTask, reply: Reply) -> None:
        query.is_done = True
        self.waiting.discard(query)
        self._deliver(query, reply)

    def cancel(self) -> None:
        """Cancel all pending queries; each client gets SERVFAIL."""
        for query in list(self.waiting):
            query.cancel()
