"""The folders of the Unix sockets through which processes on one host find each other."""

from __future__ import annotations

import os


def runtime_folders() -> list[str]:
    """Return the folders for Unix sockets, in the order in which they are tried."""
    # systemd sets a list if a unit has several folders.
    named = [os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0], "/run/corepy"]
    if user := os.environ.get("XDG_RUNTIME_DIR"):
        named.append(f"{user}/corepy")
    return [name for name in named if name]
