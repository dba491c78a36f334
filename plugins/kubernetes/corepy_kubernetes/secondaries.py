"""Notifies secondary servers of new serials, as far apart as they can transfer a zone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.plugin.protocols import SecondaryNotifier
    from corepy_kubernetes.names import OwnZone

INTERVAL: Final = 60.0
"""Seconds between two looks at the serials: a cluster changes all the time, and a transfer has
all of its records.
"""


class SerialWatch:
    """Looks at the serials of zones from now to `stop`."""

    def __init__(
        self,
        zones: Sequence[OwnZone],
        serial_of: Callable[[OwnZone], int],
        notifiers: Sequence[SecondaryNotifier],
    ) -> None:
        self._zones = [zone for zone in zones if not zone.is_reverse]
        self._serial_of = serial_of
        self._notifiers = notifiers
        self._serials: dict[bytes, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def stop(self) -> None:
        """Notify no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        for zone in self._zones:
            serial = self._serial_of(zone)
            if serial != self._serials.get(zone.wire):
                self._serials[zone.wire] = serial
                for notifier in self._notifiers:
                    notifier.notify_secondaries(zone.wire)
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look)
