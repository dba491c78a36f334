"""A worker, as the supervisor knows it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RELOAD_TIMEOUT = 60.0
"""Seconds that an upgrade waits for the end of a reload, should that never be told."""


class Worker:
    """A child process, or one that was adopted."""

    def __init__(self, pid: int, sockets: Iterable[str] = (), *, is_adopted: bool = False) -> None:
        self.pid = pid
        self.is_adopted = is_adopted
        """Whether it was started by another supervisor, which was killed."""
        self.sockets = set(sockets)
        """Names of those that it was started with, or has given to be kept."""
        self.started = time.monotonic()
        """When it was started, began to serve, or was told to go: what it does now."""
        self.ready = False
        self.stopping = False
        self.is_standby = False
        """Whether it was started because the current one seems to hang, which may recover."""
        self.was_hung = False
        """Whether it was replaced since it gave no sign of life."""
        self.halted = 0
        """Rounds for which it was seen stopped by a signal, while nobody asks it anything."""

        self._reloads = 0
        self._expected = False
        self._reloading_since = 0.0

    @property
    def is_reloading(self) -> bool:
        """Whether it changes what it serves, and with it its sockets, or is about to."""
        recent = time.monotonic() - self._reloading_since < RELOAD_TIMEOUT
        return recent and (self._reloads > 0 or self._expected)

    def expect_reload(self) -> None:
        """Take note that it was asked to reload."""
        self._expected, self._reloading_since = True, time.monotonic()

    def note(self, told: Mapping[str, str]) -> None:
        """Take note of what it tells of reloads; several may wait for each other."""
        if told.get("RELOADING") == "1":
            self._reloads += 1
            self._expected, self._reloading_since = False, time.monotonic()
        elif told.get("READY") == "1":
            self._reloads = max(self._reloads - 1, 0)
