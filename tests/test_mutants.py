"""The mutation tester itself, on a project of one module."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / "tools"
MODULE = '''\
"""A module."""


def is_small(number: int) -> bool:
    """Return whether it is."""
    if number is None:
        return False
    return number < 10


def unused(number: int) -> int:
    return number + 1
'''
TEST = """\
import pytest

from toy import is_small


@pytest.mark.parametrize("number", [3, 30])
def test_small(number):
    assert is_small(number) is (number == 3)
"""
MORE = """\
from toy import is_small, unused


def test_the_limit():
    assert not is_small(10)


def test_unused():
    assert unused(1) == 2
"""
UNSOUND = """\
import toy


def test_small():
    assert toy.is_small(3) and hasattr(toy, "corepy_mutants_probe")
"""
ENDLESS = """\
import pathlib
import subprocess


def test_first():
    pass


def test_endless():
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    pathlib.Path("pid").write_text(str(process.pid))
    while True:
        pass
"""
FIRST = """\
import c

A = 3
B = A + 1


def f(n=3):
    return n + B


C = 4


class D:
    field: int = 5
"""
SECOND = """\
from a import B, f


def g():
    x = [B,
         f()]
    return x


def h():
    return D()
"""


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))


@pytest.fixture
def mutations(tools):
    from mutants import mutations

    return mutations


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("x = a < b", ["x = a <= b"]),
        ("x = (a) == (b)", ["x = (a) != (b)"]),
        ("x = a is not None", ["x = a is None"]),
        ("if a:\n    b()", ["if not (a):\n    b()", "if a:\n    pass"]),
        ("x = a and b and c", ["x = a or b and c"]),
        ("x = b if a else c", ["x = c if a else b"]),
        ("x = 7", ["x = 8"]),
        ("x = ü + True", ["x = ü - True", "x = ü + False"]),
        ("a.b = c", ["pass"]),
        ("a += b", ["pass"]),
        ("del a[b]", ["pass"]),
        ('def f(a: int = 3) -> int:\n    "7"', ['def f(a: int = 4) -> int:\n    "7"']),
        ("if TYPE_CHECKING:\n    import a", []),
        ("assert a < 3", []),
    ],
)
def test_mutations(mutations, text, faults):
    made = [it.apply(text) for it in mutations.find(text)]
    assert sorted(made) == sorted(faults)


def test_every_mutation_of_real_modules_is_python(mutations):
    for name in ("dns/names.py", "server/listen/chain_runner.py"):
        text = (TOOLS.parent / "corepy" / name).read_text()
        for mutation in mutations.find(text):
            ast.parse(mutation.apply(text))


@pytest.fixture
def toy(tmp_path):
    """Return a function that runs the tool on a project of one module."""
    root = tmp_path / "toy"
    root.mkdir()
    (root / "toy.py").write_text(MODULE)
    (root / "test_toy.py").write_text(TEST)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)

    def run(*words):
        flags = ["--root", str(root), "--module", "toy.py", "--tests", "test_toy.py"]
        done = subprocess.run(
            [sys.executable, "-m", "mutants", "--group", "server", *flags, "--jobs", "1", *words],
            env={**os.environ, "PYTHONPATH": str(TOOLS)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    run.root = root
    return run


def test_survivors_are_named_with_the_tests_that_ran_the_line(toy):
    said = toy()
    assert "  noticed  toy.py:6 comparison (failed: test_toy.py::test_small[3])\n" in said
    assert "  noticed  toy.py:6 negated condition (failed: test_toy.py::test_small[3])\n" in said
    assert "  - return False\n  + return True\n    no test runs the line\n" in said
    survivor = "  - return number < 10\n  + return number <= 10\n    2 tests passed\n"
    assert f"{survivor}    run by test_toy.py::test_small[" in said
    assert "  - return number + 1\n  + return number - 1\n    no test runs the line\n" in said
    assert said.endswith("server: 2 of 7 noticed (29 %)\n")


def test_a_trace_is_kept_and_added_to(toy, tmp_path):
    kept = ["--trace", str(tmp_path / "trace")]
    assert toy(*kept, "--count", "0").startswith("tracing ")
    (toy.root / "test_more.py").write_text(MORE)
    before = tmp_path / "before"
    before.write_text(toy(*kept))
    assert before.read_text().endswith("server: 2 of 7 noticed (29 %)\n")
    said = toy(*kept, "--retrace", "test_more.py", "--again", str(before))
    assert "  noticed  toy.py:8 comparison (failed: test_more.py::test_the_limit)\n" in said
    assert said.endswith("server: 4 of 5 noticed (80 %)\n")


def test_a_test_that_fails_without_the_fault_notices_nothing(toy):
    """It passes where it is traced: whether the module is instrumented is all that has changed."""
    (toy.root / "test_toy.py").write_text(UNSOUND)
    said = toy("--line", "8")
    assert "only tests that fail without the fault run the line" in said
    assert said.endswith("server: 0 of 2 noticed (0 %)\n")


def test_the_modules_of_all_groups_can_be_traced(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    groups = importlib.import_module("mutants.groups")
    tracing = importlib.import_module("mutants.tracing")
    root = TOOLS.parent
    modules = [it for globs in groups.GROUPS.values() for it in groups.modules_of(root, globs)]
    assert "corepy/server/listen/__init__.py" in modules  # it is only a docstring
    for module in modules:
        compile(tracing.instrument((root / module).read_text(), module), module, "exec")


def test_a_row_that_was_not_written_whole_is_left_out(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(TOOLS))
    probe = importlib.import_module("mutants.probe")
    tracing = importlib.import_module("mutants.tracing")
    (tmp_path / probe.REPORTS).write_text('["test", "passed", 1.5]\n')
    (tmp_path / probe.file_of("test")).write_text("toy.py 1\ntoy\ntoy.py\ntoy.py 2toy.py 3\n\nto")
    trace = tracing.read(tmp_path, {"toy.py": "digest"})
    assert trace.tests["test"].lines == {("toy.py", 1)}
    assert capsys.readouterr().err == "trace: 5 rows were not written whole and are left out\n"


def test_a_test_that_does_not_end_is_stopped_with_what_it_has_started(tmp_path):
    """Also a process with a session of its own, which no signal to a group reaches."""
    (tmp_path / "test_toy.py").write_text(ENDLESS)
    request = {"tests": ["test_toy.py::test_first", "test_toy.py::test_endless"]}
    done = subprocess.run(
        [sys.executable, "-m", "mutants.warm"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TOOLS), "COREPY_MUTANTS_WARM": str(tmp_path)},
        input=json.dumps({**request, "limits": [60.0, 0.5]}) + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == ["time-out", 1]
    command = Path("/proc", (tmp_path / "pid").read_text(), "cmdline")
    assert not command.exists() or not command.read_bytes()  # nobody may have taken note yet


@pytest.mark.parametrize(
    ("line", "places"),
    [
        (3, {("a.py", 8), ("b.py", 5)}),  # by way of B
        (4, {("a.py", 8), ("b.py", 5)}),
        (7, {("b.py", 5)}),  # a default belongs to the name of its function
        (8, None),
        (11, set()),
        (15, {("b.py", 11)}),  # a field, by its class
    ],
)
def test_what_a_line_outside_of_functions_has_an_effect_on(tools, line, places):
    from mutants import statements

    assert statements.using("a.py", line, {"a.py": FIRST, "b.py": SECOND}) == places
