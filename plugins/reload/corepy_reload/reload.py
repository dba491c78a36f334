"""The lifecycle hooks of one *reload* directive; they pass its generation to the watcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import hookimpl
from corepy_reload.configuration import Configuration
from corepy_reload.watcher import watcher

if TYPE_CHECKING:
    from corepy.plugin import LifecycleContext


class Reload:
    """One *reload* directive of one generation."""

    def __init__(self, period: float, name: str, text: str) -> None:
        """Check every `period` seconds; `name` and `text` are the Corefile's, as parsed."""
        self.period = period
        self._name = name
        self._text = text

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Hash the starting configuration, before any slow step."""
        await watcher().prepare(self, context, Configuration(self._name, self._text, context.files))

    @hookimpl
    async def serving(self, context: LifecycleContext) -> None:
        """Record that this generation is running."""
        await watcher().serve(self, context)

    @hookimpl
    def stopping(self, context: LifecycleContext) -> None:
        """Stop reloading if the process ends."""
        if context.final:
            watcher().stop_checking()

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Leave the watcher, after a reload or a failed start."""
        watcher().leave(self, context)
