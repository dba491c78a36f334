"""Highlights Corefiles in the documentation: a Pygments lexer, and a fence for mkdocs."""

from __future__ import annotations

from typing import Any, ClassVar

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import RegexLexer, bygroups
from pygments.token import Comment, Keyword, Name, Number, Punctuation, String, Text, Whitespace


class CorefileLexer(RegexLexer):  # type: ignore[misc]  # pygments has no types
    """Splits a Corefile into tokens; the kind of a word depends on its position in the line."""

    name = "Corefile"
    aliases: ClassVar = ["corefile"]
    tokens: ClassVar = {
        "root": [
            (r"\s+", Whitespace),
            (r"#.*$", Comment.Single),
            (r"\}", Punctuation),
            (r"(\()([^)\s]*)(\))", bygroups(Punctuation, Name.Label, Punctuation), "key"),
            (r"import\b", Keyword.Namespace, "arguments"),
            (r"(?=\S)", Text, "key"),
        ],
        "key": [
            (r"\{(?=\s)", Punctuation, ("#pop", "block")),
            (r"\n", Whitespace),
            (r"[^\s{#]+", Name.Namespace),
            (r"[^\S\n]+", Whitespace),
            (r"#.*$", Comment.Single),
            (r"\{[$%][^}\s]*\}", Name.Variable),
            (r".", Text),
        ],
        "block": [
            (r"\s+", Whitespace),
            (r"#.*$", Comment.Single),
            (r"\}", Punctuation, "#pop"),
            (r"import\b", Keyword.Namespace, "arguments"),
            (r"[^\s{}#]+", Keyword, "arguments"),
            (r".", Text),
        ],
        "arguments": [
            (r"\n", Whitespace, "#pop"),
            (r"[^\S\n]+", Whitespace),
            (r"#.*$", Comment.Single),
            (r"\{[$%][^}\s]*[%]?\}", Name.Variable),
            (r"\{\n", Punctuation, ("#pop", "options")),
            (r"\{(?=\s)", Punctuation, ("#pop", "options")),
            (r'"(?:\\.|[^"\\])*"', String),
            (r"\d[\d.:]*(?:[a-zA-Z]{1,3}|%|/\d+)?(?=\s)", Number),
            (r"[^\s\"]+?(?=\{[$%]|\s)", Text),
            (r".", Text),
        ],
        "options": [
            (r"\s+", Whitespace),
            (r"#.*$", Comment.Single),
            (r"\}", Punctuation, "#pop"),
            (r"[^\s{}#]+", Name.Attribute, "arguments"),
            (r".", Text),
        ],
    }


def fence(source: str, _language: str, css_class: str, *_: Any, **__: Any) -> str:
    """Return the HTML of a code block (pymdownx.superfences: custom formatter)."""
    formatter = HtmlFormatter(cssclass=css_class, wrapcode=True)
    html: str = highlight(source, CorefileLexer(), formatter)
    return html
