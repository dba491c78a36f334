"""Compiles `and`, `or` and `??`, which evaluate their right side only if the value needs it."""

from __future__ import annotations

from typing import Any

from corepy.expr import expr_values as v
from corepy.expr.expr_environment import Compiled
from corepy.expr.frame import Evaluate, Frame
from corepy.expr.operators import TypeProblem
from corepy.expr.value_types import ANY, BOOL, Kind, Type


def all_of(parts: list[Compiled]) -> Compiled:
    """Return `a and b and ...`: the value of the last part if the others are true."""
    runs, last, type_ = _conditions(parts, "and")
    if len(runs) == 1:
        (first,) = runs
        return Compiled(type_, lambda frame: first(frame) and last(frame))

    def evaluate(frame: Frame) -> Any:
        for run in runs:
            if not run(frame):
                return False
        return last(frame)

    return Compiled(type_, evaluate)


def any_of(parts: list[Compiled]) -> Compiled:
    """Return `a or b or ...`: the value of the last part if the others are false."""
    runs, last, type_ = _conditions(parts, "or")
    if len(runs) == 1:
        (first,) = runs
        return Compiled(type_, lambda frame: first(frame) or last(frame))

    def evaluate(frame: Frame) -> Any:
        for run in runs:
            if run(frame):
                return True
        return last(frame)

    return Compiled(type_, evaluate)


def _conditions(
    parts: list[Compiled], operator: str
) -> tuple[tuple[Evaluate, ...], Evaluate, Type]:
    """Return the parts but the last one, the last one, and the type of the whole.

    As in expr-lang, the value of the last part is not checked; it is that of the whole.
    """
    for part in parts:
        if not part.type.may_be(Kind.BOOL):
            raise TypeProblem(f"{operator} needs a bool on both sides, not {part.type}")
    *firsts, last = parts
    runs = tuple(it.run if it.type is BOOL else checked_bool(it.run) for it in firsts)
    return runs, last.run, last.type


def checked_bool(run: Evaluate) -> Evaluate:
    """Return a condition that fails if the value is not a bool."""
    return lambda frame: v.as_bool(run(frame))


def coalesce(left: Compiled, right: Compiled) -> Compiled:
    """Return `left ?? right`."""
    one, other = left.run, right.run

    def evaluate(frame: Frame) -> Any:
        value = one(frame)
        return other(frame) if value is None else value

    if left.type.kind is Kind.NIL:
        return Compiled(right.type, evaluate)
    is_same = right.type.kind is Kind.NIL or right.type == left.type
    return Compiled(left.type if is_same else ANY, evaluate)
