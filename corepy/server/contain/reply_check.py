"""The checks of a `Guard` on the replies and exceptions of the handler below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from corepy.dns.reply_validation import reply_problem
from corepy.plugin.errors import describe
from corepy.server.contain.attribution import of_error
from corepy.server.contain.failure_report import PASSED_ON, EscapeError, InvalidReplyError

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.plugin import Handler, Pending


@final
class ReplyCheck:
    """Checks what one handler returns and raises."""

    __slots__ = ("_handler", "_name")

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._name = handler.name

    def validated(self, request: Request, reply: Any) -> Reply:
        """Return a valid reply, marked with the handler's name; raises `InvalidReplyError`."""
        problem = reply_problem(request, reply)
        if problem is not None:
            raise InvalidReplyError(problem, self._handler)
        valid: Reply = reply
        if valid.answered_by is None:
            valid.answered_by = self._name
        return valid

    def arrived(self, request: Request, pending: Pending, reply: Any) -> Reply | None:
        """Validate a pending reply, as a step of it; None after an exception."""
        error = pending.error
        if reply is None and error is not None:
            if not isinstance(error, PASSED_ON):
                pending.error = self.escape(error)
                pending.error.__cause__ = error
            return None
        return self.validated(request, reply)

    def escape(self, error: BaseException) -> EscapeError:
        """Return the exception that stands for one which would end the process."""
        handler = of_error(error).handler or self._handler  # a pending reply is of one below
        return EscapeError(f"raised {describe(error)}", handler)
