"""Adds the packages of `plugins/`, the manual pages and the commit to the distributions.

`pip install` puts the pages into share/man. A wheel records the commit in its metadata, where
`corepy -version` reads it; an sdist records it for the wheels that are built from it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))
try:
    import build_commit
    import man_pages
    import plugin_folders
finally:
    sys.path.pop(0)


class DistributionFiles(BuildHookInterface[Any]):
    """Writes the files into build/ and adds them to the wheel or the sdist."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write and add the files before a distribution is built."""
        root = Path(self.root)
        commit = build_commit.commit(root)
        if self.target_name == "sdist":
            build_data["force_include"][_written(root, commit)] = build_commit.FILE
            return
        self._add_plugins(plugin_folders.plugins(root))
        for page, path in man_pages.write(root / "build" / "man"):
            build_data["shared_data"][str(path)] = f"share/man/man{page.section}/{page.file}"
        if commit:
            editable = "-editable" if version == "editable" else ""
            build_data["extra_metadata"][_written(root, commit + editable)] = "commit.txt"

    def _add_plugins(self, found: list[plugin_folders.Plugin]) -> None:
        """Extend the lists of the packages in a wheel and of the folders of an editable one.

        hatchling reads both lists only after the hooks.
        """
        wheel, build = self.build_config.target_config, self.build_config.build_config
        folders = {f"plugins/{plugin.name}": plugin.package for plugin in found}
        wheel["packages"] = [*wheel["packages"], *(f"{it}/{folders[it]}" for it in folders)]
        build["dev-mode-dirs"] = [*build["dev-mode-dirs"], *folders]


def _written(root: Path, text: str) -> str:
    file = root / "build" / "commit.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return str(file)
