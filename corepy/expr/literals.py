"""The values of literals in an expression (expr-lang: parser/lexer, parser/parser.go)."""

from __future__ import annotations

import math
import re
from typing import Final

from corepy.expr.expr_values import LARGEST_INT
from corepy.expr.syntax import ExpressionProblem

_NAMED: Final = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"
}  # fmt: skip
_ESCAPE: Final = re.compile(
    r"\\(?:([0-3][0-7]{2})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})"
    r"|u\{([0-9a-fA-F]{1,6})\}|(.)|$)",
    re.DOTALL,
)
_NUMBER: Final = re.compile(
    r"0[xX](?P<hex>[0-9a-fA-F]++)|0[oO](?P<octal>[0-7]++)|0[bB](?P<binary>[01]++)"
    r"|(?P<decimal>[0-9]++)|(?P<float>(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)"
)
_BASES: Final = {"hex": 16, "octal": 8, "binary": 2, "decimal": 10}
_MOST_DIGITS: Final = 80
"""Longer literals are refused; a binary number of 63 digits is the longest that is valid."""

_REPLACEMENT: Final = "\ufffd"
_ESCAPE_HINT: Final = (
    r"in quotes, write \\ for a backslash, such as '\\.'; between backticks a backslash is itself"
)


def read_number(text: str, offset: int) -> int | float:
    """Return the value of a number; raises `ExpressionProblem`."""
    digits = text.replace("_", "")
    match = _NUMBER.fullmatch(digits) if len(digits) <= _MOST_DIGITS else None
    if match is None:
        raise ExpressionProblem(f"{text!r} is not a number", offset)
    if match.lastgroup == "float":
        number = float(digits)
        if math.isinf(number):
            raise ExpressionProblem(f"{text} is too large for a number", offset)
        return number
    assert match.lastgroup is not None
    value = int(match[match.lastgroup], _BASES[match.lastgroup])
    if value > LARGEST_INT:
        raise ExpressionProblem(f"{text} is too large for an integer of 64 bits", offset)
    return value


def read_string(text: str, offset: int) -> str:
    """Return the value of a string in quotes; raises `ExpressionProblem`."""
    mark, body = text[0], text[1:-1].replace("\r\n", "\n").replace("\r", "\n")
    if "\\" not in body:
        return body
    return _ESCAPE.sub(lambda match: _unescape(match, mark, offset + 1), body)


def _unescape(match: re.Match[str], mark: str, offset: int) -> str:
    octal, byte, short, long, braced, name = match.groups()
    if name is None and match[0] != "\\":
        digits = octal or byte or short or long or braced
        code = int(digits, 8 if octal else 16)
        if code <= 0x10FFFF:
            return _REPLACEMENT if 0xD800 <= code <= 0xDFFF else chr(code)
    elif name == mark:
        return mark
    elif name in _NAMED:
        return _NAMED[name]
    raise ExpressionProblem(
        f"invalid escape sequence {match[0]}", offset + match.start(), _ESCAPE_HINT
    )


def read_raw_string(text: str) -> str:
    """Return the value of a string between backticks; two backticks in it mean one."""
    return text[1:-1].replace("``", "`")
