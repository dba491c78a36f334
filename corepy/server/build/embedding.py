"""Sets up a directive as a part of another one (`Controller.embed`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.corefile import CorefileError, Diagnostic, Directive, ServerBlock, parse
from corepy.loading.registry import load
from corepy.plugin import Controller, Debug, PluginError
from corepy.server.build.handler_chain import link
from corepy.server.build.validate import SetupError, reject_coroutine, validate_handlers
from corepy.server.contain.attribution import doing
from corepy.server.contain.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corepy.loading.registry import FoundPlugin
    from corepy.plugin import Handler, Token


class Embedder:
    """Sets up directives for `Controller.embed`."""

    def __init__(self, found: Mapping[str, FoundPlugin]) -> None:
        """Take the installed plugins."""
        self._found = found

    def knows(self, directive: str) -> bool:
        """Return whether a plugin with this name is installed."""
        return directive in self._found

    def embed(self, outer: Controller, block: ServerBlock, text: str, token: Token) -> Handler:
        """Set up the directive that `text` begins with; return its handler, with a guard.

        Its hooks, files, labels and warnings become those of `outer`; errors are reported
        at `token`. Raises `CorefileError`, and `SetupError` unless there is one handler.
        """
        (statement,) = parse(f". {{\n{text}\n}}\n").blocks[0].statements
        directive = statement.name
        others = [it for it in block.statements if it.name != directive]
        within = ServerBlock(block.keys, [*others, statement], block.opening)
        inner = Controller(directive, within, outer.config, checking=outer.checking, embedder=self)
        self._set_up(inner, statement, token)
        if len(inner.handlers) != 1:
            raise SetupError(f"{directive} has {len(inner.handlers)} handlers to embed, not one")
        _pass_on(inner, outer, token)
        (handler,) = inner.handlers
        handler.debug = outer.config.get(Debug).tracebacks
        link(inner.handlers)
        return Guard(handler)

    def _set_up(self, inner: Controller, statement: Directive, token: Token) -> None:
        directive = statement.name
        if directive not in self._found:
            message = f"it needs the plugin {directive}, which is not installed"
            raise CorefileError(Diagnostic(message, token))
        try:
            with doing(directive):
                setup: Callable[[Controller], object] = load(self._found[directive]).setup
                reject_coroutine(setup(inner))
                validate_handlers(inner)
        except CorefileError as error:
            moved = [it._replace(token=token, related=()) for it in error.diagnostics]
            raise CorefileError(*moved) from error
        except PluginError as error:
            raise CorefileError(Diagnostic(str(error), token)) from error


def _pass_on(inner: Controller, outer: Controller, token: Token) -> None:
    outer.hooks += [*inner.handlers, *inner.hooks]
    outer.files += inner.files
    outer.file_versions.update(inner.file_versions)
    outer.warnings += [it._replace(token=token, related=()) for it in inner.warnings]
    outer.echoed_options |= inner.echoed_options
    outer.labels_read += inner.labels_read
    outer.labels_provided.update(inner.labels_provided)
