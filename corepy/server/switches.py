"""Environment variables that set a number of seconds."""

from __future__ import annotations

import math
import os


def seconds_of(name: str, default: float) -> float:
    """Return the seconds that the variable `name` says, and not less than 0.

    The default if it is not set, or not a finite number: a typing error there costs nobody DNS.
    """
    try:
        value = float(os.environ.get(name, default))
    except ValueError:
        return default
    return max(0.0, value) if math.isfinite(value) else default
