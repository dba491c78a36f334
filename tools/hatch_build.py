"""Adds the manual pages to a wheel; `pip install` puts them into share/man."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TOOLS = Path(__file__).parent


class ManualPages(BuildHookInterface[Any]):
    """Writes the pages into build/man and adds them to the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write and add the pages before a wheel is built."""
        if self.target_name != "wheel":
            return
        sys.path.insert(0, str(TOOLS))
        try:
            import man_pages
        finally:
            sys.path.remove(str(TOOLS))
        for page, path in man_pages.write(Path(self.root) / "build" / "man"):
            build_data["shared_data"][str(path)] = f"share/man/man{page.section}/{page.file}"
