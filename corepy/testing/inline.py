"""Plugins that are defined in a test and used without installation."""

from __future__ import annotations

import importlib.metadata
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from corepy.loading.registry import GROUP, FoundPlugin
from corepy.plugin import API_VERSION
from corepy.testing.installed import installed

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.plugin import Controller, Handler


class _InlineEntryPoint(importlib.metadata.EntryPoint):
    """An entry point whose object is in memory, not in a module."""

    def __init__(self, directive: str, plugin: object) -> None:
        super().__init__(directive, "inline", GROUP)
        vars(self)["plugin"] = plugin

    def load(self) -> Any:
        """Return the plugin object."""
        return vars(self)["plugin"]


def inline(directive: str, setup: Callable[[Controller], object], **attributes: Any) -> FoundPlugin:
    """Return a plugin with this `setup`; `attributes` may be api_version, before and after."""
    plugin = SimpleNamespace(**{"api_version": API_VERSION, "setup": setup, **attributes})
    return FoundPlugin(directive, f"corepy-{directive}", "0", _InlineEntryPoint(directive, plugin))


def with_handlers(**handlers: Callable[[], Handler]) -> dict[str, FoundPlugin]:
    """Return the installed plugins and, for each keyword, a plugin that adds a handler.

    The keyword is the directive, its value the function that creates the handler.
    """

    def adder(make: Callable[[], Handler]) -> Callable[[Controller], None]:
        def setup(controller: Controller) -> None:
            for _ in controller.single():
                controller.add_handler(make())

        return setup

    extra = {name: inline(name, adder(make)) for name, make in handlers.items()}
    return {**installed(), **extra}
