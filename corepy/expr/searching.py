"""Compiles `matches` and `in`, which prepare a constant right side when they are compiled."""

from __future__ import annotations

import re
from typing import Any, Final

from corepy.expr import expr_values as v
from corepy.expr.expr_environment import Compiled
from corepy.expr.frame import Evaluate, ExpressionError, Frame
from corepy.expr.operators import TypeProblem
from corepy.expr.value_types import BOOL, INT, STRING, Kind, is_assignable, is_comparable
from corepy.plugin.pattern import compile_pattern

_STEPS_OF_A_PATTERN: Final = 5_000
"""Steps that compiling a pattern counts as, so that a predicate cannot compile many."""

_MEMORY_OF_A_PATTERN: Final = 1 << 20
"""Bytes of a pattern that is not constant: it may come from a query."""

_REPETITION: Final = re.compile(r"\{([0-9]{1,4})(?:,([0-9]{0,4}))?\}")
_MOST_REPETITIONS: Final = 1000
"""The largest number of repetitions in RE2, also of nested ones together."""


def matches(left: Compiled, right: Compiled) -> Compiled:
    """Return `left matches right`; raises TypeProblem, ValueError for an invalid pattern."""
    if not (left.type.may_be(Kind.STRING) and right.type.may_be(Kind.STRING)):
        raise TypeProblem(f"matches needs two strings, not {left.type} and {right.type}")
    run = left.run
    if not right.is_constant or type(right.value) is not str:
        pattern_of = right.run
        return Compiled(BOOL, lambda frame: _match(frame, run(frame), pattern_of(frame)))
    search = compile_pattern(right.value, for_bytes=True).search
    if left.type is STRING and left.is_short:
        return Compiled(BOOL, lambda frame: search(v.to_bytes(run(frame))) is not None)

    def evaluate(frame: Frame) -> bool:
        value = run(frame)
        if value is None:
            return False
        _count(frame, v.as_text(value, "matches"))
        return search(v.to_bytes(value)) is not None

    return Compiled(BOOL, evaluate)


def _count(frame: Frame, text: str) -> None:
    """Count the search in a text; the time may be that of all states for each character."""
    frame.take(len(text))
    frame.step(len(text))


def _match(frame: Frame, text: object, pattern: object) -> bool:
    if text is None or pattern is None:
        return False
    searched, expression = v.as_text(text, "matches"), v.as_text(pattern, "matches")
    _count(frame, searched)
    frame.take(len(expression))
    frame.step(_STEPS_OF_A_PATTERN + _size(expression))
    try:
        search = compile_pattern(expression, for_bytes=True, memory=_MEMORY_OF_A_PATTERN).search
    except ValueError as error:
        raise ExpressionError(str(error)) from None
    return search(v.to_bytes(searched)) is not None


def _size(pattern: str) -> int:
    """Return the maximum length of a pattern without `{n}`, as RE2 writes all repetitions out."""
    repetitions = 1
    for least, most in _REPETITION.findall(pattern):
        repetitions *= max(int(most or least), 1)
        if repetitions >= _MOST_REPETITIONS:
            return len(pattern) * _MOST_REPETITIONS
    return len(pattern) * repetitions


def is_in(left: Compiled, right: Compiled) -> Compiled:
    """Return `left in right`; raises TypeProblem."""
    _check(left, right)
    run, other = left.run, right.run
    known = _known(left, right)
    if known is not None:
        return Compiled(BOOL, lambda frame: run(frame) in known)
    return Compiled(BOOL, lambda frame: v.is_in(run(frame), other(frame), frame))


def _known(left: Compiled, right: Compiled) -> frozenset[Any] | range | None:
    """Return a constant array for a fast search; None if its elements are of several types."""
    values = right.value
    if not right.is_constant or not isinstance(values, v.ARRAYS):
        return None
    if isinstance(values, range):
        return values if left.type is INT else None
    for type_, kind in ((STRING, str), (INT, int)):
        if left.type is type_ and all(type(each) is kind for each in values):
            return frozenset(values)
    return None


def _check(left: Compiled, right: Compiled) -> None:
    one, other = left.type, right.type
    if other.kind is Kind.ANY:
        return
    if other.kind is Kind.MAP:
        if one.kind is Kind.ANY or not other.has_string_keys or is_assignable(one, STRING):
            return
        raise TypeProblem(f"the keys of the map are strings, so {one} is never in it")
    if other.kind is Kind.ARRAY:
        if is_comparable(one, other.elements):
            return
        raise TypeProblem(f"an element of the array is never a value of the type {one}")
    hint = "contains searches in a string" if other.kind is Kind.STRING else None
    raise TypeProblem(f"in needs an array or a map on the right, not {other}", hint)


def in_range(left: Compiled, first: Compiled, last: Compiled) -> Evaluate | None:
    """Return `left in first..last` without making the array; None for types not known to be int."""
    if not left.type == first.type == last.type == INT:
        return None
    run, start, end = left.run, first.run, last.run
    return lambda frame: start(frame) <= run(frame) <= end(frame)
