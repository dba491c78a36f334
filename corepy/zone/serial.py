"""Serial numbers of zones (RFC 1982)."""

from __future__ import annotations

from typing import Final

_HALF: Final = 1 << 31
_MASK: Final = (1 << 32) - 1


def is_newer(serial: int, than: int) -> bool:
    """Return whether `serial` follows `than` (RFC 1982 section 3.2).

    The order of two serials with a distance of exactly 2**31 is undefined; the result is False.
    """
    return 0 < (serial - than & _MASK) < _HALF
