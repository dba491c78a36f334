"""Whether this kernel has the driver of the interface, found out without making one."""

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
    """Return whether the kernel surely has no dummy driver; False also where nothing tells.

    Its configuration tells, and the lists of its modules: some distributions have the module in a
    package of its own. A container often sees neither.
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
