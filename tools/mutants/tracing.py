"""Which tests run which lines, server processes included.

Each statement of an instrumented module calls `hit` of a probe module, which appends (line, test)
to a file when it sees that pair for the first time. The test is the one that pytest names in the
environment, which a server that a test starts inherits. Coverage tools follow neither `os.fork`
nor a server that is killed.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

PROBE: Final = "corepy_mutants_probe"
TRACE: Final = "COREPY_MUTANTS_TRACE"
"""The environment variable that names the file."""

PROBE_SOURCE: Final = f'''
import os
seen = set()
path = os.environ.get("{TRACE}")


def hit(module, line):
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    key = module, line, test
    if key not in seen and path and test:
        seen.add(key)
        with open(path, "a") as file:
            file.write(f"{{module}}\\t{{line}}\\t{{test}}\\n")
'''


def instrument(text: str, name: str) -> str:
    """Return the module with a call to the probe before each statement of its functions."""
    tree = ast.parse(text)
    _Instrument(name).visit(tree)
    index = next(i for i, it in enumerate(tree.body) if not _is_preamble(it))
    tree.body.insert(index, ast.Import([ast.alias(PROBE)]))
    return ast.unparse(ast.fix_missing_locations(tree))


def _is_preamble(node: ast.stmt) -> bool:
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_docstring or (isinstance(node, ast.ImportFrom) and node.module == "__future__")


class _Instrument(ast.NodeTransformer):
    def __init__(self, name: str) -> None:
        self._name = name
        self._depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("body", "orelse", "finalbody") if self._depth else ():
            statements = getattr(node, field, None)
            if isinstance(statements, list) and not isinstance(node, ast.ClassDef):
                setattr(node, field, [it for old in statements for it in self._probed(old)])
        return node

    def _probed(self, statement: ast.stmt) -> list[ast.stmt]:
        call = ast.parse(f"{PROBE}.hit({self._name!r}, {statement.lineno})").body[0]
        return [statement] if _is_preamble(statement) else [call, statement]


def read(path: Path) -> dict[tuple[str, int], set[str]]:
    """Return the tests by (module, line of a statement) from a trace file."""
    tests: dict[tuple[str, int], set[str]] = defaultdict(set)
    for row in path.read_text().splitlines() if path.exists() else ():
        module, line, test = row.split("\t", 2)
        # Without parameters: not every pytest ID of theirs can be given back on a command line.
        tests[module, int(line)].add(test.partition("[")[0])
    return tests


def tests_of(tests: dict[tuple[str, int], set[str]], name: str, text: str, line: int) -> set[str]:
    """Return the tests that run the innermost traced statement around `line`; for a line outside of
    functions, all that run anything of the module.
    """
    candidates = [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    if _is_inside_a_function(text, line):
        return tests.get((name, max(candidates)), set())
    return {test for (module, _), found in tests.items() if module == name for test in found}


def _is_inside_a_function(text: str, line: int) -> bool:
    return any(
        node.body[0].lineno <= line <= (node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
