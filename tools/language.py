"""Measures how plain the English of docstrings, comments, documents and messages is.

    python tools/language.py corepy plugins docs
    python tools/language.py -messages corepy plugins

It counts some words per thousand. The limits are the highest ratios of flake8, starlette, trio and
click. Words beyond them mark sentences that have to be read twice.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LIMITS: Final = {
    r"what": 2.0,
    r"who": 0.5,
    r"(?:no|some|any)body": 0.1,
    r"stands?|lies": 0.2,
    r"is no|is none": 0.5,
    r"says?|tells?|hears?": 1.5,
}
"""Occurrences per thousand words."""

_FENCE: Final = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE: Final = re.compile(r"`[^`\n]*`|^ {4,}\S.*$|<[^>\n]*>|\]\([^)]*\)", re.MULTILINE)
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z'-]*")
_SHORTEST: Final = 3
"""String literals of fewer words are keys, names or parts of a format, not messages."""

_DIRECTIVE: Final = re.compile(r"(noqa|type:|mypy:|pragma:|fmt:|!).*")


def prose(path: Path) -> str:
    """Return the prose of a Python or Markdown file, without code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = "\n\n".join((*_docstrings(text), *_comments(text)))
    return _CODE.sub(" ", _FENCE.sub(" ", text))


def messages(path: Path) -> str:
    """Return the messages of a Python file: its string literals, except docstrings and words."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return "\n\n".join(it for it in _literals(tree) if len(_WORD.findall(it)) >= _SHORTEST)


def _literals(node: ast.AST) -> Iterator[str]:
    """Yield the string literals below `node`; values inside of one are replaced by a space."""
    match node:
        case ast.Expr(value=ast.Constant()):
            return  # a docstring
        case ast.Constant(value=str() as text):
            yield text
        case ast.JoinedStr(values=parts):
            yield " ".join(str(it.value) for it in parts if isinstance(it, ast.Constant))
            for part in parts:
                if isinstance(part, ast.FormattedValue):
                    yield from _literals(part.value)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _literals(child)


def _docstrings(text: str) -> Iterator[str]:
    """Yield the docstrings of modules, classes, functions and attributes."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str() as text_of_node)):
                yield text_of_node


def _comments(text: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield _DIRECTIVE.sub("", token.string.lstrip("#! "))


def ratios(texts: Iterable[str]) -> dict[str, float]:
    """Return the occurrences per thousand words of all texts, by pattern of `LIMITS`."""
    whole = "\n\n".join(texts)
    words = len(_WORD.findall(whole)) or 1
    return {it: 1000 * len(_pattern(it).findall(whole)) / words for it in LIMITS}


def _pattern(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{words})\b".replace(" ", r"\s+"), re.IGNORECASE)


def excess(texts: Iterable[str]) -> dict[str, float]:
    """Return the ratios above their limit."""
    return {it: ratio for it, ratio in ratios(texts).items() if ratio > LIMITS[it]}


def files(arguments: Sequence[str]) -> list[Path]:
    """Return the Python and Markdown files among the arguments, and in the folders among them."""
    found = []
    for path in map(Path, arguments):
        found += sorted((*path.rglob("*.py"), *path.rglob("*.md"))) if path.is_dir() else [path]
    return found


def main(arguments: Sequence[str]) -> None:
    """Print the ratios of each file that exceeds a limit, and of all together."""
    if "-messages" in arguments:
        found = files([it for it in arguments if it != "-messages"])
        texts = {path: messages(path) for path in found if path.suffix == ".py"}
    else:
        texts = {path: prose(path) for path in files(arguments)}
    for path, text in texts.items():
        over = excess([text])
        if over:
            _print_line(str(path), over)
    _print_line("all", ratios(texts.values()))


def _print_line(subject: str, found: dict[str, float]) -> None:
    columns = (f"{it}={ratio:.2f}" for it, ratio in found.items())
    sys.stdout.write(" ".join((subject, *columns)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
