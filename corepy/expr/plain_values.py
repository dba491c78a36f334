"""Values of expressions as ordinary ones of Python, for use outside of expressions."""

from __future__ import annotations

from typing import Any, Final

from corepy.expr import expr_values as v
from corepy.expr.frame import MOST_TEXT, ExpressionError, Frame
from corepy.expr.value_types import Kind

_SCALARS: Final = (str, int, bool, float, type(None))
_WITHOUT_TEXT: Final = (Kind.NIL, Kind.BOOL, Kind.INT, Kind.FLOAT)
_FRAME: Final = Frame(None, {}, 0)  # the text of a key needs nothing of it


def plain(value: Any) -> Any:
    """Return a value with lists as arrays, and with strings as keys of maps and as dates.

    Raises ExpressionError if it has more than 65,536 elements and characters. An array, map or
    string that it contains several times counts each time, as it would be written each time.
    """
    if type(value) in _SCALARS:
        return value
    try:
        return _Copier().copy(value)
    except RecursionError:
        raise ExpressionError("the value is nested too deeply") from None


class _Copier:
    def __init__(self) -> None:
        self._room = MOST_TEXT

    def copy(self, value: Any) -> Any:
        """Return a copy of a value, and count its parts."""
        if type(value) is str:
            self._take(len(value))
        elif isinstance(value, dict):
            self._take(len(value))
            return {self._text(v.key_value(key)): self.copy(item) for key, item in value.items()}
        elif isinstance(value, v.ARRAYS):
            self._take(len(value))
            return [self.copy(each) for each in value]
        elif v.kind_of(value) not in _WITHOUT_TEXT:
            return self._text(value)  # a date and the like
        return value

    def _text(self, value: object) -> str:
        text = v.to_text(value, _FRAME)
        self._take(len(text))
        return text

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise ExpressionError(f"the value has more than {MOST_TEXT} elements and characters")
