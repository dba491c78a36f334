"""Log many errors of one kind as one line after a period (`consolidate`).

The period begins with the first matching error. When it ends, the number of errors is logged, and
the next error begins a new period. Patterns are RE2's, which match in linear time for any pattern
and text, because names and messages in errors come from clients and upstreams.
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
    """One `consolidate` line of the Corefile, and its counter."""

    period: float
    """Seconds from the first error to the summary."""

    pattern: re2._Regexp
    level: int = logging.ERROR
    show_first: bool = False
    _count: int = 0
    _timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    def matches(self, error: str) -> bool:
        """Return whether `error` is of this kind."""
        return self.pattern.search(error) is not None

    def consolidate(self) -> bool:
        """Count an error; returns False if it must be logged individually, at this level."""
        self._count += 1
        if self._count > 1:
            return True
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(self.period, 0), self.summarise)
        return not self.show_first

    def summarise(self) -> None:
        """End the period and log the number of errors, unless the only one was logged already."""
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
