"""Guesses the origin of a master file, for commands without a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns.names import InvalidName, from_text
from corepy.dns.presentation import RecordError, entries
from corepy.zone.zone_errors import ZoneError

if TYPE_CHECKING:
    from pathlib import Path

_PREFIXES = ("db.", "zone.")
_SUFFIXES = (".zone", ".db", ".txt", ".signed", ".hosts")


def guess_origin(path: Path, content: bytes) -> bytes:
    """Return the origin of a file: the owner of its SOA record, or the origin in its name.

    The latter is for an owner that is relative, such as "@". Raises `ZoneError`.
    """
    owner = _soa_owner(content.decode("utf-8-sig", "surrogateescape"))
    text = owner or _from_file_name(path.name)
    try:
        return from_text(text).lower()
    except (InvalidName, ValueError):
        problem = f"cannot guess the origin of {path}: {text!r} is not a domain name"
        raise ZoneError(f"{problem}; give it as an argument") from None


def _soa_owner(text: str) -> str | None:
    """Return the owner of the first SOA record if it is absolute, or its $ORIGIN is."""
    origin = None
    try:
        for entry in entries(text):
            words = entry.words
            if words[0].upper() == "$ORIGIN" and len(words) > 1:
                origin = words[1]
            elif "SOA" in (word.upper() for word in words[:4]):
                owner = origin if words[0] == "@" else words[0]
                return owner if owner is not None and owner.endswith(".") else None
    except RecordError:
        pass
    return None


def _from_file_name(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name
