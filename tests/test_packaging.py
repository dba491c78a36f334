"""The three lists in pyproject.toml that must agree with the folders of plugins/, and what a wheel holds."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = sorted(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir())


def test_every_plugin_folder_is_an_entry_point():
    entry_points = PROJECT["project"]["entry-points"]["corepy.plugins"]
    assert entry_points == {name: f"corepy_{name}" for name in FOLDERS}


def test_every_plugin_folder_is_importable_in_development():
    folders = PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"]
    assert folders == [".", *(f"plugins/{name}" for name in FOLDERS)]


def test_every_plugin_is_in_the_wheel():
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == ["corepy", *(f"plugins/{name}/corepy_{name}" for name in FOLDERS)]


@pytest.mark.parametrize("name", FOLDERS)
def test_plugin_folder_is_complete(name):
    folder = ROOT / "plugins" / name
    assert (folder / "README.md").is_file()
    assert (folder / f"corepy_{name}" / "py.typed").is_file()
    assert list(folder.glob(f"tests/test_{name}_*.py"))


def test_wheel_holds_only_our_packages(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    data = {name for name in names if ".data/" in name}
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name and name not in data}
    assert tops == {"corepy", *(f"corepy_{name}" for name in FOLDERS)}
    pages = {name.partition(".data/data/share/man/")[2] for name in data}
    manuals = {f"man7/corepy-{name}.7" for name in FOLDERS}
    language = {"man5/corefile.5"} if (ROOT / "docs/corefile.md").exists() else set()
    assert pages == {"man1/corepy.1", *language, *manuals}
    assert {"corepy/corefile/grammar.lark", "corepy/py.typed"} <= set(names)
    template = {name for name in names if name.startswith("corepy/scaffold/template/")}
    assert not [name for name in set(names) - template if "/tests/" in name]
    here = (ROOT / "corepy/scaffold/template").rglob("*.tmpl")
    assert template == {path.relative_to(ROOT).as_posix() for path in here}
