"""Links the handlers of a server block into a chain, and finds where a query enters it.

Each handler calls the next one through a `Guard`, and below a `CallObserver` also through an
`ObservedCall`. The builder does this once for each block; no query runs this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from corepy.plugin import (
    Cacheability,
    CallObserver,
    EndOfChain,
    Handler,
    ObservingHandler,
    handlers_below,
)
from corepy.server.contain.guard import Guard, has_fast_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def link(handlers: list[Handler]) -> Handler | None:
    """Chain `handlers` in this order; return the first one, None without any."""
    if not handlers:
        return None
    observers = [it for it in handlers if isinstance(it, CallObserver)]
    below: Handler = EndOfChain(handlers[-1].name)
    for handler in reversed(handlers):
        handler.next = below
        below = Guard(handler)
        if observers:
            if observers[-1] is handler:
                observers.pop()
            below = _observed(below, observers)
    return handlers[0]


def _observed(below: Handler, observers: Sequence[CallObserver]) -> Handler:
    """Return a link to `below` that notifies the observers of its calls, the highest first."""
    from corepy.server.contain.observed_call import ObservedCall

    for observer in reversed(observers):
        below = ObservedCall(observer, below)
    return below


def observing_first(handlers: Sequence[Handler]) -> list[Handler]:
    """Return the handlers with observing ones moved above the `CallObserver`s right above them.

    Both change neither queries nor replies, so their order has no effect on these. At the top of a
    chain, observing handlers are not part of it.
    """
    moved: list[Handler] = []
    for handler in handlers:
        place = len(moved)
        if _only_observes(handler):
            while place and isinstance(moved[place - 1], CallObserver):
                place -= 1
        moved.insert(place, handler)
    return moved


def with_common(handlers: list[Handler], makers: Iterable[Callable[[], Handler]]) -> list[Handler]:
    """Return the handlers with those of `Controller.add_to_every_chain` below observing ones."""
    place = next((at for at, it in enumerate(handlers) if not _only_observes(it)), len(handlers))
    return [*handlers[:place], *(make() for make in makers), *handlers[place:]]


def enter(top: Handler | None) -> tuple[Handler | None, tuple[ObservingHandler, ...]]:
    """Return the first handler that does more than observe, and those above it, lowest first."""
    if top is None:
        return None, ()
    observing_handlers: list[ObservingHandler] = []
    for handler in (top, *handlers_below(top)):
        if not _only_observes(handler):
            inherits = type(handler).begin_dns is not Handler.begin_dns
            # The server calls `begin_dns`, also if only `serve_dns` is the handler's own.
            is_replaced = inherits and not has_fast_path(handler)
            return Guard(handler) if is_replaced else handler, tuple(observing_handlers)
        observing_handlers.insert(0, handler)
    return observing_handlers[0].next, tuple(observing_handlers)


def _only_observes(handler: Handler) -> TypeGuard[ObservingHandler]:
    """Return whether calling `observe` alone has the effect of the handler."""
    kind, observing = type(handler), ObservingHandler
    return (
        isinstance(handler, ObservingHandler)
        and kind.serve_dns is observing.serve_dns
        and kind.begin_dns is observing.begin_dns
    )


def cache_above_denial(handlers: list[Handler]) -> tuple[Handler, Handler] | None:
    """Return a cache and a handler below it that denies clients; None if there is no such pair."""
    cache: Handler | None = None
    for handler in handlers:
        if cache is not None and handler.denies_clients:
            return cache, handler
        if handler.cacheability is Cacheability.SETS_DEADLINE:
            cache = handler
    return None
