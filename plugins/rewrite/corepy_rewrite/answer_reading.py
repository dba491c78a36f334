"""Parse the answer rules of a name rule, and replacements with groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import suggest
from corepy_rewrite.replacement import Replacement
from corepy_rewrite.steps import PatternRenaming
from corepy_rewrite.texts import matches_no_end, normal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.plugin import Controller, NamePattern, Token
    from corepy_rewrite.exchange import Step

_ANSWER: Final = "answer"
_AUTO: Final = "auto"
_NAME: Final = "name"
_VALUE: Final = "value"
_USAGE: Final = "answer auto, answer name FROM TO, or answer value FROM TO"


def read_answers(controller: Controller, words: Sequence[Token]) -> tuple[bool, list[Step]]:
    """Parse `answer auto | answer name FROM TO | answer value FROM TO ...`.

    The word `answer` may be left out, except the first. Return whether `auto` is there, and the
    steps of the others.
    """
    is_auto = False
    steps: list[Step] = []
    names: list[Token] = []
    at = 0
    while at < len(words):
        if words[at].text == _ANSWER:
            at += 1
        elif not at:
            hint = f"an answer rule is: {_USAGE}"
            raise controller.error(f"unknown option {words[at].text!r}", words[at], hint)
        if at == len(words):
            raise controller.error("answer without a rule", words[-1], _USAGE)
        kind, at = words[at], at + 1
        if kind.text == _AUTO:
            is_auto = True
            continue
        steps.append(_renaming(controller, kind, words[at : at + 2]))
        names += [kind] if kind.text == _NAME else []
        at += 2
    if is_auto and names:
        hint = "remove one of them: auto already changes names back"
        raise controller.error("answer auto and answer name exclude each other", names[0], hint)
    return is_auto, steps


def _renaming(controller: Controller, kind: Token, words: Sequence[Token]) -> Step:
    known = (_AUTO, _NAME, _VALUE)
    if kind.text not in known:
        near = suggest(kind.text, list(known))
        hint = f"did you mean {near!r}?" if near else _USAGE
        raise controller.error(f"unknown answer rule {kind.text!r}", kind, hint)
    is_auto = bool(words) and words[0].text == _AUTO  # as in an example of CoreDNS's README
    hint = f"write answer auto, without {kind.text}" if is_auto else _USAGE
    if len(words) < 2:
        message = f"too few arguments for answer {kind.text}: 2 arguments required"
        raise controller.error(message, words[-1] if words else kind, hint)
    if is_auto:
        message = f"'auto' is the pattern of answer {kind.text}, and {words[1].text!r} the new name"
        controller.warn(message, words[0], hint)
    pattern = read_pattern(controller, words[0], ignores_case=True)
    replacement = read_replacement(controller, pattern, words[1])
    return PatternRenaming(pattern, replacement, kind.text == _VALUE)


def read_pattern(controller: Controller, word: Token, *, ignores_case: bool = False) -> NamePattern:
    """Parse a pattern for names."""
    if matches_no_end(word.text):
        hint = r"write \.$ for the end of a name"
        controller.warn("this $ matches no name: names end with a dot", word, hint)
    return controller.name_pattern(word, ignores_case=ignores_case)


def read_replacement(controller: Controller, pattern: NamePattern, word: Token) -> Replacement:
    """Parse a replacement for matches of a pattern; refuse more groups than the pattern has."""
    replacement = Replacement(normal(word.text))
    if replacement.counted_groups > pattern.groups:
        hint = f"the pattern has {pattern.groups} groups; a group is written (...)"
        raise controller.error(
            f"{word.text!r} uses more groups than the pattern {pattern.text!r}", word, hint
        )
    lacking = sorted(number for number in replacement.numbers if number > pattern.groups)
    if lacking:
        message = f"{{{lacking[0]}}} stays as it is: the pattern has {pattern.groups} groups"
        controller.warn(message, word)
    return replacement
