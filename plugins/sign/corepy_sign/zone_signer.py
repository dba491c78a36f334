"""`ZoneSigner`: signs the zones of a server block in the background."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corepy.dns.names import to_text
from corepy.plugin import LifecycleContext, hookimpl
from corepy.plugin.failures import reported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy_sign.signed_file import SignedFile

INTERVAL: Final = 60.0
"""Seconds between two checks, each of which reads the beginning of the signed files."""


class ZoneSigner:
    """Signs files at the start, and again when necessary."""

    def __init__(self, files: Sequence[SignedFile]) -> None:
        self.files = files
        self._task: asyncio.Task[None] | None = None

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Start to sign."""
        self._task = asyncio.create_task(self._run(), name="sign zone files")

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop signing; a zone that is being signed is left to the next generation."""
        for file in self.files:
            file.is_stopped = True
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            for file in self.files:
                with reported("sign", f"zone {to_text(file.origin)} cannot be checked"):
                    await file.refresh()
            await asyncio.sleep(INTERVAL)

    @hookimpl
    def status(self) -> Mapping[str, object]:
        """Return the zones that cannot be signed."""
        failed = [f"{to_text(it.origin)}: {it.problem}" for it in self.files if it.problem]
        return {"state": "failing" if failed else "signs", "problems": failed}
