"""The canonical order of names (RFC 4034 section 6.1), as keys that compare as bytes."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from corepy.dns.names import labels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PORTION: Final = 2048
"""Names that are sorted in one step, which takes less than a millisecond."""

_SAMPLES: Final = 16
"""Names of a portion that are taken as samples, to find its bounds."""


def canonical_key(name: bytes) -> bytes:
    """Return a key that sorts names in wire form and lower case in canonical order.

    It consists of the labels from right to left, separated by zero bytes. Zeros and ones in labels
    are escaped, so that a separator sorts before any byte of a label.
    """
    labels = labels_of(name)
    labels.reverse()
    key = b"\0".join(labels)
    if key.count(0) + 1 > len(labels) or 1 in key:
        escaped = (it.replace(b"\1", b"\1\2").replace(b"\0", b"\1\1") for it in labels)
        return b"\0".join(escaped)
    return key


def in_canonical_order(names: Sequence[bytes]) -> list[bytes]:
    """Return names in wire form and lower case in canonical order, as `sorted_in_portions`."""
    return sorted_in_portions(names, canonical_key)


def sorted_in_portions(
    items: Sequence[bytes], key: Callable[[bytes], bytes] = bytes
) -> list[bytes]:
    """Return the items in the order of their keys.

    A thread may call this beside an event loop: a sort of 100,000 items would hold the interpreter
    for a tenth of a second, so the items are divided into portions that are sorted one by one.
    """
    bounds = _bounds(items, key)
    portions: list[list[tuple[bytes, bytes]]] = [[] for _ in range(len(bounds) + 1)]
    for item in items:
        rank = key(item)
        portions[bisect_left(bounds, rank)].append((rank, item))
    ordered: list[bytes] = []
    for portion in portions:
        portion.sort()
        ordered += [item for _, item in portion]
        portion.clear()  # freeing all at the end would hold the interpreter, too
        time.sleep(0)  # the event loop may run
    return ordered


def _bounds(items: Sequence[bytes], key: Callable[[bytes], bytes]) -> list[bytes]:
    """Return keys that divide items into portions of about the same size, by a sample of them."""
    step = max(1, _PORTION // _SAMPLES)
    return sorted(key(item) for item in items[::step])[_SAMPLES::_SAMPLES]
