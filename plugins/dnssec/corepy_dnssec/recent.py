"""`Recent`: a bounded cache in which values used once do not replace those used often."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")

OFTEN: Final = 0.8
"""The part of the capacity that is for values used at least twice."""


class Recent(Generic[Value]):
    """A segmented LRU cache (R. Karedla, J. S. Love and B. G. Wherry, 1994).

    A new value replaces the one among those used once that was used least recently. A value that is
    used again is kept in a segment of its own, from which it returns to the first one when more
    recent ones fill it. A client that asks for each of many names once, such as random ones, thus
    does not evict the values of names that others ask for.
    """

    __slots__ = ("_often", "_once", "capacity")

    def __init__(self, capacity: int) -> None:
        """Keep at most `capacity` values; the attribute may change."""
        self.capacity = capacity
        # The least recently used values are at the beginning of both. To find the first key of a
        # plain dict takes time for each one that was removed before it.
        self._once: OrderedDict[bytes, Value] = OrderedDict()
        self._often: OrderedDict[bytes, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._once) + len(self._often)

    def get(self, key: bytes) -> Value | None:
        """Return a value, which counts as used, or None."""
        often = self._often
        value = often.get(key)
        if value is not None:
            often.move_to_end(key)
            return value
        value = self._once.pop(key, None)
        if value is not None:
            often[key] = value
            self._demote()
        return value

    def _demote(self) -> None:
        often, most = self._often, int(self.capacity * OFTEN)
        while len(often) > most:
            key, value = often.popitem(last=False)
            self._once[key] = value

    def put(self, key: bytes, value: Value) -> None:
        """Add or replace a value, and remove others beyond the capacity."""
        if key in self._often:
            self._often[key] = value
        else:
            self._once.pop(key, None)
            self._once[key] = value
        if len(self) > self.capacity:
            self._demote()
            self._shrink()

    def _shrink(self) -> None:
        once = self._once
        while once and len(self) > self.capacity:
            once.popitem(last=False)
