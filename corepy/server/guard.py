"""What stands above each third-party handler: it looks at what comes out of it.

Without it, nonsense would fail in a handler further up, which would be named for it, or reach the
client and the caches; and SystemExit would end background work of handlers further up, such as the
refreshing of a cache. In-tree plugins have no guard; the top of a chain is looked at in any case.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING, ClassVar

from corepy.dns.soundness import flaw
from corepy.plugin import Handler, Purity
from corepy.plugin.errors import describe
from corepy.server.failure import EscapeError, NonsenseError

if TYPE_CHECKING:
    from corepy.dns import Reply, Request


class Guard(Handler):
    """Stands for the handler below it, whose name it has."""

    name: str  # type: ignore[misc]  # each has its own
    purity = Purity.PURE
    hidden: ClassVar[bool] = True

    def __init__(self, guarded: Handler) -> None:
        self.name = guarded.name
        self.debug = guarded.debug
        self.next = guarded

    async def serve_dns(self, request: Request) -> Reply:
        """Return the reply of the handler, if it is one to `request`.

        Raises `NonsenseError` if it is not, and `EscapeError` for SystemExit and its like.
        """
        try:
            reply = await self.next.serve_dns(request)
        except (Exception, CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            raise EscapeError(f"raised {describe(error)}") from error
        problem = flaw(request, reply)
        if problem is not None:
            raise NonsenseError(problem)
        return reply
