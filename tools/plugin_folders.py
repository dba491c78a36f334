"""Reads the folders of `plugins/`, from which the package and the plugin index are made.

A folder with a `plugin.toml` is a plugin. The build takes the entry points, the packages and the
extras of the distribution from these files (tools/hatch_metadata.py, tools/hatch_build.py), the
documentation takes the plugin index from them (tools/plugin_index.py), and `make test` the Debian
packages:

    purpose = "observe"                     # its group in the plugin index, one of PURPOSES
    dependencies = ["maxminddb>=2.6"]       # Python packages that corepy does not need without it
    test-packages = ["iproute2"]            # Debian packages that its tests need
    compile = ["encoding"]                  # modules of its package that the compiled form compiles

    [commands]                              # further commands of corepy
    sample = "corepy_sample.cli:main"

    [scripts]                               # further programs that an installation adds
    sample-update = "corepy_sample.update:main"

Only `purpose` is required. Uses the standard library only, since the build imports it.

    python tools/plugin_folders.py [NAME...]    # print the Debian packages for the tests
    python tools/plugin_folders.py --compiled    # print the tests of plugins with compiled modules
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent

PURPOSES: Final = {
    "serve": "Produce or change answers.",
    "forward": "Query other name servers.",
    "cache": "Keep answers.",
    "protect": "Limit the load and the damage that clients and other servers can cause.",
    "observe": "Log queries, count them, and report the state of the server.",
    "node": "Listen, reload, and run on the node.",
}
"""The groups of the plugin index in their order, with their descriptions."""

ALL: Final = "all"
"""The extra with the dependencies of all plugins."""


class FolderError(Exception):
    """A plugin.toml is invalid; the message names the file and the field."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A folder of `plugins/`."""

    folder: Path
    purpose: str
    dependencies: tuple[str, ...] = ()
    test_packages: tuple[str, ...] = ()
    compiled: tuple[str, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    scripts: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The directive, which is the name of the folder."""
        return self.folder.name

    @property
    def package(self) -> str:
        """The import package in the folder."""
        return f"corepy_{self.name}"

    @property
    def readme(self) -> Path:
        """The manual page."""
        return self.folder / "README.md"


def plugins(root: Path = ROOT) -> list[Plugin]:
    """Return the plugins of the tree `root` by name; raises `FolderError` for an invalid one."""
    for package in sorted((root / "plugins").glob("*/corepy_*/__init__.py")):
        folder = package.parent.parent
        if not (folder / "plugin.toml").is_file():
            raise FolderError(f"{folder}: the file plugin.toml is missing (docs/design.md)")
    return [_plugin(file) for file in sorted((root / "plugins").glob("*/plugin.toml"))]


def _plugin(file: Path) -> Plugin:
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FolderError(f"{file}: {error}") from error
    plugin = Plugin(
        file.parent,
        given.pop("purpose", ""),
        _strings(file, given, "dependencies"),
        _strings(file, given, "test-packages"),
        _strings(file, given, "compile"),
        _table(file, given, "commands"),
        _table(file, given, "scripts"),
    )
    problem = _problem(plugin, given)
    if problem:
        raise FolderError(f"{file}: {problem}")
    return plugin


def _strings(file: Path, given: dict[str, Any], key: str) -> tuple[str, ...]:
    value = given.pop(key, [])
    if not isinstance(value, list) or not all(isinstance(it, str) for it in value):
        raise FolderError(f"{file}: {key} must be a list of strings")
    return tuple(value)


def _table(file: Path, given: dict[str, Any], key: str) -> tuple[tuple[str, str], ...]:
    value = given.pop(key, {})
    if not isinstance(value, dict) or not all(isinstance(it, str) for it in value.values()):
        raise FolderError(f"{file}: {key} must be a table of strings")
    return tuple(value.items())


def _problem(plugin: Plugin, unknown: dict[str, Any]) -> str | None:
    if unknown:
        return f"unknown field {next(iter(unknown))!r}"
    if plugin.purpose not in tuple(PURPOSES):  # it may be a list, which has no hash
        return f"purpose must be one of {', '.join(PURPOSES)}, not {plugin.purpose!r}"
    if plugin.name == ALL:
        return f"{ALL!r} is the extra with the dependencies of all plugins, and no name for one"
    if not plugin.package.isidentifier():
        return f"{plugin.name!r} cannot be part of the name of a package, corepy_{plugin.name}"
    if not (plugin.folder / plugin.package / "__init__.py").is_file():
        return f"the folder has no package {plugin.package}"
    return None


def extras(found: list[Plugin]) -> dict[str, list[str]]:
    """Return the extras of the distribution: one per plugin with dependencies, and ALL."""
    made = {plugin.name: list(plugin.dependencies) for plugin in found if plugin.dependencies}
    made[ALL] = sorted({name for names in made.values() for name in names})
    return made


def debian_packages(found: list[Plugin]) -> list[str]:
    """Return the Debian packages for the tests of these plugins."""
    return sorted({name for plugin in found for name in plugin.test_packages})


def main(names: list[str]) -> None:
    """Print the Debian packages for the tests of the plugins `names`, without names of all."""
    found = {plugin.name: plugin for plugin in plugins()}
    if names == ["--compiled"]:
        tests = [f"plugins/{name}/tests" for name, plugin in found.items() if plugin.compiled]
        sys.stdout.write(" ".join(tests) + "\n")
        return
    unknown = set(names) - found.keys()
    if unknown:
        sys.exit(f"plugins/ has no folder {sorted(unknown)[0]!r} with a plugin.toml")
    sys.stdout.write(" ".join(debian_packages([found[name] for name in names or found])) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
