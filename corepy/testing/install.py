"""Creates a plugin that the real command finds, as if it were installed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def install(folder: Path, directive: str, source: str) -> dict[str, str]:
    """Write a plugin with the module text `source` to `folder`.

    Returns the environment variables with which a command finds it.
    """
    package = f"corepy_{directive}"
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(source)
    info = folder / f"{package}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: corepy-{directive}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[corepy.plugins]\n{directive} = {package}\n")
    others = os.environ.get("PYTHONPATH")  # an empty entry would be the working directory
    return {"PYTHONPATH": f"{folder}:{others}" if others else str(folder)}
