"""Reads environment variables that set a number of seconds."""

from __future__ import annotations

import math
import os


def seconds_of(name: str, default: float) -> float:
    """Return the value of the variable `name`, at least 0.

    A value that is not a finite number gives the default: a typing error must not stop the server.
    """
    try:
        value = float(os.environ.get(name, default))
    except ValueError:
        return default
    return max(0.0, value) if math.isfinite(value) else default
