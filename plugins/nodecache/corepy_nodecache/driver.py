"""Detects whether the kernel has the dummy driver, without creating an interface."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from pathlib import Path
from typing import Final

NO_DUMMY: Final = (
    "this kernel has no dummy driver: load the module (modprobe dummy), or make an interface"
    " {device} of another type, or write `device off` and add the addresses yourself"
)
_IS_CONFIGURED: Final = re.compile(rb"^CONFIG_DUMMY=[ym]$", re.MULTILINE)


def lacks_dummy(root: Path = Path("/")) -> bool:
    """Return whether the kernel certainly lacks the dummy driver; False if that is unknown.

    The sources are the configuration of the kernel and the lists of its modules, because some
    distributions ship the module in a separate package. A container often sees neither.
    """
    release = os.uname().release
    config = _configuration(root, release)
    if config is not None and not _IS_CONFIGURED.search(config):
        return True
    folder = root / "lib/modules" / release
    try:
        known = [(folder / name).read_bytes() for name in ("modules.dep", "modules.builtin")]
    except OSError:
        return False
    return not any(b"/dummy.ko" in names for names in known)


def _configuration(root: Path, release: str) -> bytes | None:
    try:
        return gzip.decompress((root / "proc/config.gz").read_bytes())
    except (OSError, EOFError, zlib.error):
        pass
    try:
        return (root / "boot" / f"config-{release}").read_bytes()
    except OSError:
        return None
