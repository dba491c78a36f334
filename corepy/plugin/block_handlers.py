"""`BlockHandlers`: the handlers of a server block, by directive and by what they can do.

A plugin never imports another one. Its setup keeps `controller.block_handlers`, and a hook looks
there for the handler that it works with:

    def setup(controller):
        controller.add_handler(Transfer(controller.block_handlers))

    @hookimpl
    def before_listen(self, context):
        self.sources = self.block_handlers.of_kind(TransferSource)

`corepy.plugin.protocols` has the protocols that are common to several plugins. Each generation has
objects of its own, and each process of a server builds the same ones. The handlers are those that
the plugins added, without the guards of the server. In `corepy explain`, a copied handler works
with the handlers that answer all other queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from corepy.plugin.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from corepy.plugin.handler import Handler

Kind = TypeVar("Kind")


class BlockHandlers:
    """The handlers of one server block in chain order (core/dnsserver/config.go: Handlers).

    They are known when all directives of the block are set up, so before any hook is called. Using
    them earlier raises RuntimeError.
    """

    __slots__ = ("_added", "_place")

    def __init__(self) -> None:
        self._added: tuple[tuple[str, Handler], ...] | None = None
        self._place = ""

    def complete(self, added: Iterable[tuple[str, Handler]], place: str = "") -> None:
        """Set the handlers, each with its directive; the server calls it once per block.

        `place` is the position of the block in errors, such as "Corefile:3".
        """
        self._added, self._place = tuple(added), place

    def __iter__(self) -> Iterator[Handler]:
        """Yield the handlers in chain order, observing handlers included."""
        return iter([handler for _, handler in self._known()])

    def get(self, directive: str) -> Handler | None:
        """Return the handler that `directive` added; the last one of several, None without any."""
        return dict(self._known()).get(directive)

    def of_kind(self, kind: Callable[..., Kind]) -> list[Kind]:
        """Return the handlers that are instances of a class or protocol, in chain order.

        Unlike in CoreDNS, they include all handlers of a directive that added several.
        """
        return [cast("Kind", it) for it in self if isinstance(it, cast("type", kind))]

    def require(self, directive: str, kind: Callable[..., Kind]) -> Kind:
        """Return the handler that `directive` added, which must be an instance of `kind`.

        Raises `StartupError` if the block has no such handler.
        """
        handler = self.get(directive)
        if isinstance(handler, cast("type", kind)):
            return cast("Kind", handler)
        where = f"the server block at {self._place}" if self._place else "the server block"
        if handler is not None:
            name = getattr(kind, "__name__", repr(kind))
            able = ", ".join(self._directives(kind)) or "none of its plugins"
            raise StartupError(f"{directive} in {where} does not implement {name}; {able} does")
        if not self._added:
            raise StartupError(f"{where} has no plugin with a handler; add {directive} to it")
        there = ", ".join(self._directives(object))
        hint = f"add {directive} to the block, or name one of those"
        raise StartupError(f"{where} has no handler of {directive}, only {there}; {hint}")

    def _directives(self, kind: Callable[..., object]) -> list[str]:
        found = [it for it, handler in self._known() if isinstance(handler, cast("type", kind))]
        return list(dict.fromkeys(found))

    def _known(self) -> tuple[tuple[str, Handler], ...]:
        if self._added is None:
            problem = "the handlers of a block are known only when all directives are set up"
            raise RuntimeError(f"{problem}: look for them in the hook before_listen")
        return self._added
