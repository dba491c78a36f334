"""Determine the plugin that answered, for the label `plugin` of `coredns_dns_responses_total`.

The last handler that a query reaches answers it. So a mark is inserted above each handler below
this one that may answer, and the last mark that a query passes names the plugin. The name is stored
in the query's metadata, which derived queries share. The first of those handlers needs no mark,
because every query reaches it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.plugin import Cacheability, EndOfChain, Handler, ObservingHandler

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from corepy.dns import Reply, Request
    from corepy.plugin.handler import Answer

ANSWERED_BY: Final = ".prometheus/plugin"
"""Starts with a dot, so that a lookup by a plugin for this query does not change it."""


class Mark(Handler):
    """Records that a query reached the handler below."""

    name: ClassVar[str] = "prometheus"
    cacheability = Cacheability.SAFE
    hidden: ClassVar[bool] = True

    def __init__(self, below: Handler) -> None:
        self.next = below
        self._plugin = "" if isinstance(below, EndOfChain) else below.name
        self._serve = below.serve_dns
        self._begin = below.begin_dns

    def serve_dns(self, request: Request) -> Coroutine[Any, Any, Reply]:
        """Return the coroutine of the handler below, without wrapping it."""
        request.metadata[ANSWERED_BY] = self._plugin
        return self._serve(request)

    def begin_dns(self, request: Request) -> Answer:
        """Like `serve_dns`, for the fast path."""
        request.metadata[ANSWERED_BY] = self._plugin
        return self._begin(request)

    def copy_for_trace(self, below: Handler) -> Handler:
        """Return a mark above `below`."""
        return Mark(below)


def handlers_below(top: Handler) -> Iterator[Handler]:
    """Yield the handlers of the chain below `top`, without marks and its end."""
    while not isinstance(top, EndOfChain):
        top = top.next
        if not isinstance(top, Mark | EndOfChain):
            yield top


def put_marks(top: Handler) -> None:
    """Insert marks below `top`: above each answering handler but the first, and above the end."""
    first_is_met = False
    for handler in (top, *handlers_below(top)):
        below = handler.next
        if isinstance(below, ObservingHandler):
            continue
        if first_is_met or isinstance(below, EndOfChain):
            handler.next = Mark(below)
        first_is_met = True


def first_below(top: Handler) -> str:
    """Return the plugin that answers a query without a mark."""
    answering = (h.name for h in handlers_below(top) if not isinstance(h, ObservingHandler))
    return next(answering, "")


def deadline_setter_below(top: Handler) -> str:
    """Return the plugin whose replies the packet cache repeats."""
    deadline_setters = (
        h.name for h in handlers_below(top) if h.cacheability is Cacheability.SETS_DEADLINE
    )
    return next(deadline_setters, "")
