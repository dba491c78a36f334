"""Report the readiness of this server's processes to *ready*."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.plugin import LifecycleContext, hookimpl

if TYPE_CHECKING:
    from corepy.plugin import ProcessGroup


class Processes:
    """Implements the hook `ready` for all processes of the server."""

    def __init__(self) -> None:
        self._process_group: ProcessGroup | None = None

    @hookimpl
    def before_listen(self, context: LifecycleContext) -> None:
        """Store the process group."""
        self._process_group = context.process_group

    @hookimpl
    def ready(self) -> bool:
        """Return whether all processes exist and the plugins of each are ready."""
        return self._process_group is not None and self._process_group.is_ready
