"""Reads the `nameserver` lines of files in the format of resolv.conf(5).

Lines and words are parsed as in CoreDNS (miekg/dns, clientconfig.go): a line ends with a line feed,
may begin with white space, and its second word is the address. An unusable line does not affect the
others: it is skipped, with a message about the reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from corepy.plugin.reading import FileVersion, read_file
from corepy_forward.targets import PORTS, Target, as_ip, flaw, scope_of, split_host_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_SIZE = 1024 * 1024
MAX_SERVERS = 64
"""Maximum number of name servers used from one file.

Each needs a probe and sockets. Resolvers of the C library use at most three.
"""

_MAX_PROBLEMS = 5
_KEYWORD = "nameserver"


class Nameserver(NamedTuple):
    """A `nameserver` line with a usable address."""

    target: Target
    place: str
    """The file and line number."""


class ResolvConf(NamedTuple):
    """The contents of a file."""

    servers: list[Nameserver]
    problems: list[str]
    """A message for each skipped line."""

    version: FileVersion | None
    """The version that was read; None if the file may change again without a new version."""


def read_resolv_conf(path: Path) -> ResolvConf:
    """Return the name servers in a file; raises `ValueError` if it cannot be read."""
    try:
        content, version = read_file(path, MAX_SIZE)
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r}: {error.strerror}") from None
    servers: list[Nameserver] = []
    problems: list[str] = []
    for number, words in _lines(content):
        place = f"{path}:{number}"
        try:
            target = _target(words)
        except ValueError as error:
            problems.append(f"{place}: {error}; the line is skipped")
            continue
        if len(words) > 2 and as_ip(words[2]):
            problems.append(f"{place}: only the first address of a line is used: {words[1]}")
        servers.append(Nameserver(target, place))
    return ResolvConf(_limited(servers, problems), _shortened(problems, path), version)


def _lines(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the words of each `nameserver` line.

    A byte order mark, which Windows editors write, is not a part of the first word.
    """
    text = content.decode("utf-8-sig", "replace")
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if words and words[0] == _KEYWORD:
            yield number, words


def _target(words: list[str]) -> Target:
    """Return the upstream in the words of a line; raises `ValueError`."""
    if len(words) == 1:
        raise ValueError("nameserver without an address")
    host, _, zone = words[1].partition("%")
    address = as_ip(host)
    if address is None:
        raise ValueError(f"not an IP address: {words[1][:60]!r}{_advice(words[1])}")
    target = Target(address, PORTS["dns"], scope=scope_of(address, zone))
    problem = flaw(target)
    if problem:
        raise ValueError(problem)
    return target


def _advice(word: str) -> str:
    split = split_host_port(word)
    if split is not None and as_ip(split[0].partition("%")[0]):
        return " (such a file names no ports; write this upstream into the Corefile)"
    return " (one address a line)" if "," in word else ""


def _limited(servers: list[Nameserver], problems: list[str]) -> list[Nameserver]:
    if len(servers) > MAX_SERVERS:
        problems.append(
            f"{servers[MAX_SERVERS].place}: more than {MAX_SERVERS} name servers; this line and"
            " those below are skipped"
        )
    return servers[:MAX_SERVERS]


def _shortened(problems: list[str], path: Path) -> list[str]:
    more = len(problems) - _MAX_PROBLEMS
    if more <= 1:
        return problems
    return [*problems[:_MAX_PROBLEMS], f"{path}: {more} more lines like these are skipped"]
