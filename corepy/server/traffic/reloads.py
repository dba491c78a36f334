"""`Reloads`: the outcome of the reloads of a process, for `corepy status`."""

from __future__ import annotations

import time
from dataclasses import dataclass

from corepy.corefile.redaction import without_secrets


@dataclass(slots=True)
class Reloads:
    """The reloads of a process."""

    count: int = 0
    failed: int = 0
    time: float = 0.0
    """UNIX time in seconds of the last one."""

    reason: str = ""
    error: str | None = None
    """The error of the last one without secrets, None if it has succeeded."""

    def record(self, reason: str, error: str | None) -> None:
        """Record a reload that has ended."""
        self.count += 1
        self.failed += error is not None
        self.time = time.time()  # time of day: for the reader
        self.reason = reason
        self.error = None if error is None else without_secrets(error)
