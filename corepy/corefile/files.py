"""Finds and reads the files of an import (Caddy: parse.go doImport; Go: path/filepath Glob).

Patterns follow Go's rules, not the shell's: `*` and `?` also match a leading dot, and a backslash
escapes the next character.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

MAX_FILE_SIZE = 16 * 1024 * 1024
"""Maximum size of a Corefile or an imported file in bytes."""

_MAGIC = frozenset("*?[\\")


class BadPatternError(ValueError):
    """The pattern ends in a backslash or contains a bracket."""


class _Wild:
    """A wildcard in a pattern."""


_STAR, _ANY = _Wild(), _Wild()

_Atoms = Sequence[str | _Wild]


def is_pattern(path: str) -> bool:
    """Return whether Caddy treats `path` as a pattern, which may match no file without an error."""
    return any(char in path for char in "*?[]")


def has_too_many_wildcards(path: str) -> bool:
    """Return whether Caddy refuses the pattern: a wildcard used twice, or a range (caddy#2096)."""
    return path.count("*") > 1 or path.count("?") > 1 or ("[" in path and "]" in path)


def absolute(path: str, beside: str) -> str:
    """Return `path` as an absolute path, relative to the folder of the file `beside`.

    Raises `OSError` if the current folder no longer exists.
    """
    if path.startswith("/"):
        return path
    return clean(os.path.join(os.path.dirname(os.path.abspath(beside)), path))


def clean(path: str) -> str:
    """Return an absolute path without `.`, `..` and double slashes (Go: filepath.Clean)."""
    path = os.path.normpath(path)
    return path[1:] if path.startswith("//") else path


def matches(pattern: str) -> list[str]:
    """Return the sorted paths that match the absolute `pattern`. Raises `BadPatternError`.

    Folders that cannot be read are skipped.
    """
    if "\0" in pattern:
        return []
    if _MAGIC.isdisjoint(pattern):
        return [pattern] if os.path.lexists(pattern) else []
    parts = pattern.split("/")
    atoms = [_atoms(part) for part in parts]  # all parts, so that a bad one is always refused
    first = next(index for index, part in enumerate(parts) if not _MAGIC.isdisjoint(part))
    found = ["/".join(parts[:first]) or "/"]
    for part in atoms[first:]:
        found = [clean(f"{folder}/{name}") for folder in found for name in _names(folder, part)]
    return found


def is_folder(path: str) -> bool:
    """Return whether `path` is a folder, or cannot be checked."""
    try:
        return os.path.isdir(path)
    except ValueError:
        return True


def neighbours(path: str) -> list[str]:
    """Return the names of the files in the folder of `path`."""
    try:
        with os.scandir(os.path.dirname(path) or ".") as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except (OSError, ValueError):
        return []


def read_import(path: str) -> bytes:
    """Return the content of an imported file without blocking. Raises `OSError`.

    Opening a pipe without a writer would otherwise block the server forever.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):  # fdopen would leak the descriptor
            raise IsADirectoryError(21, "is a directory", path)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return _limited(file.read(MAX_FILE_SIZE + 1) or b"", path)
    finally:
        os.close(descriptor)


def read_corefile(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a Corefile, which may be a pipe. Raises `OSError`."""
    with Path(path).open("rb") as file:
        return _limited(file.read(MAX_FILE_SIZE + 1), os.fspath(path))


def _limited(content: bytes, path: str) -> bytes:
    if len(content) > MAX_FILE_SIZE:
        raise OSError(27, f"is larger than {MAX_FILE_SIZE >> 20} MiB", path)
    return content


def _names(folder: str, pattern: _Atoms) -> list[str]:
    try:
        return sorted(
            (name for name in os.listdir(folder) if _fits(name, pattern)), key=os.fsencode
        )
    except (OSError, ValueError):
        return []


def _atoms(part: str) -> _Atoms:
    """Split one part of a path into its characters and wildcards."""
    atoms: list[str | _Wild] = []
    chars = iter(part)
    for char in chars:
        if char == "[":
            raise BadPatternError
        if char == "\\":
            quoted = next(chars, None)
            if quoted is None:
                raise BadPatternError
            atoms.append(quoted)
        else:
            atoms.append(_STAR if char == "*" else _ANY if char == "?" else char)
    return atoms


def _fits(name: str, pattern: _Atoms) -> bool:
    """Return whether `name` matches `pattern`, in linear time, as it has at most one star."""
    if _STAR not in pattern:
        return len(name) == len(pattern) and _fits_exactly(name, pattern)
    star = pattern.index(_STAR)
    head, tail = pattern[:star], pattern[star + 1 :]
    if len(name) < len(head) + len(tail):
        return False
    return _fits_exactly(name, head) and _fits_exactly(name[len(name) - len(tail) :], tail)


def _fits_exactly(name: str, pattern: _Atoms) -> bool:
    return all(atom is _ANY or atom == char for char, atom in zip(name, pattern, strict=False))
