"""Where the sockets lie by which processes of one host find each other."""

from __future__ import annotations

import os


def runtime_folders() -> list[str]:
    """Return the folders that a socket may lie in, in the order in which they are tried."""
    # systemd gives a list where a unit has several.
    named = [os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0], "/run/corepy"]
    if user := os.environ.get("XDG_RUNTIME_DIR"):
        named.append(f"{user}/corepy")
    return [name for name in named if name]
