"""`printf`: Go's format verbs (package fmt) for the values that templates have.

Mistakes in a format are no errors: as in Go they show in the text, such as `%!d(string=x)`, which
then is no valid record. Widths and precisions are bounded as there, since a query may supply them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from corepy_template.quoting import quote, quote_character
from corepy_template.values import NO_VALUE, Struct, float_text, to_bytes, to_text, type_name

_MOST: Final = 10_000
"""The widest and most precise that is asked for; Go takes a million, a record has no use for it."""

_INDEX: Final = r"(?:\[(\d+)\])?"
_VERB: Final = re.compile(
    rf"%([-+# 0]*){_INDEX}(\d+|\*)?(?:(\.){_INDEX}(\d+|\*)?)?{_INDEX}(.)?", re.DOTALL
)
_BASES: Final = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_PREFIXES: Final = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}


class _Spec:
    """One verb with its flags; `precision` is -1 if none is given."""

    __slots__ = ("minus", "plus", "precision", "sharp", "space", "verb", "width", "zero")

    def __init__(self, flags: str) -> None:
        self.minus = "-" in flags
        self.plus = "+" in flags
        self.sharp = "#" in flags
        self.space = " " in flags
        self.zero = "0" in flags and not self.minus
        self.width = 0
        self.precision = -1
        self.verb = ""

    def pad(self, text: str) -> str:
        """Return `text` as wide as asked for."""
        if self.minus:
            return text.ljust(self.width)
        return text.rjust(self.width, "0" if self.zero else " ")

    def pad_number(self, sign: str, digits: str) -> str:
        """Return a number as wide as asked for, zeros standing behind the sign."""
        if self.zero:
            return sign + digits.rjust(self.width - len(sign), "0")
        return self.pad(sign + digits)

    def sign(self, negative: bool) -> str:
        """Return what stands in front of a number."""
        return "-" if negative else "+" if self.plus else " " if self.space else ""


class _Arguments:
    """What is left to be formatted."""

    def __init__(self, values: Sequence[object]) -> None:
        self.values = values
        self.at = 0
        self.reordered = False
        self.bad_index = False

    def go_to(self, index: str | None) -> None:
        """Continue at the argument with this number, counted from 1."""
        if index is not None:
            self.reordered = True
            self.at = int(index[:9]) - 1
            self.bad_index = not 0 <= self.at < len(self.values)

    def number(self, digits: str | None) -> int | None:
        """Return a width or precision: digits, or "*" for the next argument; None if unusable."""
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
    formatted = _VERB.sub(lambda match: _replace(match, arguments), text)
    extra = values[arguments.at :]
    if extra and not arguments.reordered:
        listed = ", ".join(_typed(value) for value in extra)
        formatted += f"%!(EXTRA {listed})"
    return formatted


def _typed(value: object) -> str:
    if value is None or value is NO_VALUE:
        return "<nil>"
    return f"{type_name(value)}={to_text(value)}"


def _replace(match: re.Match[str], arguments: _Arguments) -> str:
    flags, width_index, width, dot, precision_index, precision, index, verb = match.groups()
    spec = _Spec(flags)
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


def _take(spec: _Spec, verb: str | None, arguments: _Arguments) -> str:
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


def _format(spec: _Spec, value: object) -> str:
    if spec.verb == "T":
        return spec.pad(type_name(value))
    if value is None or value is NO_VALUE:
        return spec.pad("<nil>") if spec.verb == "v" else f"%!{spec.verb}(<nil>)"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(_format(spec, each) for each in value)}]"
    if isinstance(value, dict):
        pairs = (f"{_format(spec, key)}:{_format(spec, value[key])}" for key in sorted(value))
        return f"map[{' '.join(pairs)}]"
    formatted = _scalar(spec, value)
    return f"%!{spec.verb}({_typed(value)})" if formatted is None else formatted


def _scalar(spec: _Spec, value: object) -> str | None:
    """Return a value that has no parts, None if the verb is none for it."""
    if isinstance(value, bool):
        return spec.pad(to_text(value)) if spec.verb in "tv" else None
    if isinstance(value, int):
        return _integer(spec, value)
    if isinstance(value, float):
        return _float(spec, value)
    return _string(spec, str(value) if isinstance(value, Struct) else to_text(value))


def _integer(spec: _Spec, value: int) -> str | None:
    if spec.verb in "cqU":
        return _character(spec, value)
    base = _BASES.get(spec.verb)
    if base is None:
        return None
    digits = format(abs(value), base)
    if spec.precision >= 0:
        digits = "" if spec.precision == value == 0 else digits.rjust(spec.precision, "0")
        spec.zero = False
        if not digits:
            return " " * spec.width
    sign = spec.sign(value < 0)
    if spec.zero:
        digits = digits.rjust(spec.width - len(sign), "0")
    if spec.verb == "O":
        digits = "0o" + digits
    elif spec.sharp and base in _PREFIXES and not (base == "o" and digits[0] == "0"):
        digits = _PREFIXES[base] + digits
    spec.zero = False
    return spec.pad(sign + digits)


def _character(spec: _Spec, value: int) -> str:
    known = 0 <= value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF
    char = chr(value) if known else "\ufffd"
    if spec.verb == "c":
        return spec.pad(char)
    if spec.verb == "q":
        return spec.pad(quote_character(char, ascii_only=spec.plus))
    code = f"U+{value:0{max(4, spec.precision)}X}"
    if spec.sharp and known and char.isprintable():
        code += f" '{char}'"
    spec.zero = False
    return spec.pad(code)


def _float(spec: _Spec, value: float) -> str | None:
    verb = "g" if spec.verb == "v" else "f" if spec.verb == "F" else spec.verb
    if verb not in "eEfgG":
        return None
    finite = value - value == 0
    if not finite:
        digits = float_text(abs(value)).removeprefix("+")
        spec.zero = False
    elif verb in "gG" and spec.precision < 0:
        digits = float_text(abs(value))
        digits = digits.upper() if verb == "G" else digits
    else:
        digits = f"{abs(value):.{6 if spec.precision < 0 else spec.precision}{verb}}"
    negative = value < 0 or (value == 0 and str(value)[0] == "-")
    return spec.pad_number(spec.sign(negative), digits)


def _string(spec: _Spec, text: str) -> str | None:
    verb = _STRING_VERBS.get(spec.verb)
    return None if verb is None else verb(spec, text)


def _plain(spec: _Spec, text: str) -> str:
    return spec.pad(text if spec.precision < 0 else text[: spec.precision])


def _quoted(spec: _Spec, text: str) -> str:
    if spec.precision >= 0:
        text = text[: spec.precision]
    if spec.sharp and "`" not in text and (text.isprintable() or set(text) <= {"\t"}):
        return spec.pad(f"`{text}`")
    return spec.pad(quote(text, ascii_only=spec.plus))


def _hex(spec: _Spec, text: str) -> str:
    data = to_bytes(text)
    if spec.precision >= 0:
        data = data[: spec.precision]
    prefix = "0x" if spec.sharp and data else ""
    spaced = " ".join(f"{prefix}{byte:02x}" for byte in data)
    digits = spaced if spec.space else prefix + data.hex()
    return spec.pad(digits.upper() if spec.verb == "X" else digits)


_STRING_VERBS: Final[dict[str, Callable[[_Spec, str], str]]] = {
    "s": _plain,
    "v": _plain,
    "q": _quoted,
    "x": _hex,
    "X": _hex,
}
