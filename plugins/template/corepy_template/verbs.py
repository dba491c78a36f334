"""Format one value for one verb of `printf` (Go: fmt, format.go)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from corepy_template.quoting import quote, quote_character
from corepy_template.values import Struct, float_text, to_bytes, to_text

_BASES: Final = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_PREFIXES: Final = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}


class Spec:
    """One verb with its flags; `precision` is -1 if it is not given."""

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
        """Return `text` padded to the width."""
        if self.minus:
            return text.ljust(self.width)
        return text.rjust(self.width, "0" if self.zero else " ")

    def pad_number(self, sign: str, digits: str) -> str:
        """Return a number padded to the width, with zeros after the sign."""
        if self.zero:
            return sign + digits.rjust(self.width - len(sign), "0")
        return self.pad(sign + digits)

    def sign(self, negative: bool) -> str:
        """Return the sign of a number."""
        return "-" if negative else "+" if self.plus else " " if self.space else ""


def scalar(spec: Spec, value: object) -> str | None:
    """Format a value without elements; returns None if the verb does not apply to its type."""
    if isinstance(value, bool):
        return spec.pad(to_text(value)) if spec.verb in "tv" else None
    if isinstance(value, int):
        return _integer(spec, value)
    if isinstance(value, float):
        return _float(spec, value)
    return _string(spec, str(value) if isinstance(value, Struct) else to_text(value))


def _integer(spec: Spec, value: int) -> str | None:
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


def _character(spec: Spec, value: int) -> str:
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


def _float(spec: Spec, value: float) -> str | None:
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


def _string(spec: Spec, text: str) -> str | None:
    verb = _STRING_VERBS.get(spec.verb)
    return None if verb is None else verb(spec, text)


def _plain(spec: Spec, text: str) -> str:
    return spec.pad(text if spec.precision < 0 else text[: spec.precision])


def _quoted(spec: Spec, text: str) -> str:
    if spec.precision >= 0:
        text = text[: spec.precision]
    if spec.sharp and "`" not in text and (text.isprintable() or set(text) <= {"\t"}):
        return spec.pad(f"`{text}`")
    return spec.pad(quote(text, ascii_only=spec.plus))


def _hex(spec: Spec, text: str) -> str:
    data = to_bytes(text)
    if spec.precision >= 0:
        data = data[: spec.precision]
    prefix = "0x" if spec.sharp and data else ""
    spaced = " ".join(f"{prefix}{byte:02x}" for byte in data)
    digits = spaced if spec.space else prefix + data.hex()
    return spec.pad(digits.upper() if spec.verb == "X" else digits)


_STRING_VERBS: Final[dict[str, Callable[[Spec, str], str]]] = {
    "s": _plain,
    "v": _plain,
    "q": _quoted,
    "x": _hex,
    "X": _hex,
}
