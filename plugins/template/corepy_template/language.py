"""The template language: compiles text into a `Template`.

A text without actions needs no grammar, and so does not import lark. Most *template* directives
have such texts.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy_template.rendering import SyntaxProblem as SyntaxProblem
from corepy_template.rendering import Template

if TYPE_CHECKING:
    from lark import Lark, UnexpectedInput

_OPENS: Final = "{{"
_SHOWN: Final = 20
_UNCLOSED: Final = "unclosed action"
_NUMBERED: Final = re.compile(r"\.Group\.(\d+)")
_NAMED: Final = re.compile(r"\{\{-?\s*(define|template|block)\b")
"""Go's actions that define and call named templates."""


def compile_template(
    text: str, data_fields: frozenset[str]
) -> tuple[Template, list[SyntaxProblem]]:
    """Return the template, and the problems that make every rendering fail.

    `data_fields` are the fields of the data. Raises `SyntaxProblem`.
    """
    if _OPENS not in text:
        return Template(text, None, 0, frozenset()), []
    from lark import LarkError, UnexpectedInput

    from corepy_template.compiler import Compiler

    compiler = Compiler(data_fields)
    try:
        tree = _parser().parse(text)
        node = compiler.body(tree.children[0])  # type: ignore[arg-type]  # start has one body
    except UnexpectedInput as error:
        message, offset = _explain(error, text)
        raise SyntaxProblem(message, offset, _hint(message, text, offset)) from None
    except (LarkError, RecursionError):
        raise SyntaxProblem("nested too deeply", 0) from None
    template = Template(text, node, compiler.variables, frozenset(compiler.fields))
    template.members, template.labels = compiler.members, compiler.labels
    return template, compiler.warnings


@functools.cache
def _parser() -> Lark:
    import lark

    grammar = Path(__file__).with_name("language.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, parser="lalr", lexer="contextual")


def _hint(message: str, text: str, offset: int) -> str | None:
    """Return a hint for a usual mistake, None for others."""
    if message == _UNCLOSED:
        return "an action ends with }}"
    group = _NUMBERED.match(text, offset)
    return group and f'a group without a name is: index .Group "{group[1]}"'


def _explain(error: UnexpectedInput, text: str) -> tuple[str, int]:
    """Return an error message and its offset."""
    named = _NAMED.search(text)
    if named is not None:
        return f"{{{{{named[1]}}}}} is not supported: a record is one template", named.start()
    at = error.pos_in_stream
    offset = len(text) if at is None or at < 0 else at
    opened = max(text.rfind(_OPENS, 0, offset + 1), 0)
    if text.find("}}", opened) < 0:
        return _UNCLOSED, opened
    if offset >= len(text) or getattr(getattr(error, "token", None), "type", "") == "$END":
        return "a block has no {{end}}", opened
    mark = text[offset]
    if mark in "\"`'" and text.find(mark, offset + 1) < 0:
        return "quoted text is not closed", offset
    rest = text[offset : offset + _SHOWN].split("}}")[0].strip() or text[offset : offset + 2]
    return f"unexpected {rest!r}", offset
