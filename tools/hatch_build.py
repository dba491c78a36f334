"""Adds the packages of `plugins/`, the manual pages and the commit to the distributions.

`pip install` puts the pages into share/man. A wheel records the commit in its metadata, where
`corepy -version` reads it; an sdist records it for the wheels that are built from it.

With COREPY_COMPILE=1 in the environment, a wheel also has the modules that
tools/compile_modules.py compiles, beside their sources. It then is for one version of Python and
one architecture.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))
try:
    import build_commit
    import compile_modules
    import man_pages
    import plugin_folders
finally:
    sys.path.pop(0)


class DistributionFiles(BuildHookInterface[Any]):
    """Writes the files into a folder of its own and adds them to the wheel or the sdist.

    Several builds of one tree may run at a time, so the folder is not in the tree.
    """

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return the packages that compiling needs in addition; none for a pure wheel."""
        wanted = self.target_name == "wheel" and compile_modules.is_wanted()
        return list(compile_modules.REQUIREMENTS) if wanted else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write and add the files before a distribution is built."""
        root = Path(self.root)
        # Removed with this object, also after a build that has failed.
        self._folder = tempfile.TemporaryDirectory(prefix="corepy-build-")
        commit = build_commit.commit(root)
        if self.target_name == "sdist":
            build_data["force_include"][self._written(commit)] = build_commit.FILE
            return
        self._add_plugins(plugin_folders.plugins(root))
        for page, path in man_pages.write(Path(self._folder.name) / "man"):
            build_data["shared_data"][str(path)] = f"share/man/man{page.section}/{page.file}"
        if commit:
            editable = "-editable" if version == "editable" else ""
            build_data["extra_metadata"][self._written(commit + editable)] = "commit.txt"
        if compile_modules.is_wanted() and version != "editable":
            self._add_compiled(root, build_data)

    def _add_compiled(self, root: Path, build_data: dict[str, Any]) -> None:
        """Compile, in a process of its own because mypyc changes setuptools, and add the results.

        Raises CalledProcessError if mypyc or the compiler fails.
        """
        out = Path(self._folder.name) / "compiled"
        program = (sys.executable, str(root / "tools" / "compile_modules.py"), str(out))
        subprocess.run(program, check=True, stdout=sys.stderr)  # noqa: S603  # our own program
        for file in out.rglob("*.so"):
            build_data["force_include"][str(file)] = str(file.relative_to(out))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def _add_plugins(self, found: list[plugin_folders.Plugin]) -> None:
        """Extend the lists of the packages in a wheel and of the folders of an editable one.

        hatchling reads both lists only after the hooks.
        """
        wheel, build = self.build_config.target_config, self.build_config.build_config
        folders = {f"plugins/{plugin.name}": plugin.package for plugin in found}
        wheel["packages"] = [*wheel["packages"], *(f"{it}/{folders[it]}" for it in folders)]
        build["dev-mode-dirs"] = [*build["dev-mode-dirs"], *folders]

    def _written(self, text: str) -> str:
        file = Path(self._folder.name) / "commit.txt"
        file.write_text(text, encoding="utf-8")
        return str(file)
