"""Report the readiness of this server's processes to *ready*."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import LifecycleContext, hookimpl

if TYPE_CHECKING:
    from corepy.plugin import Crew


class Processes:
    """Implements the hook `ready` for all processes of the server."""

    def __init__(self) -> None:
        self._crew: Crew | None = None

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Store the crew."""
        self._crew = context.crew

    @hookimpl
    def ready(self) -> bool:
        """Return whether all processes exist and the plugins of each are ready."""
        return self._crew is not None and self._crew.is_ready
