"""The functions of templates: the functions of text/template, and CoreDNS's `parseInt`.

A function takes the values of its arguments and returns one; it raises `TemplateError` for invalid
arguments. `and` and `or` are in operands.py, because they do not evaluate all of their arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from corepy_template.comparing import equals_any, is_at_most, is_less, is_nothing
from corepy_template.formatting import sprintf
from corepy_template.values import (
    NO_VALUE,
    TemplateError,
    from_bytes,
    is_true,
    show,
    to_bytes,
    to_text,
    type_name,
)

MANY: Final = 1 << 30


class Function(NamedTuple):
    """A function and its permitted numbers of arguments."""

    call: Callable[[Sequence[object]], object]
    fewest: int
    most: int = MANY

    def complaint(self, name: str, given: int) -> str | None:
        """Return an error message for a call with `given` arguments, None if it is valid."""
        if self.fewest <= given <= self.most:
            return None
        want = f"at least {self.fewest}" if self.most == MANY else str(self.fewest)
        return f"wrong number of args for {name}: want {want} got {given}"


def sprint(values: Sequence[object]) -> str:
    """Return the values' texts, with a space between two non-strings (Go: fmt.Sprint)."""
    pieces: list[str] = []
    previous: object = ""
    for value in values:
        if pieces and not (isinstance(previous, str) or isinstance(value, str)):
            pieces.append(" ")
        pieces.append(to_text(value))
        previous = value
    return "".join(pieces)


def _println(values: Sequence[object]) -> str:
    return " ".join(map(to_text, values)) + "\n"


def _printf(values: Sequence[object]) -> str:
    text, *arguments = values
    return sprintf(_string(text), arguments)


def _string(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None or value is NO_VALUE:
        raise TemplateError("invalid value; expected string")
    raise TemplateError(f"wrong type for value; expected string; got {type_name(value)}")


def _integer(value: object) -> int:
    if type(value) is int:
        return value
    if value is None or value is NO_VALUE:
        raise TemplateError("invalid value; expected int")
    raise TemplateError(f"wrong type for value; expected int; got {type_name(value)}")


_DIGITS: Final = re.compile(r"[0-9a-zA-Z]++(?:_[0-9a-zA-Z]++)*+\Z", re.ASCII)
_PREFIX: Final = re.compile(r"0(?:([bB])_?|([oO])_?|([xX])_?|_?(?=[0-9]))")


def _parse_int(values: Sequence[object]) -> int:
    """Go's strconv.ParseUint: text, base (0 means from the prefix) and bits."""
    text, base, bits = _string(values[0]), _integer(values[1]), _integer(values[2])
    digits = text
    if base == 0:
        match = _PREFIX.match(text)
        base = 10 if match is None else {1: 2, 2: 8, 3: 16, None: 8}[match.lastindex]
        digits = text if match is None else text[match.end() :]
        digits = digits.replace("_", "") if _DIGITS.match(digits) else "_"
    if not 2 <= base <= 36:
        raise TemplateError(f"parsing {to_text(text)!r}: invalid base {base}")
    if not 0 <= bits <= 64:
        raise TemplateError(f"parsing {to_text(text)!r}: invalid bit size {bits}")
    if len(digits) > 255 or not _DIGITS.match(digits) or "_" in digits:
        raise TemplateError(f"parsing {text!r}: invalid syntax")
    try:
        number = int(digits, base)
    except ValueError:
        raise TemplateError(f"parsing {text!r}: invalid syntax") from None
    if number >> (bits or 64):
        raise TemplateError(f"parsing {text!r}: value out of range")
    return number


def _length(value: object) -> int:
    if isinstance(value, str):
        return len(to_bytes(value))
    if isinstance(value, (list, tuple, dict)):
        return len(value)
    if is_nothing(value):
        raise TemplateError("len of nil pointer")
    raise TemplateError(f"len of type {type_name(value)}")


def _index(values: Sequence[object]) -> object:
    item, *indexes = values
    if is_nothing(item):
        raise TemplateError("index of untyped nil")
    for index in indexes:
        item = _item(item, index)
    return item


def _item(container: object, index: object) -> object:
    if isinstance(container, dict):
        return container.get(_string(index), "")
    if not isinstance(container, (str, list, tuple)):
        raise TemplateError(f"can't index item of type {type_name(container)}")
    sequence = to_bytes(container) if isinstance(container, str) else container
    return sequence[_position(index, len(sequence) - 1)]


def _position(index: object, last: int) -> int:
    if is_nothing(index):
        raise TemplateError("cannot index slice/array with nil")
    if type(index) is not int:
        raise TemplateError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= last:
        raise TemplateError(f"index out of range: {index}")
    return index


def _slice(values: Sequence[object]) -> object:
    item, *indexes = values
    if is_nothing(item):
        raise TemplateError("slice of untyped nil")
    if len(indexes) > 3:
        raise TemplateError(f"too many slice indexes: {len(indexes)}")
    if not isinstance(item, (str, list, tuple)):
        raise TemplateError(f"can't slice item of type {type_name(item)}")
    if isinstance(item, str) and len(indexes) == 3:
        raise TemplateError("cannot 3-index slice a string")
    sequence = to_bytes(item) if isinstance(item, str) else item
    bounds = [_position(index, len(sequence)) for index in indexes]
    if bounds != sorted(bounds):
        raise TemplateError(f"invalid slice index: {bounds[0]} > {bounds[1]}")
    cut = sequence[bounds[0] if bounds else 0 : bounds[1] if len(bounds) > 1 else None]
    return from_bytes(cut) if isinstance(cut, bytes) else cut


def _call(values: Sequence[object]) -> object:
    if is_nothing(values[0]):
        raise TemplateError("call of nil")
    raise TemplateError(f"non-function of type {type_name(values[0])}")


def _joined(values: Sequence[object]) -> str:
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return sprint([show(value) if is_nothing(value) else value for value in values])


_HTML: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;", "\0": "\ufffd"}
)
_JS: Final = {"\\": r"\\", "'": r"\'", '"': r"\""} | {c: f"\\u{ord(c):04X}" for c in "<>&="}


def _js(values: Sequence[object]) -> str:
    return "".join(
        _JS.get(c) or (c if c.isprintable() else f"\\u{ord(c):04X}") for c in _joined(values)
    )


def _urlquery(values: Sequence[object]) -> str:
    from urllib.parse import quote_plus

    return quote_plus(to_bytes(_joined(values)))


FUNCTIONS: Final[dict[str, Function]] = {
    "call": Function(_call, 1),
    "eq": Function(equals_any, 1),
    "ge": Function(lambda values: not is_less(values), 2, 2),
    "gt": Function(lambda values: not is_at_most(values), 2, 2),
    "html": Function(lambda values: _joined(values).translate(_HTML), 0),
    "index": Function(_index, 1),
    "js": Function(_js, 0),
    "le": Function(is_at_most, 2, 2),
    "len": Function(lambda values: _length(values[0]), 1, 1),
    "lt": Function(is_less, 2, 2),
    "ne": Function(lambda values: not equals_any(values), 2, 2),
    "not": Function(lambda values: not is_true(values[0]), 1, 1),
    "parseInt": Function(_parse_int, 3, 3),
    "print": Function(sprint, 0),
    "printf": Function(_printf, 1),
    "println": Function(_println, 0),
    "slice": Function(_slice, 1),
    "urlquery": Function(_urlquery, 0),
}
