"""Wraps each third-party handler and validates its replies.

Without the wrapper, an invalid reply would fail in a handler further up, which would be reported
for it, or reach the client and the caches. SystemExit would end background work of handlers further
up, such as the refresh of a cache. In-tree plugins are not wrapped; the reply of the whole chain is
validated in any case.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING, ClassVar

from corepy.dns.reply_validation import reply_problem
from corepy.plugin import Cacheability, Handler
from corepy.plugin.errors import describe
from corepy.server.contain.failure_report import EscapeError, InvalidReplyError

if TYPE_CHECKING:
    from corepy.dns import Reply, Request


class Guard(Handler):
    """Wraps the handler below it, and has the same name."""

    name: str  # type: ignore[misc]  # differs by instance
    cacheability = Cacheability.SAFE
    hidden: ClassVar[bool] = True

    def __init__(self, guarded: Handler) -> None:
        self.name = guarded.name
        self.debug = guarded.debug
        self.next = guarded

    async def serve_dns(self, request: Request) -> Reply:
        """Return the reply of the wrapped handler, if it is valid for `request`.

        Raises `InvalidReplyError` if it is not valid, and `EscapeError` for SystemExit and similar
        exceptions.
        """
        try:
            reply = await self.next.serve_dns(request)
        except (Exception, CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            raise EscapeError(f"raised {describe(error)}") from error
        problem = reply_problem(request, reply)
        if problem is not None:
            raise InvalidReplyError(problem)
        return reply
