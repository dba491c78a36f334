"""Lists the open descriptors of this process."""

from __future__ import annotations

import os
from contextlib import suppress

_FOLDER = "/proc/self/fd"


def open_files() -> set[tuple[str, str]]:
    """Return the number of each open descriptor, and what it refers to.

    Compare sets, not their sizes: the garbage collector may close sockets of an earlier test at any
    time.
    """
    found = set()
    for number in os.listdir(_FOLDER):
        with suppress(FileNotFoundError):  # that of the listing itself, or closed meanwhile
            found.add((number, os.readlink(f"{_FOLDER}/{number}")))
    return found
