"""Reads the search path in a file of the format resolv.conf(5).

Lines and words are parsed as in CoreDNS (miekg/dns, clientconfig.go): the last line `search` or
`domain` counts, as in the resolver of glibc.
"""

from __future__ import annotations

from typing import Final

from corepy.dns.names import ROOT, InvalidName, from_text, lower

MOST_BYTES: Final = 1024 * 1024
"""Size of the largest file that is read."""


def read_search_path(content: bytes) -> tuple[tuple[bytes, ...], list[str]]:
    """Return the suffixes in a file, and a message for each domain that cannot be used.

    The suffixes are wire names in lower case. The last one is the root, for the name without a
    suffix; there are none at all if the file has no domain but the root, as systemd-resolved writes
    it (`search .`). The messages begin with the number of the line.
    """
    number, words = _last_line(content)
    found: dict[bytes, None] = {}
    problems: list[str] = []
    for word in words:
        try:
            found[lower(from_text(word))] = None
        except InvalidName as error:
            problems.append(f"line {number}: {error}; this domain is skipped")
    if found.keys() <= {ROOT}:
        return (), problems
    found[ROOT] = None
    return tuple(found), problems


def _last_line(content: bytes) -> tuple[int, list[str]]:
    """Return the number of the line that counts, and the domains in it."""
    last: tuple[int, list[str]] = (0, [])
    text = content.decode("utf-8-sig", "surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        keyword, *words = line.split() or [""]
        if keyword == "search":
            last = number, words
        elif keyword == "domain":
            last = number, words[:1]
    return last
