"""Inserts the probe into modules, and runs tests with them.

Coverage tools follow neither `os.fork` nor a server that is killed.
"""

from __future__ import annotations

import ast
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mutants import probe
from mutants.trace import Test, Trace, digest
from mutants.trials import command_of, copy_tree, environment_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PROBE: Final = "corepy_mutants_probe"


def trace(source: Path, modules: Iterable[str], arguments: Sequence[str], jobs: int) -> Trace:
    """Run pytest with `arguments` in a copy of the tree with `modules` instrumented."""
    with tempfile.TemporaryDirectory(prefix="corepy-traced-") as name:
        folder, rows = Path(name, "tree"), Path(name, "rows")
        copy_tree(source, folder)
        rows.mkdir(mode=0o777)
        rows.chmod(0o777)  # a server that drops root privileges writes here, too
        shutil.copy(probe.__file__, folder / f"{PROBE}.py")
        digests = {}
        for module in modules:
            text = (folder / module).read_text()
            digests[module] = digest(text)
            (folder / module).write_text(instrument(text, module))
        workers = ("-n", str(jobs), "--dist", "worksteal") if jobs > 1 else ()
        subprocess.run(  # noqa: S603  # pytest on the tests of this tree
            command_of(*workers, "-p", PROBE, "-m", "not serial", *arguments),
            cwd=folder,
            env={**environment_of(folder), probe.TRACE: str(rows)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=False,  # tests that fail here are left out
        )
        return read(rows, digests)


def read(folder: Path, digests: dict[str, str]) -> Trace:
    """Return the record that the probes left in `folder`, only of tests that passed."""
    reports = folder / probe.REPORTS
    seconds: dict[str, float] = defaultdict(float)
    failed = set()
    for report in reports.read_text().splitlines() if reports.exists() else ():
        test, outcome, duration = json.loads(report)
        seconds[test] += duration
        if outcome != "passed":
            failed.add(test)
    tests, partial = {}, 0
    for test in seconds.keys() - failed:
        path = folder / probe.file_of(test)
        rows = path.read_text().splitlines() if path.exists() else ()
        whole = [fields for row in rows if _is_whole(fields := row.split())]
        partial += len(rows) - len(whole)
        lines = frozenset((module, int(line)) for module, line in whole if module in digests)
        tests[test] = Test(round(seconds[test], 3), lines)
    if partial:
        sys.stderr.write(f"trace: {partial} rows were not written whole and are left out\n")
    return Trace(digests, tests)


def _is_whole(fields: list[str]) -> bool:
    """Return whether a row has a module and a line: a process that is killed writes a part."""
    return len(fields) == 2 and fields[1].isdigit()


def instrument(text: str, name: str) -> str:
    """Return the module with a call to the probe before each statement of its functions."""
    tree = ast.parse(text)
    _Instrument(name).visit(tree)
    preamble = list(itertools.takewhile(_is_preamble, tree.body))  # may be the whole module
    tree.body.insert(len(preamble), ast.Import([ast.alias(PROBE)]))
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
        call = ast.parse(f"{PROBE}.hit('{self._name} {statement.lineno}')").body[0]
        return [statement] if _is_preamble(statement) else [call, statement]
