r"""The directive $GENERATE of BIND, which makes records from a template and a range of numbers.

    $GENERATE START-STOP[/STEP] OWNER [TTL] [CLASS] TYPE RDATA

In the words of the template, `$` is the number, and `${OFFSET[,WIDTH[,BASE]]}` the number plus an
offset in a base: d, o, x or X, and n or N for the nibbles of a reverse name. `\$` is a dollar sign.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from corepy.dns.presentation import RecordError
from corepy.dns.presentation.words import Word

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST: Final = 65_536
"""Maximum records of one directive."""

WIDEST: Final = 255
"""Maximum characters of a number with leading zeros."""

_RANGE: Final = re.compile(r"([0-9]{1,10})-([0-9]{1,10})(?:/([0-9]{1,10}))?", re.ASCII)
_DOLLAR: Final = re.compile(r"\\(.)|\$(\{[^}]*\}?)?", re.DOTALL)
_MODIFIER: Final = re.compile(r"\{(-?[0-9]{1,10})(?:,([0-9]{1,10})(?:,([doxXnN]))?)?\}", re.ASCII)
_HIGHEST: Final = 0x7FFFFFFF


def expand(words: list[str]) -> Iterator[list[str]]:
    """Yield the words of each record; the first two are the directive and the range.

    Raises `RecordError` for a malformed directive.
    """
    if len(words) < 5:
        problem = "needs a range, an owner, a type and rdata"
        raise RecordError(problem, field="$GENERATE", word=len(words))
    for number in _numbers(words[1]):
        yield [_substitute(word, number, at) for at, word in enumerate(words[2:], 2)]


def _numbers(text: str) -> range:
    found = _RANGE.fullmatch(text)
    if found is None:
        problem = f"is not START-STOP or START-STOP/STEP: {text!r}"
        raise RecordError(problem, field="$GENERATE range", word=1)
    first, last, step = (int(it) if it else 1 for it in found.groups())
    if first > last or last > _HIGHEST or not step:
        raise RecordError(f"is empty or too high: {text!r}", field="$GENERATE range", word=1)
    numbers = range(first, last + 1, step)
    if len(numbers) > MOST:
        problem = f"has {len(numbers)} numbers; the limit is {MOST}"
        raise RecordError(problem, field="$GENERATE range", word=1)
    return numbers


def _substitute(word: str, number: int, at: int) -> str:
    if "$" not in word:
        return word

    def value(match: re.Match[str]) -> str:
        if match[1] is not None:
            return "$" if match[1] == "$" else match[0]
        return _formatted(number, match[2], at)

    text = _DOLLAR.sub(value, word)
    if type(word) is not Word:
        return text
    copy = Word(text)
    copy.quoted, copy.glued = word.quoted, word.glued
    return copy


def _formatted(number: int, modifier: str | None, at: int) -> str:
    if modifier is None:
        return str(number)
    found = _MODIFIER.fullmatch(modifier)
    if found is None:
        problem = f"is not ${{OFFSET}}, ${{OFFSET,WIDTH}} or ${{OFFSET,WIDTH,BASE}}: ${modifier}"
        raise RecordError(problem, field="$GENERATE modifier", word=at)
    number += int(found[1])
    width, base = int(found[2] or 0), found[3] or "d"
    if number < 0 or width > WIDEST:
        problem = f"gives a negative number, or one of more than {WIDEST} characters: ${modifier}"
        raise RecordError(problem, field="$GENERATE modifier", word=at)
    if base in "nN":
        return _nibbles(number, width, base)
    return format(number, f"0{width}{base}")


def _nibbles(number: int, width: int, base: str) -> str:
    """Return the digits in base 16 from the last to the first, separated by dots.

    As in BIND, `width` counts the dots between them.
    """
    digits = format(number, "X" if base == "N" else "x")
    digits = digits.rjust((width + 1) // 2, "0")
    return ".".join(reversed(digits))
