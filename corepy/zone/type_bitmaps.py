"""The type bitmaps of NSEC and NSEC3 records (RFC 4034 section 4.1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_WINDOW: Final = 256
_LONGEST: Final = 32


def type_bitmap(types: Iterable[int]) -> bytes:
    """Return the bitmap of some type numbers, in any order."""
    windows: dict[int, int] = {}
    for number in types:
        window, bit = divmod(number, _WINDOW)
        windows[window] = windows.get(window, 0) | 1 << (_WINDOW - 1 - bit)
    pieces = []
    for window, bits in sorted(windows.items()):
        bitmap = bits.to_bytes(_LONGEST, "big").rstrip(b"\0")
        pieces.append(bytes((window, len(bitmap))) + bitmap)
    return b"".join(pieces)
