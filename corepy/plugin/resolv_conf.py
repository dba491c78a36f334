"""Reads the content of files in the format of resolv.conf(5).

Lines and words are parsed as in CoreDNS (miekg/dns, clientconfig.go): a line ends with a line feed,
and may begin and end with white space. glibc ignores a line that begins with white space, and takes
a carriage return for a part of the last word. A byte order mark, which Windows editors write, is
not a part of the first word. A keyword with `#` or `;` in front is unknown, so its line is a
comment; behind another keyword, these characters begin a word like any others, as in glibc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.names import InvalidName, from_text, lower

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES: Final = 1024 * 1024
"""Size of the largest file that a plugin reads."""


class SearchList(NamedTuple):
    """The search domains in a file."""

    domains: tuple[bytes, ...]
    """Wire names in lower case, each once."""

    problems: list[str]
    """A message with the number of the line for each domain that is left out."""


def read_lines(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the words of each line that is not blank.

    Bytes that are not UTF-8 become surrogates, as `corepy.dns.names.from_text` takes them.
    """
    text = content.decode("utf-8-sig", "surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if words:
            yield number, words


def read_search_list(content: bytes) -> SearchList:
    """Return the search domains of a file, as glibc finds them (resolv/res_init.c, since 2.26).

    The last line `search` or `domain` with a word counts, and `domain` has one domain. Neither the
    number of domains nor their length is limited. A file without such a line has no domains: glibc
    takes the domain of the host's own name, which is not that of the file's other users.
    """
    last, domains = 0, list[str]()
    for number, (keyword, *words) in read_lines(content):
        if keyword in ("search", "domain") and words:
            last, domains = number, words if keyword == "search" else words[:1]
    found: dict[bytes, None] = {}
    problems: list[str] = []
    for domain in domains:
        try:
            found[lower(from_text(domain))] = None
        except InvalidName as error:
            problems.append(f"line {last}: {error}; this domain is skipped")
    return SearchList(tuple(found), problems)
