"""Elements of arrays and maps, and parts of arrays and strings (expr-lang: vm/runtime)."""

from __future__ import annotations

from typing import Any

from corepy.expr import expr_values as v
from corepy.expr.frame import ExpressionError, Frame


def fetch(target: Any, key: Any) -> Any:
    """Return `target[key]`; nil for a key that a map does not have. Raises ExpressionError."""
    if isinstance(target, dict):
        return target.get(v.key_for(key))
    if not isinstance(target, v.ARRAYS):
        raise ExpressionError(f"{v.kind_name(target)} has no elements and fields")
    index = v.as_int(key, "the index of an array")
    if not -len(target) <= index < len(target):
        raise ExpressionError(f"the array of {len(target)} elements has no index {index}")
    return target[index]


def cut(frame: Frame, value: Any, first: int, last: int | None) -> Any:
    """Return `value[first:last]`, in bytes for a string; raises ExpressionError."""
    if type(value) is str:
        if value.isascii():
            return frame.text(value[slice(*_ends(len(value), first, last))])
        frame.take(len(value))
        data = v.to_bytes(value)
        return frame.text(v.from_bytes(data[slice(*_ends(len(data), first, last))]))
    array = v.as_array(value, "a slice")
    start, end = _ends(len(array), first, last)
    frame.take(end - start)
    return array[start:end]


def _ends(length: int, first: int, last: int | None) -> tuple[int, int]:
    """Return the ends of a slice within the length (expr-lang: runtime.Slice)."""
    end = length if last is None else last + length if last < 0 else last
    end = min(max(end, 0), length)
    start = max(first + length if first < 0 else first, 0)
    return min(start, end), end
