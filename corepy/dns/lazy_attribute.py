"""Attributes that are computed on first access.

`__getattr__` would make the interpreter look up every attribute of the object more slowly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class LazyAttribute:
    """An attribute that is computed on first access and cached in the slot `_` + its name."""

    __slots__ = ("_compute", "_slot")

    def __init__(self, compute: Callable[[Any], object]) -> None:
        """`compute` returns the value for an object of the class."""
        self._compute = compute

    def __set_name__(self, owner: type, name: str) -> None:
        self._slot = f"_{name}"

    def __get__(self, owner: object | None, kind: type) -> object:
        if owner is None:
            return self
        try:
            return getattr(owner, self._slot)
        except AttributeError:
            value = self._compute(owner)
            setattr(owner, self._slot, value)
            return value

    def __set__(self, owner: object, value: object) -> None:
        setattr(owner, self._slot, value)
