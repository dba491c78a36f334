"""Writes the output of a command."""

from __future__ import annotations

import sys


def write_output(text: str) -> None:
    """Write `text` to standard output at once, so that it comes before later diagnostics."""
    sys.stdout.write(text)
    sys.stdout.flush()
