"""Tables with one value for most keys and several for some, and the addresses of slices.

A table with a tuple for each key would take twice the memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from corepy_kubernetes.objects import Slice

    NamedAddress = bytes | tuple[bytes, str, str]
    """An address, with the host name and the pod of the endpoint if it has one of them."""

Value = TypeVar("Value", bound=str | bytes)
Key = TypeVar("Key")
Thing = TypeVar("Thing")
Several = dict[bytes, "Value | tuple[Value, ...]"]
"""A table with one value for most keys."""


def named_addresses(slice_: Slice | None) -> set[NamedAddress]:
    """Return the addresses of a slice, with their names if they have any."""
    if slice_ is None:
        return set()
    size, packed = slice_.size, slice_.addresses
    addresses = [packed[at : at + size] for at in range(0, len(packed), size)]
    if not slice_.hostnames and not slice_.pods:
        return set(addresses)
    none = ("",) * len(addresses)
    return set(zip(addresses, slice_.hostnames or none, slice_.pods or none, strict=False))


def bare_addresses(addresses: set[NamedAddress]) -> set[bytes]:
    """Return addresses without names."""
    return {it if isinstance(it, bytes) else it[0] for it in addresses}


def set_or_remove(table: dict[Key, Thing], key: Key, value: Thing | None) -> None:
    """Set the value of a key; None and () remove it."""
    if value:
        table[key] = value
    else:
        table.pop(key, None)


def values_of(table: Several[Value], key: bytes) -> tuple[Value, ...]:
    """Return the values of a key."""
    found = table.get(key)
    if found is None:
        return ()
    return found if isinstance(found, tuple) else (found,)


def add_value(table: Several[Value], key: bytes, value: Value) -> None:
    """Add a value to those of a key."""
    others = values_of(table, key)
    table[key] = (*others, value) if others else value


def discard_value(table: Several[Value], key: bytes, value: Value) -> None:
    """Remove a value from those of a key."""
    left = [it for it in values_of(table, key) if it != value]
    if len(left) > 1:
        table[key] = tuple(left)
    elif left:
        table[key] = left[0]
    else:
        table.pop(key, None)
