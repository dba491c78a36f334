"""Writes the supervisor's output, without ever blocking or ending the supervisor."""

from __future__ import annotations

import sys
import time

from corepy.net.outlet import LineStream, Outlet

PATIENCE = 1.0
"""Seconds that the reader of standard output gets at the end."""

_STDOUT = 1


class Journal:
    """Writes log lines to standard output."""

    def __init__(self, *, json: bool) -> None:
        """With `json` each line is a JSON object."""
        self._json = json
        self._outlet = Outlet()

    def take_over_streams(self) -> None:
        """Redirect the interpreter's own output here, since it would block on a slow reader."""
        sys.stdout = sys.stderr = LineStream(self._put, _STDOUT)

    def log(self, level: str, message: str) -> None:
        """Log a line; `flush` writes the part that standard output cannot take now."""
        line = f"[{level}] supervisor: {message}"
        if self._json:
            import json

            # time of day: the time stamp of a log line
            fields = {"time": round(time.time(), 3), "level": level.lower()}
            line = json.dumps({**fields, "message": f"supervisor: {message}"})
        self._put(line)

    def _put(self, line: str) -> None:
        self._outlet.put([line])
        self.flush()

    def flush(self, patience: float = 0.0) -> None:
        """Write the remaining lines, waiting for the reader for at most `patience` seconds."""
        self._outlet.write(_STDOUT, patience)
