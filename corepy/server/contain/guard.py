"""Validates the replies of each handler before the handler above gets them.

Without it, an invalid reply would fail in a handler further up, which would be reported for it, or
reach the client and the caches. SystemExit would end background work of handlers further up, such
as the refresh of a cache.

A guard is the `next` of the handler above. The first handler of a chain has no guard: whatever
calls it validates its reply (`corepy.server.listen.chain_runner`, `ZoneRoute`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from corepy.dns import Reply
from corepy.dns.reply import NOT_SET
from corepy.dns.reply_validation import NO_OPTIONS
from corepy.plugin import ChainLink, Handler, Pending
from corepy.server.contain.failure_report import PASSED_ON
from corepy.server.contain.reply_check import ReplyCheck

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from corepy.dns import Request
    from corepy.plugin.handler import Answer


class Guard(ChainLink):
    """Calls the handler below it, validates its replies, and marks them with its name."""

    name: str  # type: ignore[misc]  # differs by instance

    def __init__(self, guarded: Handler) -> None:
        self.name = guarded.name
        self.next = guarded
        self._is_fast = has_fast_path(guarded)
        self._begin = guarded.begin_dns if self._is_fast else guarded.serve_dns
        check = ReplyCheck(guarded)
        self._validated, self._arrived, self._escape = check.validated, check.arrived, check.escape

    @property
    def inputs(self) -> bytes | None:
        """The inputs of the handler."""
        return self.next.inputs

    def begin_dns(self, request: Request) -> Answer:
        """Return the handler's reply, validated now if it is there, else when it arrives.

        Raises `InvalidReplyError` for an invalid one, and `EscapeError` for SystemExit and similar
        exceptions; so does awaiting the result.
        """
        if not self._is_fast:
            return self.serve_dns(request)
        try:
            answer = self._begin(request)
        except PASSED_ON:
            raise
        except BaseException as error:
            raise self._escape(error) from error
        if type(answer) is Reply:
            if (  # `reply_problem` would find nothing, at a higher cost
                answer.validated is answer.wire
                and answer.validated_for is request.asked
                and answer.options is NO_OPTIONS
                and (answer.deadline is None or type(answer.deadline) is float)
                and (answer.since is NOT_SET or type(answer.since) is float)
                and type(answer.hit_counters) is tuple
                and answer.extended_rcode == 0
            ):
                if answer.answered_by is None:
                    answer.answered_by = self.name
                return answer
            return self._validated(request, answer)
        if type(answer) is Pending:
            if answer.handler is None:
                answer.handler = self.next
            answer.steps.append(partial(self._arrived, request, answer))
            return answer
        return self._late(request, answer)

    async def serve_dns(self, request: Request) -> Reply:
        """Return the handler's reply; see `begin_dns`."""
        try:
            answer = self._begin(request)
            if type(answer) is not Reply:
                if type(answer) is Pending and answer.handler is None:
                    answer.handler = self.next
                answer = await answer
        except PASSED_ON:
            raise
        except BaseException as error:
            raise self._escape(error) from error
        return self._validated(request, answer)

    async def _late(self, request: Request, answer: Coroutine[Any, Any, Reply]) -> Reply:
        try:
            reply = await answer
        except PASSED_ON:
            raise
        except BaseException as error:
            raise self._escape(error) from error
        return self._validated(request, reply)

    def copy_for_trace(self, below: Handler) -> Handler:
        """Return a guard of the copied handler."""
        return Guard(below)


def has_fast_path(handler: Handler) -> bool:
    """Return whether a handler's own `begin_dns` is to be called, instead of its `serve_dns`.

    A class that overrides only `serve_dns` replaces the `begin_dns` of its base classes, too.
    """
    for kind in type(handler).__mro__:
        if kind is Handler:
            break
        if "begin_dns" in vars(kind):
            return True
        if "serve_dns" in vars(kind):
            return False
    return "begin_dns" in vars(handler)
