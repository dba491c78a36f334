"""The lists of modules to compile, and what a build needs for them; `make test-compiled` does the rest."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from corepy import release

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from compile_modules import REQUIREMENTS, ModuleError, modules, source_hash  # noqa: E402  # found by sys.path

MODULES = modules(ROOT)


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes a tree with these modules of the core and of a plugin."""

    def write(core, plugin):
        (tmp_path / "corepy").mkdir()
        (tmp_path / "corepy/a.py").write_text("one = 1")
        (tmp_path / "plugins/x/corepy_x").mkdir(parents=True)
        for name in ("__init__", "b"):
            (tmp_path / f"plugins/x/corepy_x/{name}.py").touch()
        (tmp_path / "pyproject.toml").write_text(f"[tool.corepy.compile]\nmodules = {core}")
        (tmp_path / "plugins/x/plugin.toml").write_text(f'purpose = "serve"\ncompile = {plugin}')
        return tmp_path

    return write


def test_modules_of_the_core_and_of_plugins(tree):
    assert modules(tree(["corepy.a"], ["b"])) == [
        Path("corepy/a.py"),
        Path("plugins/x/corepy_x/b.py"),
    ]


@pytest.mark.parametrize(
    ("core", "plugin", "problem"),
    [
        (["corepy.a", "corepy.c"], [], "pyproject.toml: module corepy.c does not exist"),
        ([], ["c"], "plugins/x/plugin.toml: module corepy_x.c does not exist"),
    ],
)
def test_a_module_that_does_not_exist_is_named(tree, core, plugin, problem):
    with pytest.raises(ModuleError) as caught:
        modules(tree(core, plugin))
    assert str(caught.value) == problem


@pytest.mark.parametrize("name", ["corepy/a.py", "plugins/x/corepy_x/b.py", "pyproject.toml"])
def test_the_hash_depends_on_all_sources_and_lists(tree, name):
    root = tree(["corepy.a"], ["b"])
    before = source_hash(root)
    assert source_hash(root) == before
    (root / name).write_text((root / name).read_text() + "\n# changed")
    assert source_hash(root) != before


def names_in(path):
    """The names that the code of a module refers to."""
    tree = ast.parse((ROOT / path).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_compiled_modules_have_no_hooks_and_need_nothing_at_run_time(path):
    """pluggy reads the signatures of hooks, which compiled functions have not."""
    assert not {"hookimpl", "mypy_extensions"} & set(names_in(path))


def names_for_types_only(tree):
    """The names that are imported only for type checkers."""
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for each in ast.walk(node):
                if isinstance(each, ast.alias):
                    yield each.asname or each.name


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_the_types_of_named_tuples_exist_at_run_time(path):
    """The compiled form looks up their outermost names, except Callable, when it is imported."""
    tree = ast.parse((ROOT / path).read_text())
    for kind in (each for each in ast.walk(tree) if isinstance(each, ast.ClassDef)):
        if "NamedTuple" in map(ast.unparse, kind.bases):
            types = [it.annotation for it in kind.body if isinstance(it, ast.AnnAssign)]
            used = {ast.unparse(it.value if isinstance(it, ast.Subscript) else it) for it in types}
            assert not (used - {"Callable"}) & {*names_for_types_only(tree)}, kind.name


def test_the_environment_of_developers_compiles_as_a_build_does():
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    assert set(REQUIREMENTS) <= {it for it in dev if isinstance(it, str)}


@pytest.mark.parametrize(("switch", "needed"), [("", set()), ("0", set()), ("1", {*REQUIREMENTS})])
def test_only_a_build_that_compiles_needs_more(switch, needed):
    code = "from hatchling.build import *; print(*get_requires_for_build_wheel(), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "COREPY_COMPILE": switch},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split("\n")) & {*REQUIREMENTS} == needed


def test_the_form_is_that_of_the_modules_in_use():
    from corepy.dns import message

    assert release.form() == ("pure" if message.__file__.endswith(".py") else "compiled")
