"""`printf`: Go's format verbs (package fmt) for the values of templates.

As in Go, mistakes in a format raise no error. They appear in the text, such as `%!d(string=x)`,
which then is not a valid record. Widths and precisions are limited, because a query may supply
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from corepy_template.values import MOST_TEXT, NO_VALUE, TemplateError, to_text, type_name
from corepy_template.verbs import Spec, scalar

_MOST: Final = 10_000
"""Maximum width and precision; Go allows a million, records need less."""

_INDEX: Final = r"(?:\[(\d+)\])?"
_VERB: Final = re.compile(
    rf"%([-+# 0]*){_INDEX}(\d+|\*)?(?:(\.){_INDEX}(\d+|\*)?)?{_INDEX}(.)?", re.DOTALL
)


class _Arguments:
    """The arguments that remain to be formatted."""

    def __init__(self, values: Sequence[object]) -> None:
        self.values = values
        self.at = 0
        self.reordered = False
        self.bad_index = False
        self.length = 0
        """Characters that the verbs have produced so far."""

    def go_to(self, index: str | None) -> None:
        """Continue at the argument with this number, counted from 1."""
        if index is not None:
            self.reordered = True
            at = int(index[:9]) - 1
            self.bad_index = not 0 <= at < len(self.values)
            self.at = self.at if self.bad_index else at

    def number(self, digits: str | None) -> int | None:
        """Return a width or precision: digits, or "*" for the next argument; None if invalid."""
        if digits != "*":
            number: object = int((digits or "0")[:9])
        else:
            number = self.values[self.at] if 0 <= self.at < len(self.values) else None
            self.at += 1
        if type(number) is not int or not -_MOST <= number <= _MOST:
            return None
        return number


def sprintf(text: str, values: Sequence[object]) -> str:
    """Return `text` with its verbs replaced by values (Go: fmt.Sprintf)."""
    arguments = _Arguments(values)
    formatted = _VERB.sub(lambda match: _bounded(_replace(match, arguments), arguments), text)
    extra = values[arguments.at :]
    if extra and not arguments.reordered:
        listed = ", ".join(_typed(value) for value in extra)
        formatted += f"%!(EXTRA {listed})"
    return formatted


def _bounded(piece: str, arguments: _Arguments) -> str:
    """Return a piece of the text; raises TemplateError if all pieces together are too long."""
    arguments.length += len(piece)
    _check(arguments.length)
    return piece


def _joined(pieces: Iterable[str]) -> str:
    """Join pieces with spaces; raises TemplateError as soon as the result is too long."""
    kept: list[str] = []
    length = 0
    for piece in pieces:
        kept.append(piece)
        length += len(piece)
        _check(length)
    return " ".join(kept)


def _check(length: int) -> None:
    if length > MOST_TEXT:
        raise TemplateError(f"a string is longer than {MOST_TEXT} characters")


def _typed(value: object) -> str:
    if value is None or value is NO_VALUE:
        return "<nil>"
    return f"{type_name(value)}={to_text(value)}"


def _replace(match: re.Match[str], arguments: _Arguments) -> str:
    flags, width_index, width, dot, precision_index, precision, index, verb = match.groups()
    spec = Spec(flags)
    arguments.bad_index = False
    complaint = ""
    arguments.go_to(width_index if width == "*" or index is None else None)
    if width is not None:
        number = arguments.number(width)
        complaint += "%!(BADWIDTH)" if number is None else ""
        spec.width = abs(number or 0)
        if number is not None and number < 0:
            spec.minus, spec.zero = True, False
    if dot:
        arguments.go_to(precision_index)
        number = arguments.number(precision)
        complaint += "%!(BADPREC)" if number is None else ""
        spec.precision = -1 if number is None or number < 0 else number
    arguments.go_to(index)
    return complaint + _take(spec, verb, arguments)


def _take(spec: Spec, verb: str | None, arguments: _Arguments) -> str:
    if verb is None:
        return "%!(NOVERB)"
    if verb == "%":
        return "%"
    if arguments.bad_index:
        return f"%!{verb}(BADINDEX)"
    if arguments.at >= len(arguments.values):
        return f"%!{verb}(MISSING)"
    value = arguments.values[arguments.at]
    arguments.at += 1
    spec.verb = verb
    return _format(spec, value)


def _format(spec: Spec, value: object) -> str:
    if spec.verb == "T":
        return spec.pad(type_name(value))
    if value is None or value is NO_VALUE:
        return spec.pad("<nil>") if spec.verb == "v" else f"%!{spec.verb}(<nil>)"
    if isinstance(value, (list, tuple)):
        return f"[{_joined(_format(spec, each) for each in value)}]"
    if isinstance(value, dict):
        pairs = (f"{_format(spec, key)}:{_format(spec, value[key])}" for key in sorted(value))
        return f"map[{_joined(pairs)}]"
    formatted = scalar(spec, value)
    if formatted is not None:
        return formatted
    verb, spec.verb = spec.verb, "v"
    complaint = f"%!{verb}({type_name(value)}={scalar(spec, value)})"
    spec.verb = verb
    return complaint
