"""The processes of this server, as one of the plugins that *ready* asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import LifecycleContext, hookimpl

if TYPE_CHECKING:
    from corepy.plugin import Crew


class Processes:
    """See the module."""

    def __init__(self) -> None:
        self._crew: Crew | None = None

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Get to know them."""
        self._crew = context.crew

    @hookimpl
    def ready(self) -> bool:
        """Return whether all are there and the plugins of each can do their work."""
        return self._crew is not None and self._crew.is_ready
