"""The template language: text in, `Template` out.

A text without actions needs no grammar and so no lark; most *template* directives are such.
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
_NAMED: Final = re.compile(r"\{\{-?\s*(define|template|block)\b")
"""Go's ways to name templates and call them."""


def compile_template(
    text: str, data_fields: frozenset[str]
) -> tuple[Template, list[SyntaxProblem]]:
    """Return the template, and what will fail whenever it is rendered.

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
        raise SyntaxProblem(message, offset) from None
    except (LarkError, RecursionError):
        raise SyntaxProblem("nested too deeply", 0) from None
    return Template(text, node, compiler.variables, frozenset(compiler.fields)), compiler.doubts


@functools.cache
def _parser() -> Lark:
    import lark

    grammar = Path(__file__).with_name("language.lark").read_text(encoding="utf-8")
    return lark.Lark(grammar, parser="lalr", lexer="contextual")


def _explain(error: UnexpectedInput, text: str) -> tuple[str, int]:
    """Return what is wrong, and where."""
    named = _NAMED.search(text)
    if named is not None:
        return f"{{{{{named[1]}}}}} is not supported: a record is one template", named.start()
    offset = error.pos_in_stream
    token = getattr(error, "token", None)
    if offset is None or offset >= len(text) or (token is not None and token.type == "$END"):
        opened = max(text.rfind(_OPENS), 0)
        closed = text.find("}}", opened) >= 0
        return ("a block has no {{end}}" if closed else "unclosed action"), opened
    rest = text[offset : offset + 20].split("}}")[0].strip() or text[offset : offset + 2].strip()
    if text[offset] in "\"`'" and token is None:
        return "unterminated or misplaced quoted text", offset
    return f"unexpected {rest or text[offset]!r}", offset
