"""Many errors of one kind, told in one line after a while (`consolidate`).

The period begins with the first error that matches; when it is over, the number of errors is logged
and the next one begins a new period. Patterns are RE2's, which match in linear time whatever the
pattern and the text: names and messages in errors come from outside.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corepy.plugin import plugin_logger, show_duration

if TYPE_CHECKING:
    import re2

LOG = plugin_logger("errors")


@dataclass(slots=True)
class Consolidation:
    """One `consolidate` line of the Corefile, and what it has counted so far."""

    period: float
    """Seconds from the first error to the summary."""

    pattern: re2._Regexp
    level: int = logging.ERROR
    show_first: bool = False
    _count: int = 0
    _timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    def matches(self, error: str) -> bool:
        """Tell whether `error` is of this kind."""
        return self.pattern.search(error) is not None

    def swallow(self) -> bool:
        """Count an error; return False if it is to be logged by itself, at this level."""
        self._count += 1
        if self._count > 1:
            return True
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(self.period, 0), self.summarise)
        return not self.show_first

    def summarise(self) -> None:
        """End the period now and log what it counted, unless that was logged already."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        count, self._count = self._count, 0
        if count > 1 or (count and not self.show_first):
            LOG.log(
                self.level,
                "%d errors like '%s' occurred in last %s",
                count,
                self.pattern.pattern,
                show_duration(self.period),
            )
