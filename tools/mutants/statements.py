"""Finds the statements that depend on a line of a module."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@lru_cache
def _statements(text: str) -> list[ast.stmt]:
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)]


def _around(text: str, line: int) -> Iterator[ast.stmt]:
    return (it for it in _statements(text) if it.lineno <= line <= (it.end_lineno or it.lineno))


def innermost(text: str, line: int) -> int:
    """Return the line where the innermost statement around `line` begins."""
    return max(it.lineno for it in _around(text, line))


def is_inside_a_function(text: str, line: int) -> bool:
    """Return whether a line belongs to the body of a function."""
    return any(
        it.body[0].lineno <= line
        for it in _around(text, line)
        if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def using(module: str, line: int, texts: dict[str, str]) -> set[tuple[str, int]] | None:
    """Return the statements in functions that use a name which a line outside of functions defines.

    They use it directly or by way of other such names, and are (module, line) pairs. None for a
    line inside of a function.
    """
    if is_inside_a_function(texts[module], line):
        return None
    found: set[tuple[str, int]] = set()
    waiting, known = _names(texts[module], line), set[str]()
    while waiting - known:
        name = (waiting - known).pop()
        known.add(name)
        for other, text in texts.items():
            for number in _lines_with(name, text):
                if is_inside_a_function(text, number):
                    found.add((other, innermost(text, number)))
                else:
                    waiting |= _names(text, number)
    return found


def _lines_with(name: str, text: str) -> list[int]:
    if name not in text:
        return []
    word = re.compile(rf"\b{name}\b")
    return [number for number, row in enumerate(text.splitlines(), 1) if word.search(row)]


def _names(text: str, line: int) -> set[str]:
    """Return the names that the innermost statement around a line defines, and of its classes:
    who makes an object uses the defaults of its fields without naming them.
    """
    classes = {it.name for it in _around(text, line) if isinstance(it, ast.ClassDef)}
    node = max(_around(text, line), key=lambda it: it.lineno, default=None)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name} | classes
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    names = (it for target in targets if target for it in ast.walk(target))
    return {it.id for it in names if isinstance(it, ast.Name)} | classes
