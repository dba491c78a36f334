"""The parts of commands: constants, fields and calls. Each is compiled to one closure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from corepy_template import quoting
from corepy_template.rendering import Evaluate, Frame
from corepy_template.values import TemplateError, get_field, is_true
from corepy_template.values import call_member as call_value_member

if TYPE_CHECKING:
    from lark import Token

LITERALS: Final = ("NUMBER", "CHARACTER", "STRING", "RAW_STRING", "DOT")
"""Terminals that cannot take arguments in the middle of a pipeline."""

NAMED_CONSTANTS: Final = {"true": True, "false": False, "nil": None}

_FEWEST_INT, _MOST_INT = -(1 << 63), (1 << 63) - 1


def constant(token: Token) -> object:
    """Return the value of a literal; raises ValueError."""
    text = str(token)
    if token.type == "NAME":
        return NAMED_CONSTANTS[text]
    if token.type == "NUMBER":
        return _number(text)
    if token.type == "CHARACTER":
        return quoting.character(text)
    return quoting.unquote(text)


def _number(text: str) -> int | float:
    """Return an int unless the text has the form of a float, as Go's untyped constants."""
    digits = text.lstrip("+-").lower()
    if digits.startswith("0x") and "p" in digits:
        return float.fromhex(text.replace("_", ""))
    if not digits.startswith("0x") and ("." in digits or "e" in digits):
        return float(text)
    if len(digits) > 1 and digits[0] == "0" and (digits[1].isdigit() or digits[1] == "_"):
        text = text.replace("0", "0o", 1)  # an octal number in the old notation
    number = int(text, 0)
    if not _FEWEST_INT <= number <= _MOST_INT:
        raise ValueError(f"{text} overflows int")
    return number


def dot(frame: Frame) -> object:
    """Return the dot."""
    return frame.dot


def data(frame: Frame) -> object:
    """Return the data that the template was called with."""
    return frame.data


def variable(slot: int) -> Evaluate:
    """Return a closure that returns a variable."""
    return lambda frame: frame.variables[slot]


def after(first: Evaluate, slot: int, then: Evaluate) -> Evaluate:
    """Return a closure that stores the value of `first` in a variable and returns `then`."""

    def evaluate(frame: Frame) -> object:
        frame.variables[slot] = first(frame)
        return then(frame)

    return evaluate


def fields(base: Evaluate, names: Sequence[str]) -> Evaluate:
    """Return a closure for `base.name.name`."""
    for name in names:
        base = _field(base, name)
    return base


def _field(base: Evaluate, name: str) -> Evaluate:
    if base is dot:  # saves a call in the usual case
        return lambda frame: get_field(frame.dot, name)
    return lambda frame: get_field(base(frame), name)


def call(
    name: str, function: Callable[[Sequence[object]], object], arguments: Sequence[Evaluate]
) -> Evaluate:
    """Return a closure that calls a function.

    The sizes of its arguments are charged before the call, the size of its result before any use.
    """
    has_verbs = name == "printf"

    def evaluate(frame: Frame) -> object:
        values = [argument(frame) for argument in arguments]
        verbs = values[0].count("%") if has_verbs and isinstance(values[0], str) else 0
        frame.count_steps(1 + verbs)
        for value in values:
            frame.count_characters(value)
        try:
            result = function(values)
        except TemplateError as error:
            text = str(error)
            if text.startswith("error calling"):
                raise
            raise TemplateError(f"error calling {name}: {text}") from None
        frame.count_characters(result)
        return result

    return evaluate


def call_member(base: Evaluate, name: str, arguments: Sequence[Evaluate]) -> Evaluate:
    """Return a closure that calls a method."""

    def evaluate(frame: Frame) -> object:
        frame.count_steps()
        return call_value_member(base(frame), name, [argument(frame) for argument in arguments])

    return evaluate


def and_or(name: str, arguments: Sequence[Evaluate]) -> Evaluate:
    """Return a closure for `and` or `or`: the first deciding argument, otherwise the last.

    Later arguments are not evaluated.
    """
    if not arguments:
        return fail(f"wrong number of args for {name}: want at least 1 got 0")
    decides = name == "or"

    def evaluate(frame: Frame) -> object:
        value: object = None
        frame.count_steps(len(arguments))
        for argument in arguments:
            value = argument(frame)
            if is_true(value) is decides:
                break
        return value

    return evaluate


def fail(message: str) -> Evaluate:
    """Return a closure that raises an error for every query."""

    def evaluate(frame: Frame) -> object:
        raise TemplateError(message)

    return evaluate
