"""Copies the tree with its compiled modules into a folder, with an environment that runs the copy.

    python tools/compiled_tree.py FOLDER

FOLDER/tree is the copy: the files that git knows or would add, and the extension modules beside
their sources, where the interpreter prefers them. FOLDER/venv/bin has the interpreter and the
commands of corepy; they use the packages of the environment that runs this program, but the corepy
of the copy. So the tree itself stays pure.

The extension modules are cached in $XDG_CACHE_HOME/corepy by the hash of what affects them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

import compile_modules
import plugin_folders

KEPT: Final = 6
"""Number of compiled versions in the cache."""


def copy_sources(root: Path, tree: Path) -> None:
    """Make `tree` a copy of the files of `root`; unchanged files keep their times."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),  # noqa: S607  # git of the PATH
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    names = {name for name in listed.stdout.split("\0") if name and (root / name).is_file()}
    for name in names:
        _copy(root / name, tree / name)
    for file in [file for file in tree.rglob("*") if file.is_file() or file.is_symlink()]:
        if str(file.relative_to(tree)) not in names:
            file.unlink()


def _copy(source: Path, target: Path) -> None:
    here = source.stat()
    there = target.stat() if target.exists() else None
    if there is None or (here.st_size, here.st_mtime_ns) != (there.st_size, there.st_mtime_ns):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def compiled(root: Path) -> Path:
    """Return a folder with the extension modules, from the cache if possible.

    Raises SystemExit if they cannot be compiled.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corepy"
    found = cache / f"compiled-{compile_modules.source_hash(root)}"
    if not found.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            out = Path(work) / "modules"
            program = (sys.executable, compile_modules.__file__, str(out))
            if subprocess.run(program, cwd=root, check=False).returncode:  # noqa: S603  # our own program
                sys.exit("compiled_tree: the modules cannot be compiled; the cause is above")
            out.rename(found)
    found.touch()
    versions = sorted(cache.glob("compiled-*"), key=lambda each: each.stat().st_mtime)
    for old in versions[:-KEPT]:
        shutil.rmtree(old)
    return found


def add_modules(modules: Path, tree: Path) -> None:
    """Copy the extension modules beside their sources."""
    packages = {plugin.package: plugin for plugin in plugin_folders.plugins(tree)}
    for file in modules.rglob("*.so"):
        name = file.relative_to(modules)
        plugin = packages.get(name.parts[0])
        _copy(file, (tree if plugin is None else plugin.folder) / name)


def make_environment(folder: Path, tree: Path) -> None:
    """Make an environment that finds the modules of `tree` before those of this environment.

    Paths of other `.pth` files are not used, such as that of an editable installation.
    """
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    variables = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", variables))
    plugins = [plugin.folder for plugin in plugin_folders.plugins(tree)]
    paths = (tree, *plugins, sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    (site / "tree.pth").write_text("".join(f"{path}\n" for path in paths))
    for entry in distribution("corepy-dns").entry_points.select(group="console_scripts"):
        script = folder / "bin" / entry.name
        script.write_text(
            f"#!{folder}/bin/python\nimport sys\nfrom {entry.module} import {entry.attr}\n"
            f"sys.exit({entry.attr}())\n"
        )
        script.chmod(0o755)


def main(arguments: list[str]) -> None:
    """Make or update the folder that is given."""
    if len(arguments) != 1:
        sys.exit("usage: python tools/compiled_tree.py FOLDER")
    folder = Path(arguments[0]).resolve()
    copy_sources(compile_modules.ROOT, folder / "tree")
    add_modules(compiled(compile_modules.ROOT), folder / "tree")
    make_environment(folder / "venv", folder / "tree")


if __name__ == "__main__":
    main(sys.argv[1:])
