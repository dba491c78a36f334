"""Parse the *bufsize* directive (CoreDNS: plugin/bufsize/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin import parse_integer
from corepy_bufsize.bufsize import Bufsize

if TYPE_CHECKING:
    from corepy.plugin import Controller

DEFAULT: Final = 1232
"""Bytes that fit into the smallest IPv6 MTU (DNS flag day 2020)."""

SMALLEST, LARGEST = 512, 4096


def setup(controller: Controller) -> None:
    """Add the handler; as in CoreDNS, only the first *bufsize* of a block counts."""
    controller.next()
    size = DEFAULT
    for token in controller.arguments(0, 1):
        size = parse_integer(token.text) or 0
        if not SMALLEST <= size <= LARGEST:
            hint = f"a number of bytes from {SMALLEST} to {LARGEST}"
            raise controller.error(f"invalid size {token.text!r}", token, hint)
    controller.options({})
    controller.add_handler(Bufsize(size))
