"""Parses hosts files: an address and its names on each line (hosts(5), RFC 952).

A line that cannot be used costs only itself, and is reported. Rules for changing this file: it runs
in a thread beside the event loop, so nothing here may hold the interpreter lock for long, such as
one call on the whole file.
"""

from __future__ import annotations

import codecs
import io
from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.dns.names import ROOT, InvalidName, from_text, lower
from corepy_hosts.reverse import pack
from corepy_hosts.table import WILDCARD, HostTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corepy.plugin import ZoneMatcher

LONGEST_LINE: Final = 64 * 1024
"""Bytes of the longest line that is read."""

_LONGEST_SHOWN: Final = 60

_NO_DOMAIN: Final = WILDCARD + ROOT


class Unusable(ValueError):
    """A line, or a name on it, cannot be used; the message describes the reason."""


class HostsParser:
    """Adds the lines of a file and of the Corefile to a table."""

    def __init__(self, zones: ZoneMatcher, *, with_reverse: bool) -> None:
        """Leave out names that are in none of `zones`; with_reverse adds the names of addresses."""
        self.table = HostTable()
        self._zones = zones
        self._with_reverse = with_reverse
        self._text = b""  # of the address on the line before, which the next line often repeats
        self._address: bytes | None = None

    def read(self, content: bytes) -> None:
        """Add the lines of a file, and report those that cannot be used in `HostTable.problem`."""
        unusable, first = 0, ""
        for number, line in enumerate(_lines(content.removeprefix(codecs.BOM_UTF8)), 1):
            try:
                self.add_line(line)
            except Unusable as problem:
                first = first or f"line {number}: {problem}"
                unusable += 1
        if unusable > 1:
            first = f"{unusable} lines cannot be used; the first is {first}"
        self.table.problem = first

    def add_line(self, line: bytes) -> None:
        """Add the names on a line; raises `Unusable`, after adding those that can be used."""
        words = _words(line)
        if not words:
            return
        address = self._pack(words[0])
        if len(words) == 1:
            raise Unusable(f"no name follows {_shown(words[0])}")
        problem: Unusable | None = None
        for word in words[1:]:
            try:
                self._add(name_of(word), address)
            except Unusable as error:
                problem = problem or error
        if problem is not None:
            raise problem

    def _pack(self, text: bytes) -> bytes:
        if text != self._text:
            self._text, self._address = text, pack(text)
        if self._address is None:
            raise Unusable(f"{_shown(text)} is not an IP address")
        return self._address

    def _add(self, name: bytes, address: bytes) -> None:
        if self._zones.find(name) is None:
            return
        if not self.table.add(name, address, with_reverse=self._with_reverse):
            raise Unusable("its name has more addresses than fit into a message")


def name_of(word: bytes) -> bytes:
    """Return a host name in wire form and lower case; raises `Unusable`."""
    text = word.decode("utf-8", "surrogateescape")
    if not text.isprintable():
        raise Unusable(f"{_shown(word)} is not printable text")
    try:
        name = lower(from_text(text))
    except InvalidName as error:
        raise Unusable(str(error)) from None
    if name in (ROOT, _NO_DOMAIN):
        raise Unusable(f"{_shown(word)} is not a host name: it has no domain")
    return name


def _words(line: bytes) -> list[bytes]:
    """Return the words before a comment; white space beyond ASCII separates, too, as in Go."""
    if len(line) > LONGEST_LINE:
        raise Unusable(f"longer than {LONGEST_LINE >> 10} KiB")
    text = line.partition(b"#")[0]
    if text.isascii():
        return text.split()
    words = text.decode("utf-8", "surrogateescape").split()
    return [word.encode("utf-8", "surrogateescape") for word in words]


def _lines(content: bytes) -> Iterator[bytes]:
    """Yield the lines of a file; of a line that is too long, only the beginning."""
    read_piece = partial(io.BytesIO(content).readline, LONGEST_LINE + 1)
    is_rest = False
    for piece in iter(read_piece, b""):
        if not is_rest:
            yield piece
        is_rest = not piece.endswith(b"\n")


def _shown(word: bytes) -> str:
    text = word.decode("utf-8", "backslashreplace")
    return repr(text) if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]!r}..."
