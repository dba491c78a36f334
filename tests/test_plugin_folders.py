"""Adding a plugin is adding a folder: a copy of the tree with two more, installed in both ways."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COPIED = ("corepy", "plugins", "tools", "docs", "pyproject.toml", "README.md", "LICENSE")
LATE = """\
from corepy.plugin import hookimpl

api_version = 1

class Late:
    @hookimpl
    def before_listen(self, context):
        fail()

def fail():
    try:
        import corepy_no_such_package
    except ImportError as error:
        raise RuntimeError("no database") from error

def setup(controller):
    for _ in controller.occurrences():
        controller.register(Late()) if controller.remaining_args() else fail()

def main(arguments):
    return 0
"""
MODULE = """\
from corepy.plugin import Handler

api_version = 1

class Nothing(Handler):
    name = "{name}"

    async def serve_dns(self, request):
        return await self.next.serve_dns(request)

def setup(controller):
    for _ in controller.occurrences():
        controller.add_handler(Nothing())

def main(arguments):
    print("{name}", *arguments)
    return 0
"""
NEEDS = (
    "needs corepy-no-such-package, which is not installed: pip install 'corepy-dns[needs_library]'"
).replace("_", "-")

NEEDS_LATE = NEEDS.replace("needs-library", "needs-late")
LATE_LINE = f"plugin/needs_late (from corepy-dns): {NEEDS_LATE}\n"


def add_plugin(tree, name, declared="", code="", module=MODULE):
    folder = tree / "plugins" / name
    (folder / f"corepy_{name}").mkdir(parents=True)
    (folder / f"corepy_{name}" / "__init__.py").write_text(code + module.replace("{name}", name))
    (folder / "README.md").write_text(f"# {name}\n\n## Name\n\n*{name}* - does nothing.\n")
    command = f'[commands]\n{name} = "corepy_{name}:main"\n'
    (folder / "plugin.toml").write_text(f'purpose = "protect"\n{declared}\n{command}')


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The part of the tree that a distribution is built from, and two plugins."""
    folder = tmp_path_factory.mktemp("house") / "tree"
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            unused = shutil.ignore_patterns("__pycache__", "tests", "img")
            shutil.copytree(source, folder / name, ignore=unused)
        else:
            shutil.copy(source, folder / name)
    add_plugin(folder, "scratch")
    library = 'dependencies = ["corepy-no-such-package>=2"]'
    add_plugin(folder, "needs_library", library, "import corepy_no_such_package\n")
    add_plugin(folder, "needs_late", library, module=LATE)
    return folder


class Installed:
    """An environment in which the tree is installed."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.bin = folder / "bin"
        self.site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        # Dependencies and hatchling are those of the environment that runs the tests.
        (self.site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    def install(self, *arguments: str) -> None:
        python = str(self.bin / "python")
        options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")
        pip = (sys.executable, "-m", "pip", "--python", python, "install", *options)
        subprocess.run([*pip, *arguments], check=True, capture_output=True, timeout=600)

    def run(self, *words: str, **options):
        return subprocess.run(
            [self.bin / words[0], *words[1:]],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            **options,
        )


@pytest.fixture(scope="module", params=[(), ("--editable",)], ids=["wheel", "editable"])
def installed(request, tree, tmp_path_factory):
    made = Installed(tmp_path_factory.mktemp("environment"))
    made.install(*request.param, str(tree))
    return made


def test_new_folders_are_plugins(installed):
    done = installed.run("corepy", "-plugins")
    assert {"bind", "needs_library", "scratch", "whoami"} <= {*done.stdout.split()}
    assert done.stderr == f"{LATE_LINE}plugin/needs_library (from corepy-dns): {NEEDS}\n"
    assert done.returncode == 0


def test_a_new_folder_is_imported_and_has_its_command(installed, tmp_path):
    (tmp_path / "Corefile").write_text(".:5300 {\n    scratch\n    whoami\n}\n")
    done = installed.run("corepy", "-check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert installed.run("corepy", "scratch", "hello").stdout == "scratch hello\n"


@pytest.mark.parametrize("flags", [("-check",), ()], ids=["check", "start"])
def test_a_missing_library_is_a_mistake_that_names_the_extra(installed, tmp_path, flags):
    (tmp_path / "Corefile").write_text(".:5300 {\n    needs_library\n    whoami\n}\n")
    done = installed.run("corepy", *flags, cwd=tmp_path)
    first, *rest = done.stderr.splitlines()
    assert first == f"Corefile:2:5: plugin/needs_library (from corepy-dns): {NEEDS}"
    assert (done.returncode, len(rest)) == (1, 2)


def test_a_library_that_setup_misses_is_a_mistake_that_names_the_extra(installed, tmp_path):
    (tmp_path / "Corefile").write_text(".:5300 {\n    needs_late\n    whoami\n}\n")
    done = installed.run("corepy", "-check", cwd=tmp_path)
    first, *_ = done.stderr.splitlines()
    problem = "plugin/needs_late (from corepy-dns) failed in setup"
    assert first == f"Corefile:2:5: {problem}: {NEEDS_LATE}"
    assert done.returncode == 1


def test_a_library_that_a_starting_hook_misses_is_an_error_that_names_the_extra(
    installed, tmp_path
):
    text = ".:0 {\n    bind 127.0.0.1\n    needs_late in the hook\n    whoami\n}\n"
    (tmp_path / "Corefile").write_text(text)
    done = installed.run("corepy", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"corepy: plugin/needs_late: {NEEDS_LATE}\n")


def test_another_distribution_called_corepy_is_reported(installed, tmp_path):
    other = installed.site / "corepy-0.1.2.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: corepy\nVersion: 0.1.2\n")
    try:
        for flags in (("-version",), ("-plugins",), ("-plugins", "-order")):
            done = installed.run("corepy", *flags)
            first, *_ = done.stderr.splitlines()
            assert first.startswith("corepy: corepy 0.1.2 is installed beside corepy-dns ")
            assert "pip uninstall corepy, then pip install --force-reinstall corepy-dns" in first
            assert done.returncode == 0
    finally:
        shutil.rmtree(other)
    assert installed.run("corepy", "-version").stderr == ""


def test_the_command_of_a_plugin_whose_library_is_missing(installed):
    done = installed.run("corepy", "needs_library", "hello")
    assert (done.returncode, done.stderr) == (1, f"corepy needs_library: {NEEDS}\n")


def test_the_order_has_a_place_for_a_plugin_whose_library_is_missing(installed):
    done = installed.run("corepy", "-plugins", "-order")
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names[names.index("needs_library") :][:3] == ["needs_library", "scratch", "cache"]
    assert done.stderr == f"{LATE_LINE}plugin/needs_library (from corepy-dns): {NEEDS}\n"
    assert done.returncode == 0


def test_the_distribution_has_an_extra_of_the_plugin(installed):
    (metadata,) = installed.site.glob("corepy_dns-*.dist-info/METADATA")
    lines = metadata.read_text().splitlines()
    for extra in ("needs-library", "all"):
        assert f"Requires-Dist: corepy-no-such-package>=2; extra == '{extra}'" in lines


def test_new_folders_are_in_the_index(installed, tree):
    done = installed.run("python", str(tree / "tools/plugin_index.py"), cwd=tree)
    assert (done.returncode, done.stderr) == (0, "")
    group = (tree / "plugins/README.md").read_text().partition("## Protect\n")[2].partition("##")[0]
    assert "| [scratch](scratch/README.md) | does nothing. |\n" in group
