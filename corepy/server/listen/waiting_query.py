"""Queries whose chains did not reply at once."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING, Any, cast, final

from corepy.compiled_classes import mypyc_attr
from corepy.dns.reply_validation import reply_problem
from corepy.server.contain.attribution import Attribution, of_coroutine
from corepy.server.contain.failure_report import InvalidReplyError, report_failure, substitute

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Reply, Request
    from corepy.plugin import Handler, Pending


@mypyc_attr(allow_interpreted_subclasses=True)
class WaitingQuery:
    """A query that has no answer yet, as the listeners and the time limit see it."""

    __slots__ = ("_cancelled", "_deliver", "_handler", "has_timed_out", "is_done", "request")

    def __init__(self) -> None:
        self.request: Request
        self._handler: Handler  # the first one of the chain
        self._deliver: Callable[[WaitingQuery, Reply], None]
        self._cancelled = 0
        self.is_done = False
        self.has_timed_out = False

    def cancel(self, msg: Any = None) -> bool:
        """Raise CancelledError in the chain, where it waits now or at its next wait."""
        raise NotImplementedError

    def expire(self) -> Attribution:
        """Cancel a chain that exceeded its time limit, and return the plugin whose code waits.

        If the chain is still running at the next call, it is abandoned and the client gets
        SERVFAIL.
        """
        raise NotImplementedError

    @property
    def outcome(self) -> str:
        """What the client gets if the query fails now, for the log."""
        return "answered SERVFAIL"

    def _failed(self, error: BaseException, handler: Handler) -> Reply:
        """Return the reply to the client after an exception in the chain.

        Every exception becomes SERVFAIL, including those that would end the process, such as
        SystemExit. `handler` is at fault if the exception does not show which one is.
        """
        if self._cancelled and isinstance(error, CancelledError):
            return substitute(self.request)  # the client disconnected, or the time limit exceeded
        return report_failure(self.request, error, handler)


@final
class PendingQuery(WaitingQuery):
    """A query whose chain has no coroutines: it waits for a `Pending`."""

    __slots__ = ("_pending",)

    def __init__(
        self,
        request: Request,
        handler: Handler,
        pending: Pending,
        deliver: Callable[[WaitingQuery, Reply], None],
    ) -> None:
        """`deliver` gets this object and the reply."""
        self.request = request
        self._handler = handler
        self._deliver = deliver
        self._cancelled = 0
        self.is_done = self.has_timed_out = False
        self._pending = pending
        pending.deliver(self.arrive)

    def arrive(self, pending: Pending) -> None:
        """Deliver the result of the `Pending`."""
        if self.is_done:  # expired meanwhile
            return
        try:
            reply = validated(self.request, pending.result(), self._handler)
        except BaseException as error:
            reply = self._failed(error, cast("Handler", pending.handler) or self._handler)
        self._deliver(self, reply)

    def cancel(self, msg: Any = None) -> bool:
        """Raise CancelledError in the steps of the `Pending`."""
        self._cancelled += 1
        self._pending.cancel(msg)
        return True

    def expire(self) -> Attribution:
        """See `WaitingQuery.expire`."""
        found = of_coroutine(self._pending)
        if self.has_timed_out:
            self._deliver(self, substitute(self.request))
        else:
            self.has_timed_out = True
            self.cancel()
        return found


def validated(request: Request, reply: Any, handler: Handler) -> Reply:
    """Return the reply of a chain's first handler if it is valid, else SERVFAIL."""
    problem = reply_problem(request, reply)
    if problem is None:
        return reply  # type: ignore[no-any-return]  # it is a Reply
    return report_failure(request, InvalidReplyError(problem, handler))
