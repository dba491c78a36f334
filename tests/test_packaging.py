"""The folders of plugins/ and what the distribution takes from them."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import plugin_index  # noqa: E402  # found by sys.path
from plugin_folders import FolderError, debian_packages, extras, plugins  # noqa: E402  # found by sys.path

FOLDERS = sorted(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir())
CENTRAL = ("pyproject.toml", "Makefile", "mkdocs.yml", "deploy/kubernetes/Dockerfile")


@pytest.mark.parametrize("path", CENTRAL)
def test_no_central_file_lists_plugins(path):
    text = (ROOT / path).read_text()
    assert [name for name in FOLDERS if f"corepy_{name}" in text or f"plugins/{name}" in text] == []


def test_every_folder_is_a_plugin():
    assert [plugin.name for plugin in plugins()] == FOLDERS


@pytest.mark.parametrize("name", FOLDERS)
def test_plugin_folder_is_complete(name):
    folder = ROOT / "plugins" / name
    assert plugin_index.summary(folder / "README.md")
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


def test_the_plugin_index_is_current():
    """After a change: make format."""
    text = plugin_index.index(plugins(), lambda plugin: f"{plugin.name}/README.md")
    assert plugin_index.INDEX.read_text() == text
    assert sorted(re.findall(r"^\| \[(\w+)\]", text, re.MULTILINE)) == FOLDERS


@pytest.fixture
def declare(tmp_path):
    """Writes the plugin.toml of a folder."""

    def write(name, text):
        (tmp_path / "plugins" / name / f"corepy_{name}").mkdir(parents=True)
        (tmp_path / "plugins" / name / f"corepy_{name}" / "__init__.py").touch()
        (tmp_path / "plugins" / name / "plugin.toml").write_text(text)

    return write


def test_what_plugins_need_is_an_extra(declare, tmp_path):
    declare("zone", 'purpose = "serve"\ndependencies = ["b>=2", "a"]\ntest-packages = ["knot"]\n')
    declare("geoip", 'purpose = "observe"\ndependencies = ["maxminddb>=2", "a"]\n')
    declare("plain", 'purpose = "observe"\n')
    found = plugins(tmp_path)
    assert [name for name, _ in plugin_index.by_purpose(found)] == ["serve", "observe"]
    assert debian_packages(found) == ["knot"]
    assert extras(found) == {
        "geoip": ["maxminddb>=2", "a"],
        "zone": ["b>=2", "a"],
        "all": ["a", "b>=2", "maxminddb>=2"],
    }


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("x", "", "purpose must be one of serve, forward, cache, protect, observe, node, not ''"),
        ("x", 'purpose = "speed"', "purpose must be one of"),
        ("x", 'purpose = "serve"\ndependency = []', "unknown field 'dependency'"),
        ("x", 'purpose = "serve"\ndependencies = "a"', "dependencies must be a list of strings"),
        ("x", 'purpose = "serve"\ncommands = ["a"]', "commands must be a table"),
        ("x", 'purpose = "serve"\ncompile = "a"', "compile must be a list of strings"),
        ("x", 'purpose = "serve"\n[commands]\na = 1', "commands must be a table of strings"),
        ("x", 'purpose = "serve"\n[scripts]\na = 1', "scripts must be a table of strings"),
        ("x", 'purpose = ["serve"]', "purpose must be one of"),
        ("x-y", 'purpose = "serve"', "'x-y' cannot be part of the name of a package, corepy_x-y"),
        ("x", "purpose = serve", "Invalid value (at line 1"),
        ("all", 'purpose = "serve"', "'all' is the extra"),
    ],
)
def test_a_mistake_in_a_declaration_is_named(declare, tmp_path, name, text, problem):
    declare(name, text)
    with pytest.raises(FolderError) as caught:
        plugins(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/plugins/{name}/plugin.toml: {problem}")


def test_a_folder_without_its_declaration(declare, tmp_path):
    """Its package would not be installed, and its directive would be unknown."""
    declare("x", 'purpose = "serve"')
    (tmp_path / "plugins/x/plugin.toml").unlink()
    with pytest.raises(FolderError, match=r"plugins/x: the file plugin\.toml is missing"):
        plugins(tmp_path)


def test_a_folder_without_its_package(declare, tmp_path):
    declare("x", 'purpose = "serve"')
    (tmp_path / "plugins/x/corepy_x").rename(tmp_path / "plugins/x/corepy_y")
    with pytest.raises(FolderError, match="the folder has no package corepy_x"):
        plugins(tmp_path)
