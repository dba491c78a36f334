"""`SerialWatch`: notifies secondary servers of new serials of zones that change all the time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.plugin.protocols import SecondaryNotifier


class SerialWatch:
    """Looks at the serials of zones at intervals, from now to `stop`.

    For a `TransferSource` whose zones change more often than secondary servers can transfer them.
    """

    def __init__(
        self,
        zones: Sequence[bytes],
        serial_of: Callable[[bytes], int],
        notifiers: Sequence[SecondaryNotifier],
        interval: float,
    ) -> None:
        """Notify of each zone at once, and then at most once in `interval` seconds."""
        self._zones = zones
        self._serial_of = serial_of
        self._notifiers = notifiers
        self._interval = interval
        self._serials: dict[bytes, int] = {}
        self._timer: asyncio.TimerHandle
        self._look()

    def stop(self) -> None:
        """Notify no more."""
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)
        for zone in self._zones:
            serial = self._serial_of(zone)
            if serial != self._serials.get(zone):
                self._serials[zone] = serial
                for notifier in self._notifiers:
                    notifier.notify_secondaries(zone)
