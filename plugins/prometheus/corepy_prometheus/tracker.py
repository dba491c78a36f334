"""Which plugin answered: the label `plugin` of `coredns_dns_responses_total`.

A reply comes from the last handler on its way down. So a mark is put above each handler below this
one that may answer, and the last mark that a query passed names who did. It stands in the query's
metadata, which follows the query when a plugin changes it. The first of those handlers needs no
mark: each query comes there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.plugin import EndOfChain, Handler, Onlooker, Purity

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from corepy.dns import Reply, Request
    from corepy.plugin.handler import Answer

ANSWERED_BY: Final = ".prometheus/plugin"
"""Begins with a dot: look-ups that a plugin makes for this query are answered by others."""


class Mark(Handler):
    """Notes that a query reached the handler below."""

    name: ClassVar[str] = "prometheus"
    purity = Purity.PURE
    hidden: ClassVar[bool] = True

    def __init__(self, below: Handler) -> None:
        self.next = below
        self._plugin = "" if isinstance(below, EndOfChain) else below.name
        self._serve = below.serve_dns
        self._begin = below.begin_dns

    def serve_dns(self, request: Request) -> Coroutine[Any, Any, Reply]:
        """Return the coroutine of the handler below, with no other around it."""
        request.metadata[ANSWERED_BY] = self._plugin
        return self._serve(request)

    def begin_dns(self, request: Request) -> Answer:
        """As `serve_dns`."""
        request.metadata[ANSWERED_BY] = self._plugin
        return self._begin(request)

    def twin(self, below: Handler) -> Handler:
        """Return a mark above `below`."""
        return Mark(below)


def handlers_below(top: Handler) -> Iterator[Handler]:
    """Yield the handlers of the chain below `top`, without marks and its end."""
    while not isinstance(top, EndOfChain):
        top = top.next
        if not isinstance(top, Mark | EndOfChain):
            yield top


def put_marks(top: Handler) -> None:
    """Put a mark above each handler below `top` that may answer but the first, and above the end of
    the chain.
    """
    first_is_met = False
    for handler in (top, *handlers_below(top)):
        below = handler.next
        if isinstance(below, Onlooker):
            continue
        if first_is_met or isinstance(below, EndOfChain):
            handler.next = Mark(below)
        first_is_met = True


def first_below(top: Handler) -> str:
    """Return the plugin that answers where no mark is met."""
    answering = (h.name for h in handlers_below(top) if not isinstance(h, Onlooker))
    return next(answering, "")


def keeper_below(top: Handler) -> str:
    """Return the plugin that the packet cache stands in for."""
    keepers = (h.name for h in handlers_below(top) if h.purity is Purity.KEEPER)
    return next(keepers, "")
