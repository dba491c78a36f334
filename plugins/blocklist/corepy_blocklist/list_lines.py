"""Reads block lists: hosts files, lists of names, and lines as in AdGuard, Adblock Plus or dnsmasq.

Each line is read by its own form, so one file may contain several. Rules for changing this file: a
line that blocks or allows more in a browser than a DNS server can know about, such as a path or an
element of a page, is counted as unsupported and has no effect.
"""

from __future__ import annotations

import codecs
import io
import re
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.address import packed
from corepy_blocklist.names import Unusable, plain_wire, shown, wire_name
from corepy_blocklist.rule import BELOW, NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_LINE: Final = 64 * 1024
"""Bytes of the longest line that is read."""

_BOTH: Final = NAME | BELOW
_BLOCKING: Final = frozenset((bytes(4), bytes((127, 0, 0, 1)), bytes(16), bytes(15) + b"\1"))
"""The addresses 0.0.0.0, 127.0.0.1, :: and ::1, which block a name in a hosts file."""

_LOCAL_NAMES: Final = frozenset(
    wire_name(name)
    for name in (
        b"localhost", b"localhost.localdomain", b"localhost4", b"localhost6",
        b"localhost4.localdomain4", b"localhost6.localdomain6", b"local", b"broadcasthost",
        b"ip6-localhost", b"ip6-loopback", b"ip6-localnet", b"ip6-mcastprefix", b"ip6-allnodes",
        b"ip6-allrouters", b"ip6-allhosts",
    )
)  # fmt: skip
"""Names of the host itself, with which hosts files of block lists begin."""

_NO_NAMES: Final = (b"#", b"!", b";", b"//")
"""Beginnings of comments."""

_COSMETIC: Final = re.compile(rb"#[@$%?]{0,3}#|\$\$")
_COMMON: Final = re.compile(
    rb"(?:(?:0\.0\.0\.0|127\.0\.0\.1|::1?)[ \t]+)?((?:[a-z0-9_-]{1,63}\.)+[a-z][a-z0-9-]{0,62})"
)
_ADBLOCK: Final = re.compile(rb"(\|\|?)(\*?\.)?([^/^|$*]+)(\.)?\^?\|?(?:\$(.*))?")
_HARMLESS: Final = frozenset((b"important", b"all", b"document", b"popup", b"third-party", b"3p"))
_DNSMASQ: Final = (b"address=", b"server=", b"local=")


class Unsupported(ValueError):
    """A line has a known form that has no effect here; the message is its kind."""


class ListEntry(NamedTuple):
    """A name in a list."""

    name: bytes
    scope: int
    is_exception: bool = False
    """Whether the line allows the name, as `@@||name^` does."""


def read_lines(content: bytes) -> Iterator[bytes]:
    """Yield the lines of a file without white space at the ends; those too long are cut off."""
    piece_of = partial(io.BytesIO(content.removeprefix(codecs.BOM_UTF8)).readline, LONGEST_LINE + 1)
    is_rest = False
    for piece in iter(piece_of, b""):
        if not is_rest:
            yield piece.strip()
        is_rest = not piece.endswith(b"\n")


def read_line(line: bytes, plain_scope: int = NAME) -> tuple[ListEntry, ...]:
    """Return the entries of a line; raises `Unusable` and `Unsupported`.

    `plain_scope` is that of names without any mark, also behind an address.
    """
    common = _COMMON.fullmatch(line.lower())
    if common is not None:
        return _listed((plain_wire(common[1]),), plain_scope)
    line = line.strip()
    if not line or (line.startswith(_NO_NAMES) and not _COSMETIC.match(line)):
        return ()
    if len(line) > LONGEST_LINE:
        raise Unusable(f"longer than {LONGEST_LINE >> 10} KiB")
    if line.startswith((b"|", b"@@")):
        return _read_adblock(line)
    if line.startswith(_DNSMASQ):
        return _read_dnsmasq(line)
    _refuse_browser_rules(line)
    return _read_words(line, plain_scope)


def _refuse_browser_rules(line: bytes) -> None:
    if line.startswith(b"[") and line.endswith(b"]"):
        raise Unsupported("header")
    if line.startswith(b"/"):
        raise Unsupported("regular expression")
    if _COSMETIC.search(line):
        raise Unsupported("cosmetic rule")


def _read_words(line: bytes, plain_scope: int) -> tuple[ListEntry, ...]:
    """Read a line of a hosts file, or a name with an optional mark in front."""
    first, *names = line.partition(b"#")[0].split()
    address = packed(first.partition(b"%")[0].decode("latin-1"))
    if address is None and first != b"0":
        if names:
            raise Unusable(f"{shown(first)} is not an address, but names follow")
        return _read_plain(first, plain_scope)
    if not names:
        raise Unusable(f"no name follows the address {shown(first)}")
    found = [wire_name(name) for name in names if packed(name.decode("latin-1")) is None]
    if found and _LOCAL_NAMES.issuperset(found):
        return ()
    if address is not None and address not in _BLOCKING:
        raise Unsupported("address of a host")
    return _listed(tuple(found), plain_scope)


def _read_plain(word: bytes, plain_scope: int) -> tuple[ListEntry, ...]:
    if word.startswith(b"*."):
        return _listed((wire_name(word[2:]),), _BOTH)
    if word.startswith(b"."):
        return _listed((wire_name(word[1:]),), _BOTH)
    if word.endswith(b"^") or b"/" in word or b"$" in word:
        raise Unsupported("rule without ||")
    if b"*" in word:
        raise Unsupported("wildcard inside of a name")
    return _listed((wire_name(word),), plain_scope)


def _listed(names: tuple[bytes, ...], scope: int) -> tuple[ListEntry, ...]:
    return tuple(ListEntry(name, scope) for name in names if name not in _LOCAL_NAMES)


def _read_adblock(line: bytes) -> tuple[ListEntry, ...]:
    rule = line.removeprefix(b"@@")
    _refuse_browser_rules(rule)
    match = _ADBLOCK.fullmatch(rule)
    if match is None:
        raise Unsupported("path" if b"/" in rule else "wildcard inside of a name")
    marks, subdomains, name, _, modifiers = match.groups()
    if b":" in name:
        raise Unsupported("address of a page")
    for modifier in (modifiers or b"").split(b","):
        word = modifier.partition(b"=")[0].strip().lower()
        if word and word not in _HARMLESS:
            raise Unsupported(f"modifier {shown(word)[1:-1]}")
    if b"^" not in rule:
        raise Unsupported("rule without ^")
    scope = NAME if marks == b"|" else BELOW if subdomains == b"*." else _BOTH
    return (ListEntry(wire_name(name), scope, line.startswith(b"@@")),)


def _read_dnsmasq(line: bytes) -> tuple[ListEntry, ...]:
    """Read `address=/name/...`, and `server=/name/` or `local=/name/` without a server."""
    option, _, value = line.partition(b"#")[0].strip().partition(b"=")
    if line.endswith((b"/#", b"/#/")):
        value = line.partition(b"=")[2]
    slash, *names, target = value.split(b"/") if b"/" in value else (value, b"")
    if slash or not names:
        raise Unsupported(f"dnsmasq option {option.decode()} without names")
    if target not in (b"", b"#") and option != b"address":
        raise Unsupported("server of a zone")
    if target not in (b"", b"#") and packed(target.decode("latin-1")) not in _BLOCKING:
        raise Unsupported("address of a host")
    return _listed(tuple(wire_name(name.removeprefix(b".")) for name in names), _BOTH)
