"""Gives the distribution the entry points and extras that the folders of `plugins/` declare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

sys.path.insert(0, str(Path(__file__).parent))
try:
    import plugin_folders
finally:
    sys.path.pop(0)


class PluginMetadata(MetadataHookInterface):
    """Fills in the dynamic fields; tables of the hook have corepy's own commands and scripts."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the entry points and the extras."""
        found = plugin_folders.plugins(Path(self.root))
        commands = _merged("commands", self.config["commands"], found)
        metadata["scripts"] = _merged("scripts", self.config["scripts"], found)
        metadata["entry-points"] = {
            # In-tree plugins register as those of third parties do.
            "corepy.plugins": {plugin.name: plugin.package for plugin in found},
            "corepy.commands": commands,
        }
        metadata["optional-dependencies"] = plugin_folders.extras(found)


def _merged(table: str, own: dict[str, str], found: list[plugin_folders.Plugin]) -> dict[str, str]:
    """Return corepy's own commands or scripts, and those of the plugins."""
    merged = dict(own)
    for plugin in found:
        for name, target in getattr(plugin, table):
            if name in merged:
                word = table.removesuffix("s")
                raise plugin_folders.FolderError(
                    f"{plugin.folder}/plugin.toml: the {word} {name!r} exists already"
                )
            merged[name] = target
    return merged
