"""The functions of the language for arrays and maps (expr-lang: builtin/builtin.go)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from corepy.expr import expr_values as v
from corepy.expr.builtin import LIST, TABLE, TEXT, VALUE, WHOLE, Builtin, array_of_values
from corepy.expr.frame import ExpressionError, Frame
from corepy.expr.value_types import ANY, ARRAY, INT, MAP, STRING, Kind, Type


def _length(frame: Frame, value: object) -> int:
    if type(value) is str:
        return len(value)
    if isinstance(value, (dict, *v.ARRAYS)):
        return len(value)
    raise ExpressionError(f"len needs a string, an array or a map, not {v.kind_name(value)}")


def _get(frame: Frame, value: object, key: object) -> Any:
    if isinstance(value, dict):
        return value.get(v.key_for(key))
    if not isinstance(value, v.ARRAYS):
        return None
    index = v.as_int(key, "get")
    return value[index] if -len(value) <= index < len(value) else None


def _join(frame: Frame, value: object, glue: object = "") -> str:
    pieces = [v.as_text(each, "join") for each in array_of_values(frame, value, "join")]
    mark = v.as_text(glue, "join")
    frame.text_of(sum(map(len, pieces)) + len(mark) * max(len(pieces) - 1, 0))
    return mark.join(pieces)


def _concat(frame: Frame, *values: object) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found += array_of_values(frame, value, "concat")
    return found


def _flatten(frame: Frame, value: object) -> list[Any]:
    found: list[Any] = []
    _add_flat(frame, v.as_array(value, "flatten"), found)
    return found


def _add_flat(frame: Frame, array: Any, found: list[Any]) -> None:
    """Append the elements of an array, and those of the arrays in it."""
    frame.step(len(array) + 1)
    for each in array:
        if isinstance(each, v.ARRAYS):
            _add_flat(frame, each, found)
        else:
            found.append(each)
    frame.take(len(array))


def _uniq(frame: Frame, value: object) -> list[Any]:
    found: list[Any] = []
    for each in array_of_values(frame, value, "uniq"):
        if not v.is_in(each, found, frame):
            found.append(each)
    return found


def _first(frame: Frame, value: object) -> Any:
    return _get(frame, value, 0)


def _last(frame: Frame, value: object) -> Any:
    return _get(frame, value, -1)


def _take(frame: Frame, value: object, number: object) -> Any:
    array, count = v.as_array(value, "take"), v.as_int(number, "take")
    if count < 0:
        raise ExpressionError(f"take cannot take {count} elements")
    frame.take(min(count, len(array)))
    return array[:count]


def _reverse(frame: Frame, value: object) -> Any:
    return array_of_values(frame, value, "reverse")[::-1]


def _sort(frame: Frame, value: object, order: object = "asc") -> list[Any]:
    array = array_of_values(frame, value, "sort")
    _count_sorting(frame, len(array))
    return sorted_by(frame, list(array), list(array), order)


def _count_sorting(frame: Frame, length: int) -> None:
    frame.step(length * length.bit_length() // 2)


def sorted_by(frame: Frame, values: list[Any], keys: list[Any], order: object) -> list[Any]:
    """Return values in the order of their keys; raises ExpressionError.

    The keys are strings, numbers, dates or durations, `order` is "asc" or "desc".
    """
    if order not in ("asc", "desc"):
        raise ExpressionError(f"the order is asc or desc, not {v.to_text(order, frame)}")
    _count_sorting(frame, len(values))
    if all(type(key) is str for key in keys):
        frame.take(sum(map(len, keys)))  # the same string may be there many times
        if not all(key.isascii() for key in keys):
            keys = [v.to_bytes(key) for key in keys]
    elif len(keys) > 1 and not _are_comparable(keys):
        raise ExpressionError("only numbers, only strings, or only dates can be sorted")
    if len(keys) < 2:
        return values
    places = sorted(range(len(keys)), key=keys.__getitem__, reverse=order == "desc")
    return [values[place] for place in places]


def _are_comparable(keys: list[Any]) -> bool:
    if type(keys[0]) in v.TIMES:
        return all(type(key) is type(keys[0]) for key in keys)
    return all(v.is_number(key) for key in keys)


def _keys(frame: Frame, value: object) -> list[Any]:
    return [v.key_value(key) for key in _table(frame, value, "keys")]


def _values(frame: Frame, value: object) -> list[Any]:
    return list(_table(frame, value, "values").values())


def _to_pairs(frame: Frame, value: object) -> list[Any]:
    return [[v.key_value(key), item] for key, item in _table(frame, value, "toPairs").items()]


def _from_pairs(frame: Frame, value: object) -> dict[object, Any]:
    found: dict[object, Any] = {}
    for pair in array_of_values(frame, value, "fromPairs"):
        if not isinstance(pair, v.ARRAYS) or len(pair) != 2:
            raise ExpressionError("fromPairs needs an array of arrays with two elements each")
        found[v.key_for(pair[0])] = pair[1]
    return found


def _table(frame: Frame, value: object, name: str) -> dict[object, Any]:
    if not isinstance(value, dict):
        raise ExpressionError(f"{name} needs a map, not {v.kind_name(value)}")
    frame.take(len(value))
    return value


def _element(types: Sequence[Type]) -> Type:
    return types[0].elements if types[0].kind is Kind.ARRAY else ANY


def _same(types: Sequence[Type]) -> Type:
    return types[0]


def _item(types: Sequence[Type]) -> Type:
    return types[0].elements if types[0].kind in (Kind.ARRAY, Kind.MAP) else ANY


ARRAY_FUNCTIONS: Final = (
    Builtin("len", ((Kind.STRING, Kind.ARRAY, Kind.MAP),), INT, _length),
    Builtin("get", ((Kind.ARRAY, Kind.MAP), VALUE), _item, _get),
    Builtin("join", (LIST, TEXT), STRING, _join, optional=1),
    Builtin("concat", (LIST,), ARRAY, _concat, is_variadic=True),
    Builtin("flatten", (LIST,), ARRAY, _flatten),
    Builtin("uniq", (LIST,), ARRAY, _uniq),
    Builtin("first", (LIST,), _element, _first),
    Builtin("last", (LIST,), _element, _last),
    Builtin("take", (LIST, WHOLE), _same, _take),
    Builtin("reverse", (LIST,), ARRAY, _reverse),
    Builtin("sort", (LIST, TEXT), ARRAY, _sort, optional=1),
    Builtin("keys", (TABLE,), ARRAY, _keys),
    Builtin("values", (TABLE,), ARRAY, _values),
    Builtin("toPairs", (TABLE,), ARRAY, _to_pairs),
    Builtin("fromPairs", (LIST,), MAP, _from_pairs),
)
