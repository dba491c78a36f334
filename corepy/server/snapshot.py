"""Snapshots of the state of handlers, for the next process: the format, and what makes one valid.

A snapshot is a header, any number of sections, and a SHA-256 of all before. A section is the state
of one handler, whose format only the handler knows, with the identity of its meaning
(`corepy.server.succession`). All numbers are in network byte order, so that neither the
architecture nor the version of Python matters. The header:

| bytes | content |
| --- | --- |
| 8 | `corepyst` |
| 2 | the version of the format |
| 8 | time of day in nanoseconds since 1970 |
| 8 | nanoseconds since the machine has booted (CLOCK_BOOTTIME) |
| 16 | the ID of that boot, zeros if it is not known |

A section begins with its identity (32 bytes) and its size (8 bytes). A snapshot that ends early, or
has any other mistake, is refused as a whole.
"""

from __future__ import annotations

import struct
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

VERSION: Final = 1
"""To be increased with each change of this format, or of that of any handler's state."""

MAGIC: Final = b"corepyst"
_HEADER: Final = struct.Struct("!8sHQQ16s")
_SECTION: Final = struct.Struct("!32sQ")
_DIGEST: Final = 32
_NS: Final = 1e-9
_UNKNOWN_BOOT: Final = bytes(16)
_BLOCK: Final = 1 << 20
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

OVERHEAD: Final = _HEADER.size + _DIGEST
"""Bytes of a snapshot without sections."""

SECTION_OVERHEAD: Final = _SECTION.size
"""Bytes of a section without its state."""


MOST_SECTIONS: Final = 1 << 16
"""A snapshot with more of them is invalid: each takes more memory than its bytes in the file."""


class InvalidSnapshot(ValueError):
    """The snapshot is damaged, or not one of this version; the text is the reason."""


class Clocks(NamedTuple):
    """The clocks of the machine at one moment."""

    wall: int
    """Time of day in nanoseconds; an operator may set it."""

    boot: int
    """Nanoseconds since the machine has booted."""

    boot_id: bytes
    """The ID of that boot, 16 bytes."""

    @classmethod
    def now(cls) -> Clocks:
        """Return the current times."""
        boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return cls(time.time_ns(), boot, _boot_id())  # time of day: it survives a boot

    def seconds_since(self, before: Clocks) -> float:
        """Return how many seconds have passed at most since `before`.

        If two clocks disagree, the one that shows more time is believed, so that nothing lives too
        long. Raises `InvalidSnapshot` if only the time of day is known, and it was set back.
        """
        passed = self.wall - before.wall
        if self.boot_id == before.boot_id != _UNKNOWN_BOOT:
            passed = max(passed, self.boot - before.boot)
        if passed < 0:
            raise InvalidSnapshot("it is from the future: the clock was set back")
        return passed * _NS


def _boot_id() -> bytes:
    try:
        return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))[:16].ljust(16, b"\0")
    except (OSError, ValueError):
        return _UNKNOWN_BOOT


def header(clocks: Clocks) -> bytes:
    """Return the header of a snapshot of this moment."""
    return _HEADER.pack(MAGIC, VERSION, *clocks)


def section_header(identity: bytes, size: int) -> bytes:
    """Return the bytes in front of the state of one handler."""
    return _SECTION.pack(identity, size)


class Section(NamedTuple):
    """The state of one handler."""

    identity: bytes
    state: memoryview | None
    """None if the state is larger than the reader allows."""


class Snapshot(NamedTuple):
    """A valid snapshot."""

    clocks: Clocks
    sections: list[Section]


class Selection(NamedTuple):
    """The sections of a file that a server can use."""

    identities: Collection[bytes]
    most: int
    """Limit of their states together, in bytes."""


def parse(content: bytes | memoryview) -> Snapshot:
    """Return the parts of a snapshot; raises `InvalidSnapshot`.

    The SHA-256 of a large snapshot takes time, so this should run in a thread.
    """
    import hashlib  # loads OpenSSL, which a server without snapshots does not need

    view = memoryview(content)
    end = len(view) - _DIGEST
    clocks = _clocks_in(view[: _HEADER.size], len(view))
    if hashlib.sha256(view[:end]).digest() != view[end:]:
        raise InvalidSnapshot("it is damaged or cut off")
    found = _sections(end, lambda at, size: view[at : at + size])
    return Snapshot(clocks, [Section(it, view[at : at + size]) for it, at, size in found])


def parse_file(file: BinaryIO, size: int, selection: Selection) -> Snapshot:
    """Return the selected sections of a snapshot of `size` bytes.

    Other sections take no memory, but all are read for the SHA-256. Raises `InvalidSnapshot`, and
    OSError if the file cannot be read.
    """
    end = size - _DIGEST
    clocks = _clocks_in(_read_at(file, 0, _HEADER.size), size)
    if _digest_of(file, end) != _read_at(file, end, _DIGEST):
        raise InvalidSnapshot("it is damaged or cut off")
    sections, left = list[Section](), selection.most
    for identity, at, length in _sections(end, partial(_read_at, file)):
        if identity not in selection.identities:
            continue
        if length > left:
            sections.append(Section(identity, None))
        else:
            left -= length
            sections.append(Section(identity, memoryview(_read_at(file, at, length))))
    return Snapshot(clocks, sections)


def _read_at(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _digest_of(file: BinaryIO, end: int) -> bytes:
    """Return the SHA-256 of the first `end` bytes."""
    import hashlib  # as in `parse`

    digest = hashlib.sha256()
    file.seek(0)
    while end > 0 and (block := file.read(min(end, _BLOCK))):
        digest.update(block)
        end -= len(block)
    return digest.digest()


def _clocks_in(start: bytes | memoryview, size: int) -> Clocks:
    """Return the clocks in the header of a snapshot of `size` bytes; raises `InvalidSnapshot`."""
    if bytes(start[: len(MAGIC)]) != MAGIC:
        raise InvalidSnapshot("it is not a snapshot of corepy")
    if size < OVERHEAD:
        raise InvalidSnapshot("it is cut off")
    _, version, *clocks = _HEADER.unpack(start)
    if version != VERSION:
        raise InvalidSnapshot(f"it has version {version} of the format, not {VERSION}")
    return Clocks(*clocks)


def _sections(
    end: int, read_at: Callable[[int, int], bytes | memoryview]
) -> Iterator[tuple[bytes, int, int]]:
    """Yield the identity, position and size of each section before `end`.

    `read_at` gets a position and a number of bytes. Raises `InvalidSnapshot`.
    """
    at, count = _HEADER.size, 0
    while at < end:
        count += 1
        if count > MOST_SECTIONS:
            raise InvalidSnapshot(f"it has more than {MOST_SECTIONS} sections")
        if end - at < _SECTION.size:
            raise InvalidSnapshot("a section is cut off")
        identity, size = _SECTION.unpack(read_at(at, _SECTION.size))
        at += _SECTION.size
        if size > end - at:
            raise InvalidSnapshot("a section is cut off")
        yield identity, at, size
        at += size
