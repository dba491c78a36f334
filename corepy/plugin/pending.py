"""`Pending`: a reply that arrives in a callback, for chains without coroutines.

A handler that gets its result in a callback, such as from an upstream, returns a `Pending` from
`Handler.begin_dns`. The handlers above append their work on the reply to `steps`, as `apply_step`
does, and the server finally sets the callback that sends the reply. Coroutines, and an asyncio
future per query, would take a twentieth of the time of a forwarded query.

    pending = Pending(self._wakeups, self._conclude)  # one `Wakeups` for each event loop
    self._waiting.append(pending)  # whose callback calls `pending.wake()`
    return pending

All pending replies woken in one turn of the event loop resume in the next turn, by one call of
`call_soon`. Between `Wakeups.hold` and `release`, they resume at `release` instead, at the end of
the callback that woke them. A handler that is a coroutine can await a `Pending`: to its runner,
also an asyncio task, it is a future.
"""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, final

from corepy.dns import Reply
from corepy.plugin.pending_coroutines import lost_by, step_later, until_done

if TYPE_CHECKING:
    import asyncio  # at run time only where it is needed: `corepy -plugins` does without
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context

    from corepy.dns import Request

    Step = Callable[[Reply | None], Reply | None]
    RequestStep = Callable[[Request, Reply | None], Reply | None]


class NamedHandler(Protocol):
    """The handler that returned a `Pending`; see `handler.Handler`, which imports this module."""

    @property
    def name(self) -> str:
        """The name of its plugin."""


class Wakeups:
    """The replies of one event loop that were woken and have not resumed yet."""

    __slots__ = ("_is_held", "_woken", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._is_held = False
        self._woken: list[Pending] = []

    def add(self, pending: Pending) -> None:
        """Resume `pending` soon."""
        if not self._woken and not self._is_held:
            self.loop.call_soon(self._run)
        self._woken.append(pending)

    def hold(self) -> None:
        """Begin an event loop callback, outside any task, that will end with `release`."""
        self._is_held = not self._woken

    def release(self) -> None:
        """Resume all replies that were woken since `hold`."""
        if self._is_held:
            self._is_held = False
            if self._woken:
                self._run()

    def _run(self) -> None:
        woken, self._woken = self._woken, []
        for pending in woken:
            try:
                pending.go_on()
            except BaseException as error:
                context = {"message": "a pending query could not be resumed", "exception": error}
                self.loop.call_exception_handler(context)


@final
class Pending:
    """An awaitable reply that arrives in a callback.

    `steps` are called in order, each with the result of the previous one, the first with None. All
    steps are called in any case. After an exception, or if the reply was cancelled, they get None
    and must return None; `error` is that exception. `handler` is the handler that returned it
    first; the server sets it.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_context",
        "_done",
        "_reply",
        "_wakeups",
        "error",
        "handler",
        "steps",
    )

    def __init__(self, wakeups: Wakeups, first: Step) -> None:
        self._wakeups = wakeups
        self.steps = [first]
        self.handler: NamedHandler | None = None
        self._asyncio_future_blocking = self._done = False
        self._reply: Any = None  # a step may return anything
        self.error: BaseException | None = None
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None

    def __await__(self) -> Generator[Pending, None, Reply]:
        """Wait for the reply."""
        return until_done(self)

    def wake(self) -> None:
        """Schedule the steps; a second call has no effect."""
        if not self._done:
            self._done = True
            self._wakeups.add(self)

    def deliver(self, callback: Callable[[Pending], object]) -> None:
        """Set the `callback` to call when `result` is available; there is only one."""
        self._callback = callback

    def go_on(self) -> None:
        """Run the remaining steps, then the callback."""
        steps, self.steps = self.steps, []
        reply = self._reply
        for step in steps:
            try:
                reply = step(reply)
            except BaseException as error:
                reply = None
                if self.error is None:
                    self.error = error
        self._reply = reply
        callback, self._callback = self._callback, None
        if callback is not None:
            if self._context is None:
                callback(self)
            else:
                self._context.run(callback, self)

    # The rest of the interface of a future.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop."""
        return self._wakeups.loop

    def done(self) -> bool:
        """Return whether it was woken or cancelled."""
        return self._done

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        import asyncio

        return isinstance(self.error, asyncio.CancelledError)

    def result(self) -> Any:
        """Return the reply, or raise the exception of a step, or CancelledError.

        It is what the last step has returned, which the server validates.
        """
        if self.error is not None:
            raise self.error
        return self._reply

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the reply; return False if it was already woken or cancelled."""
        if self._done:
            return False
        import asyncio

        self.error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self.wake()
        return True

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        """Set the callback, as `deliver`, with a context."""
        self._callback = callback
        self._context = copy_context() if context is None else context
        if self._done:
            self._wakeups.add(self)

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        """Remove `callback`; return how often it was set."""
        if self._callback != callback:
            return 0
        self._callback = None
        return 1


if TYPE_CHECKING:
    Answer = Reply | Pending | Coroutine[Any, Any, Reply]


def apply_step(answer: Answer, step: RequestStep, request: Request) -> Answer:
    """Apply `step` to the answer of the next handler's `begin_dns`, now or when its reply arrives.

    The result is the answer that a handler returns from its own `begin_dns`. `step(request, reply)`
    returns `reply` or the one to use in its place. If a reply arrives later, it may fail or be
    cancelled: then the step is called with None and must return None, and the exception is passed
    on. The step is not called for a coroutine that is closed, such as that of an abandoned query.
    Raises what the step raises if the reply is there already, and TypeError if the step loses it.
    """
    if type(answer) is Reply:
        reply = step(request, answer)
        if reply is None:
            raise lost_by(step)
        return reply
    if type(answer) is Pending:
        answer.steps.append(partial(step, request))
        return answer
    return step_later(answer, step, request)


def without_deadline(_: Request, reply: Reply | None) -> Reply | None:
    """Keep the packet cache from repeating a reply, as a step for `apply_step`."""
    if reply is not None:
        reply.deadline = None
    return reply
