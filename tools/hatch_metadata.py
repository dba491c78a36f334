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
    """Fills in the dynamic fields; the table `commands` of the hook has corepy's own commands."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the entry points and the extras."""
        found = plugin_folders.plugins(Path(self.root))
        commands = dict(self.config["commands"])
        for plugin in found:
            for name, target in plugin.commands:
                if name in commands:
                    raise plugin_folders.FolderError(
                        f"{plugin.folder}/plugin.toml: the command {name!r} exists already"
                    )
                commands[name] = target
        metadata["entry-points"] = {
            # In-tree plugins register as those of third parties do.
            "corepy.plugins": {plugin.name: plugin.package for plugin in found},
            "corepy.commands": commands,
        }
        metadata["optional-dependencies"] = plugin_folders.extras(found)
