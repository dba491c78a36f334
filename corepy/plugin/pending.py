"""A reply that callbacks bring, for a chain without coroutines.

A handler that asks somebody else and hears of the outcome in a callback returns a `Pending` from
`Handler.begin_dns`. The handlers above add what they have to do with the reply as `steps`, the
server at last what delivers it. Nothing of that is a coroutine; those, and a future of asyncio's
for each query, took a twentieth of the time of a query that goes upstream.

    pending = Pending(self._wakeups, self._conclude)  # one `Wakeups` for each event loop
    self._waiting.append(pending)  # whose callback calls `pending.wake()`
    return pending

All that are woken in one turn of the event loop go on in the next, by one entry in its queue, or at
once when the callback is done that woke them, if it says so (`Wakeups.hold`, `release`). A
handler that is a coroutine awaits a `Pending` as any other answer: whatever runs it, a task of
asyncio's too, takes it for a future.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio  # at run time only where it is needed: `corepy -plugins` does without
    from collections.abc import Callable, Generator
    from contextvars import Context

    from corepy.dns import Reply

    Step = Callable[[Reply | None], Reply | None]


class Wakeups:
    """What was woken in one event loop and has not gone on yet."""

    __slots__ = ("_is_held", "_woken", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._is_held = False
        self._woken: list[Pending] = []

    def add(self, pending: Pending) -> None:
        """Let `pending` go on soon."""
        if not self._woken and not self._is_held:
            self.loop.call_soon(self._run)
        self._woken.append(pending)

    def hold(self) -> None:
        """Begin a callback of the event loop, no task's code, that ends with `release`."""
        self._is_held = not self._woken

    def release(self) -> None:
        """Let all go on that were woken since `hold`."""
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
                context = {"message": "a query could not go on", "exception": error}
                self.loop.call_exception_handler(context)


class Pending:
    """See the module.

    `steps` are called in their order, each with what the one before returned, the first with None.
    All are called, whatever happens: with None after one that raised, or when the reply is no
    longer wanted, and then return None.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_context",
        "_done",
        "_error",
        "_reply",
        "_wakeups",
        "steps",
    )

    def __init__(self, wakeups: Wakeups, first: Step) -> None:
        self._wakeups = wakeups
        self.steps = [first]
        self._asyncio_future_blocking = self._done = False
        self._reply: Reply | None = None
        self._error: BaseException | None = None
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None

    def __await__(self) -> Generator[Pending, None, Reply]:
        """Wait for the reply."""
        self._asyncio_future_blocking = True
        yield self
        return self.result()

    def wake(self) -> None:
        """Let the steps be taken; nothing happens the second time."""
        if not self._done:
            self._done = True
            self._wakeups.add(self)

    def deliver(self, callback: Callable[[Pending], object]) -> None:
        """Call `callback` when `result` tells the outcome; one may wait for it."""
        self._callback = callback

    def go_on(self) -> None:
        """Take the steps that are left and call back."""
        steps, self.steps = self.steps, []
        reply = self._reply
        for step in steps:
            try:
                reply = step(reply)
            except BaseException as error:
                reply, self._error = None, error
        self._reply = reply
        callback, self._callback = self._callback, None
        if callback is not None:
            if self._context is None:
                callback(self)
            else:
                self._context.run(callback, self)

    # What else is asked of a future.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop."""
        return self._wakeups.loop

    def done(self) -> bool:
        """Return whether it was woken or cancelled."""
        return self._done

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        import asyncio

        return isinstance(self._error, asyncio.CancelledError)

    def result(self) -> Reply:
        """Return the reply, or raise what a step raised, or CancelledError."""
        if self._error is not None:
            raise self._error
        assert self._reply is not None
        return self._reply

    def cancel(self, msg: Any = None) -> bool:
        """Give the reply up; return whether it was not too late for that."""
        if self._done:
            return False
        import asyncio

        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self.wake()
        return True

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        """As `deliver`, in a context of its own."""
        self._callback = callback
        self._context = copy_context() if context is None else context
        if self._done:
            self._wakeups.add(self)

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        """Forget `callback`; return how often it was there."""
        if self._callback != callback:
            return 0
        self._callback = None
        return 1
