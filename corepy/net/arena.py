"""Memory at a fixed address, for use in system calls."""

from __future__ import annotations

import ctypes
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Final

GRAIN: Final = 64
"""Granularity of an arena's chunks in bytes."""

SEGMENT: Final = 256 * 1024


class Buffer:
    """A block of memory at a fixed address.

    A slice of `memory` is a copy as bytes; one of `view`, which is for writing, takes twice as long
    to be copied.
    """

    __slots__ = ("_hold", "address", "memory", "view")

    def __init__(self, size: int) -> None:
        self.memory = mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS)
        self._hold = (ctypes.c_char * size).from_buffer(self.memory)
        self.address = ctypes.addressof(self._hold)
        self.view = memoryview(self.memory)

    def words(self) -> memoryview[int]:
        """Return the memory as 64-bit words."""
        return self.view.cast("Q")


class Chunk:
    """A piece of an arena: `memory[start : start + size]`, at the memory address `address`."""

    __slots__ = ("address", "memory", "size", "start")

    def __init__(self, memory: mmap, start: int, size: int, address: int) -> None:
        self.memory = memory
        self.start = start
        self.size = size
        self.address = address


class Arena:
    """A bounded heap of small chunks, allocated in segments as it grows and never freed.

    Send from a chunk before giving it back.
    """

    def __init__(self, limit: int) -> None:
        """Grow to at most `limit` bytes."""
        self._segments_left = max(1, limit // SEGMENT)
        self._rest: Buffer | None = None
        self._used = SEGMENT
        self._free: dict[int, list[Chunk]] = {}

    def take(self, size: int) -> Chunk | None:
        """Return a chunk of at least `size` bytes, or None if the arena is full."""
        size = -(-size // GRAIN) * GRAIN
        free = self._free.get(size)
        if free:
            return free.pop()
        if self._used + size > SEGMENT and not self._grow():
            return None
        assert self._rest is not None
        start, self._used = self._used, self._used + size
        return Chunk(self._rest.memory, start, size, self._rest.address + start)

    def _grow(self) -> bool:
        if not self._segments_left:
            return False
        self._segments_left -= 1
        self._rest, self._used = Buffer(SEGMENT), 0
        return True

    def give_back(self, chunk: Chunk) -> None:
        """Return a chunk to the arena."""
        self._free.setdefault(chunk.size, []).append(chunk)
