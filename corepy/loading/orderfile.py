"""Parses the operator's order of the chain: `corepy -plugin-order FILE`.

    # the rewriting first, then everything else that is ours
    rewriter before log
    audit    after rewriter before cache

Each line names a directive and, after `before` or `after`, one or more directives that it must
precede or follow. `#` begins a comment. All lines for a directive apply together, and replace its
own constraints or its fixed position.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.corefile import CorefileError, Diagnostic, Source, Token, suggest
from corepy.loading.order import DIRECTIVES, OperatorRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

RELATIONS: Final = ("before", "after")
_WORD: Final = re.compile(r"\S+")
_HINT: Final = "a line is: DIRECTIVE before|after DIRECTIVE..."


def load_order(path: str) -> list[OperatorRule]:
    """Return the rules of a file; raises `CorefileError` with every error in it.

    It is also raised if the file cannot be read.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig", "replace")
    except OSError as error:
        reason = f"cannot read the plugin order {path}: {error.strerror}"
        raise CorefileError(Diagnostic(reason)) from error
    return parse_order(text, path)


def parse_order(text: str, name: str) -> list[OperatorRule]:
    """Return the rules of a text; messages refer to it as `name`. Raises `CorefileError`."""
    source = Source(name, text)
    rules: list[OperatorRule] = []
    mistakes: list[Diagnostic] = []
    for number, line in enumerate(text.split("\n"), 1):
        words = [
            Token(match[0], match[0], source, number, match.start() + 1, len(match[0]))
            for match in _WORD.finditer(line.partition("#")[0])
        ]
        try:
            rules += _rules(words)
        except CorefileError as error:
            mistakes += error.diagnostics
    if mistakes:
        raise CorefileError(*mistakes)
    return rules


def _rules(words: Sequence[Token]) -> Iterator[OperatorRule]:
    if not words:
        return
    subject, relation = words[0], None
    for word, following in itertools.zip_longest(words[1:], words[2:]):
        if word.text in RELATIONS:
            if following is None or following.text in RELATIONS:
                raise _mistake(f"a directive is missing after {word.text!r}", word)
            relation = word.text
        elif relation is None:
            near = suggest(word.text, RELATIONS)
            hint = f"did you mean {near!r}?" if near else _HINT
            raise _mistake(f"expected 'before' or 'after', not {word.text!r}", word, hint)
        else:
            yield OperatorRule(subject, relation, word)
    if relation is None:
        raise _mistake(f"the rule for {subject.text!r} is incomplete", subject)


def _mistake(message: str, token: Token, hint: str = _HINT) -> CorefileError:
    return CorefileError(Diagnostic(message, token, hint))


def unknown_names(rules: Sequence[OperatorRule], installed: Iterable[str]) -> list[Diagnostic]:
    """Return an error for each name in `rules` that is neither installed nor built in."""
    known = {*installed, *DIRECTIVES}
    tokens = (token for rule in rules for token in (rule.subject, rule.other))
    mistakes = []
    for token in dict.fromkeys(tokens):
        if token.text in known:
            continue
        near = suggest(token.text, sorted(known))
        hint = (
            f"did you mean {near!r}?" if near else "`corepy -plugins` lists the installed plugins"
        )
        mistakes.append(Diagnostic(f"unknown directive {token.text!r}", token, hint))
    return mistakes
