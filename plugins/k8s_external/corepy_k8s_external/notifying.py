"""`Notifying`: tells secondary servers about new serials."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.plugin.protocols import SecondaryNotifier

INTERVAL: Final = 5.0
"""Seconds between two looks at the serials, which change at most once a second."""


class Notifying:
    """Looks at the serials of zones in a task, from now to `stop`."""

    def __init__(
        self,
        zones: Sequence[bytes],
        serial_of: Callable[[bytes], int],
        notifiers: Sequence[SecondaryNotifier],
    ) -> None:
        self._zones = zones
        self._serial_of = serial_of
        self._notifiers = notifiers
        self._serials: dict[bytes, int] = {}
        self._task = asyncio.create_task(self._run(), name="notify secondaries of k8s_external")

    def stop(self) -> None:
        """Notify no more."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            for zone in self._zones:
                serial = self._serial_of(zone)
                if serial != self._serials.get(zone):
                    self._serials[zone] = serial
                    for notifier in self._notifiers:
                        notifier.notify_secondaries(zone)
            await asyncio.sleep(INTERVAL)
