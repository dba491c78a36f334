"""The functions of the language that convert values (expr-lang: builtin/builtin.go, lib.go)."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from corepy.expr import expr_values as v
from corepy.expr.builtin import NUMBER, TEXT, VALUE, Builtin, text_of
from corepy.expr.date_layouts import RFC3339_WITH_FRACTION, date_text
from corepy.expr.frame import ExpressionError, Frame
from corepy.expr.time_values import Date, Duration, Month, Weekday, fields_of
from corepy.expr.time_zones import DAY, Zone
from corepy.expr.value_types import ANY, FLOAT, INT, STRING, Kind

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,80}", re.ASCII)
_FLOAT: Final = re.compile(
    r"[+-]?(?:(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?|inf|infinity|nan)",
    re.ASCII | re.IGNORECASE,
)
_STEPS_OF_AN_ITEM: Final = 4
_LAST_YEAR: Final = 9999
_WITH_NUMBER: Final = (Duration, Month, Weekday)
_NAMES_IN_GO: Final = {
    Kind.DATE: "time.Time",
    Kind.DURATION: "time.Duration",
    Kind.TIMEZONE: "time.Location",
    Kind.MONTH: "time.Month",
    Kind.WEEKDAY: "time.Weekday",
}
_ESCAPED: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
"""The characters that Go escapes in JSON, beside those that JSON requires."""


def _int(frame: Frame, value: object) -> int:
    if isinstance(value, _WITH_NUMBER):
        return _number_of(value)
    if type(value) is not str:
        return v.as_int(value, "int")
    if not _INTEGER.fullmatch(value) or int(value) != v.wrapped(int(value)):
        raise ExpressionError("int needs a string of digits, within 64 bits")
    return int(value)


def _float(frame: Frame, value: object) -> float:
    if type(value) is not str:
        return v.as_float(value, "float")
    frame.take(len(value))
    if not _FLOAT.fullmatch(value):
        raise ExpressionError("float needs a string that is a number")
    number = float(value)
    if math.isinf(number) and "inf" not in value.lower():
        raise ExpressionError("float: the number is too large")
    return number


def _string(frame: Frame, value: object) -> str:
    return v.to_text(value, frame)


def _type(frame: Frame, value: object) -> str:
    return _NAMES_IN_GO.get(v.kind_of(value)) or v.kind_name(value)


def _to_json(frame: Frame, value: object) -> str:
    pieces: list[str] = []
    _add_json(frame, value, "\n", pieces)
    return frame.text("".join(pieces))


def _add_json(frame: Frame, value: Any, line: str, pieces: list[str]) -> None:
    """Append the pieces of JSON text; `line` is the line end with the indentation."""
    frame.take(len(line))
    if isinstance(value, dict):
        if not all(type(key) is str for key in value):
            raise ExpressionError("toJSON: the keys of a map in JSON are strings")
        items = [(f"{_quoted(key)}: ", value[key]) for key in sorted(value, key=v.to_bytes)]
        _add_items(frame, items, line, pieces, "{}")
    elif isinstance(value, v.ARRAYS):
        _add_items(frame, [("", each) for each in value], line, pieces, "[]")
    else:
        pieces.append(_scalar(value))
        frame.take(len(pieces[-1]))


def _add_items(
    frame: Frame, items: list[tuple[str, Any]], line: str, pieces: list[str], brackets: str
) -> None:
    """Append the items of a map or an array, each with the text before its value."""
    frame.step(_STEPS_OF_AN_ITEM * (len(items) + 1))
    frame.take(sum(len(start) for start, _ in items))
    if not items:
        pieces.append(brackets)
        return
    mark, inner = brackets[0], line + "  "
    for start, value in items:
        pieces.append(f"{mark}{inner}{start}")
        _add_json(frame, value, inner, pieces)
        mark = ","
    pieces.append(f"{line}{brackets[1]}")


def _scalar(value: Any) -> str:
    if type(value) is str:
        return _quoted(value)
    if isinstance(value, Date):
        return _json_date(value)
    if isinstance(value, _WITH_NUMBER):
        return str(_number_of(value))
    if isinstance(value, Zone):
        return "{}"
    if type(value) is not float:
        return json.dumps(value)
    if math.isinf(value) or math.isnan(value):
        raise ExpressionError("toJSON: JSON has no infinite numbers")
    if value.is_integer() and abs(value) < 1e21:
        return f"{value:.0f}"
    return repr(value).replace("e-0", "e-")


def _number_of(value: Duration | Month | Weekday) -> int:
    return value.nanoseconds if isinstance(value, Duration) else value.number


def _json_date(date: Date) -> str:
    fields = fields_of(date)
    if not 0 <= fields.year <= _LAST_YEAR or abs(fields.offset) >= DAY:
        raise ExpressionError(f"toJSON: the date {date_text(date)} has no form in JSON")
    return f'"{date_text(date, RFC3339_WITH_FRACTION)}"'


def _quoted(text: str) -> str:
    clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return json.dumps(clean, ensure_ascii=False).translate(_ESCAPED)


def _from_json(frame: Frame, value: object) -> Any:
    text = text_of(frame, value, "fromJSON")
    try:
        return json.loads(text, parse_int=_finite, parse_float=_finite, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ExpressionError("fromJSON: the string is not JSON") from None


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(digits)
    return number


def _refuse(word: str) -> float:
    raise ValueError(word)


_CONVERTIBLE: Final = (*NUMBER, Kind.STRING)
_OF_TIMES: Final = (Kind.DURATION, Kind.MONTH, Kind.WEEKDAY)

CONVERSIONS: Final = (
    Builtin("int", ((*_CONVERTIBLE, *_OF_TIMES),), INT, _int),
    Builtin("float", (_CONVERTIBLE,), FLOAT, _float),
    Builtin("string", (VALUE,), STRING, _string),
    Builtin("type", (VALUE,), STRING, _type),
    Builtin("toJSON", (VALUE,), STRING, _to_json),
    Builtin("fromJSON", (TEXT,), ANY, _from_json),
)
