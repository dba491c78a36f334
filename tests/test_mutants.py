"""The mutation tester itself, on a project of one module."""

from __future__ import annotations

import ast
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
from toy import is_small


def test_small():
    assert is_small(3) and not is_small(30)
"""


@pytest.fixture
def mutations(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
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
    for name in ("dns/names.py", "server/query.py"):
        text = (TOOLS.parent / "corepy" / name).read_text()
        for mutation in mutations.find(text):
            ast.parse(mutation.apply(text))


def test_survivors_are_named_with_the_tests_that_ran_the_line(tmp_path):
    (tmp_path / "toy.py").write_text(MODULE)
    (tmp_path / "test_toy.py").write_text(TEST)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    words = ["--root", str(tmp_path), "--module", "toy.py", "--tests", "test_toy.py"]
    done = subprocess.run(
        [sys.executable, "-m", "mutants", "--group", "dns", *words, "--jobs", "1"],
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "  noticed  toy.py:6 comparison (failed)\n" in done.stdout
    assert "  noticed  toy.py:6 negated condition (failed)\n" in done.stdout
    assert "  - return False\n  + return True\n    run by no test\n" in done.stdout
    assert "  - return number < 10\n  + return number <= 10\n" in done.stdout
    assert "    run by test_toy.py::test_small\n" in done.stdout
    assert "  - return number + 1\n  + return number - 1\n    run by no test\n" in done.stdout
    assert done.stdout.endswith("dns: 2 of 7 noticed (29 %)\n")
