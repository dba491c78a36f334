"""The file that keeps the objects of a cluster, to answer from while the API is away at the start.

The file begins with a line of JSON that has the version of the format, the cluster and the time. It
continues with the lines of `item_lines`, and ends with a line that has the SHA-256 of all before.

It is replaced at once, so a reader finds the old one or the new one. It is not trusted: a file that
another user could have written is not read, and one with a single mistake is ignored as a whole.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import json
import os
import stat
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.plugin import in_thread
from corepy.plugin.writing import replace_file
from corepy_kubernetes.api_turns import Turns
from corepy_kubernetes.item_lines import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from corepy_kubernetes.item_lines import Change

FORMAT: Final = "corepy kubernetes 1"
LARGEST: Final = 256 << 20
"""Bytes of a file that is read."""

LONGEST_READ: Final = 5.0
"""Seconds until a disk counts as gone: the API is watched only after the file was read."""

_WRITABLE_BY_OTHERS: Final = 0o022
_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_DIGEST: Final = 65
"""Bytes of the last line."""

_LATEST: Final = 1 << 40


class InvalidSnapshot(ValueError):
    """The file is damaged, or not a snapshot of this cluster; the text is the reason."""


class Snapshot(NamedTuple):
    """The content of a file."""

    age: float
    """Seconds since it was written, by the time of day; 0 if the clock was set back."""

    changes: list[Change]
    """What makes an empty store equal to the one that was kept."""


async def write(path: Path, cluster: str, changes: Iterable[Change]) -> None:
    """Replace a file by a snapshot; raises OSError.

    A file that is not a snapshot stays as it is, since its name is probably a mistake.
    """
    now = time.time()  # time of day: it survives a boot
    header = {"format": FORMAT, "cluster": cluster, "written": now}
    lines, turns = [json.dumps(header).encode() + b"\n"], Turns()
    for change in changes:
        lines.append(encode(change))
        await turns.take()
    await in_thread(lambda: _replace(path, lines))


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    _require_own(path)
    replace_file(path, _with_digest(lines), is_durable=False)


def _with_digest(lines: Iterable[bytes]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
        yield line
    yield digest.hexdigest().encode() + b"\n"


def _require_own(path: Path) -> None:
    """Raise OSError for a file that is neither a snapshot nor empty."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
    except FileNotFoundError:
        return
    try:
        beginning = json.dumps({"format": FORMAT}).encode()[:-1]
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if not is_file or os.read(descriptor, len(beginning)) not in (beginning, b""):
            raise FileExistsError(errno.EEXIST, "it is not a snapshot of kubernetes", str(path))
    finally:
        os.close(descriptor)


async def read(path: Path, cluster: str) -> Snapshot | None:
    """Return the snapshot of a cluster in a file, None without a file.

    Raises `InvalidSnapshot`.
    """
    try:
        async with asyncio.timeout(LONGEST_READ):
            content: bytes | None = await in_thread(lambda: _content(path))
    except TimeoutError:
        raise InvalidSnapshot("the disk takes too long") from None
    if content is None:
        return None
    lines = io.BytesIO(content)
    try:
        written = _check_header(json.loads(lines.readline()), cluster)
        changes, turns = list[Any](), Turns()
        for line in lines:
            changes.append(decode(json.loads(line)))
            await turns.take()
    except (ValueError, RecursionError) as error:
        raise InvalidSnapshot(str(error)) from None
    return Snapshot(max(0.0, time.time() - written), changes)  # time of day: survives a boot


def _content(path: Path) -> bytes | None:
    """Return a file without its last line, the digest."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | _FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        is_link = error.errno == errno.ELOOP
        raise InvalidSnapshot("it is a symbolic link" if is_link else str(error.strerror)) from None
    try:
        _check_status(os.fstat(descriptor))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(LARGEST + 1)
    finally:
        os.close(descriptor)
    body, digest = content[:-_DIGEST], content[-_DIGEST:].strip()
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise InvalidSnapshot("it is damaged or cut off")
    return body


def _check_status(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidSnapshot("it is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise InvalidSnapshot("it belongs to another user")
    if status.st_mode & _WRITABLE_BY_OTHERS:
        raise InvalidSnapshot("other users may write it")
    if status.st_size > LARGEST:
        raise InvalidSnapshot(f"it has {status.st_size} bytes, more than {LARGEST}")


def _check_header(header: Any, cluster: str) -> float:
    """Return the time at which a snapshot was written."""
    match header:
        case {"format": format_, "cluster": of, "written": int() | float() as written}:
            if format_ != FORMAT:
                raise InvalidSnapshot(f"its format is {format_!r:.40}, not {FORMAT!r}")
            if of != cluster:
                raise InvalidSnapshot("it is of another cluster, or of other options")
            if 0 <= written < _LATEST:
                return float(written)
    raise InvalidSnapshot("its first line is malformed")
