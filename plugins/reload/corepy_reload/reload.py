"""One *reload* directive in the life of a generation; the work is the watcher's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import hookimpl
from corepy_reload.configuration import Configuration
from corepy_reload.watcher import watcher

if TYPE_CHECKING:
    from corepy.plugin import LifecycleContext


class Reload:
    """See the module."""

    def __init__(self, period: float, name: str, text: str) -> None:
        """Look every `period` seconds; `name` and `text` are the Corefile's, as it was parsed."""
        self.period = period
        self._name = name
        self._text = text

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Note what is about to be started, before anything that takes long."""
        await watcher().prepare(self, context, Configuration(self._name, self._text, context.files))

    @hookimpl
    async def serving(self, context: LifecycleContext) -> None:
        """From now on this is what runs."""
        await watcher().serve(self, context)

    @hookimpl
    def stopping(self, context: LifecycleContext) -> None:
        """Reload no more when the process ends."""
        if context.final:
            watcher().rest()

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Go, after a successor has come or because the start failed."""
        watcher().leave(self, context)
