"""Finds the rule that applies to a reply: its aliases, its addresses, and its name servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import labels_of, lower
from corepy.dns.wire import ANSWER, AUTHORITY, NameReader, walk
from corepy_blocklist.rule import NSDNAME, RESPONSE_IP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corepy.dns import Reply, Request
    from corepy_blocklist.rule import Rule
    from corepy_blocklist.table import Table

_CNAME_IN: Final = c.TYPE_CNAME.to_bytes(2, "big") + c.CLASS_IN.to_bytes(2, "big")
_ADDRESSES: Final = {c.TYPE_A: 4, c.TYPE_AAAA: 16}
_MAPPED: Final = bytes(10) + b"\xff\xff"


class _Content:
    """The parts of a reply that rules can apply to."""

    __slots__ = ("addresses", "aliases", "name_servers")

    def __init__(self, wire: bytes) -> None:
        self.aliases: dict[bytes, bytes] = {}
        self.addresses: list[bytes] = []
        self.name_servers: list[bytes] = []
        reader = NameReader(wire)
        for section, rtype, rclass, _, rdata, length, owner, _ in walk(wire):
            if rclass != c.CLASS_IN:
                continue
            if section == ANSWER and rtype == c.TYPE_CNAME:
                self.aliases[lower(reader.read(owner)[0])] = lower(reader.read(rdata)[0])
            elif section == ANSWER and _ADDRESSES.get(rtype) == length:
                self.addresses.append(wire[rdata : rdata + length].removeprefix(_MAPPED))
            elif rtype == c.TYPE_NS and section in (ANSWER, AUTHORITY):
                self.name_servers.append(lower(reader.read(rdata)[0]))


def find_in_reply(
    table: Table, request: Request, reply: Reply, before: Rule | None, *, inspects_aliases: bool
) -> Rule | None:
    """Return the rule for a reply; `before` is that for its query, if other rules may precede it.

    The first alias with a rule decides, as in the draft (section 5.1): it is asked for first. At
    the end of the aliases, the first source with a rule decides. Raises FormError.
    """
    others = table.first_of
    has_others = RESPONSE_IP in others or NSDNAME in others
    if not has_others and (before is not None or not may_have_aliases(request, reply)):
        return before
    content = _Content(reply.wire)
    if content.aliases:
        if before is not None:
            return before
        if inspects_aliases:
            rule = _find_alias(table, request.name_wire, content.aliases)
            if rule is not None:
                return rule
    best = _preferred(before, _address_rules(table, content.addresses))
    if NSDNAME in others:
        names = sorted(content.name_servers, key=_canonical)
        best = _preferred(best, map(table.find_name_server, names))
    return best


def _address_rules(table: Table, addresses: Iterable[bytes]) -> Iterator[Rule]:
    """Yield the rules for addresses: those of longer prefixes, then of smaller addresses first."""
    found = []
    for address in addresses:
        rule = table.find_address(RESPONSE_IP, address)
        if rule is not None:
            found.append((-rule.prefix, address, rule))
    yield from (rule for _, _, rule in sorted(found))


def _canonical(name: bytes) -> list[bytes]:
    """Return a key for the canonical order of names (RFC 4034 section 6.1)."""
    return labels_of(name)[::-1]


def may_have_aliases(request: Request, reply: Reply) -> bool:
    """Return whether a reply could have CNAME records: whether it has the bytes of their type."""
    return reply.wire.find(_CNAME_IN, request.question_end) > 0


def _find_alias(table: Table, name: bytes, aliases: dict[bytes, bytes]) -> Rule | None:
    while (target := aliases.pop(name, None)) is not None:  # each once: there may be a loop
        rule = table.find(target)
        if rule is not None:
            return rule
        name = target
    return None


def _preferred(before: Rule | None, found: Iterable[Rule | None]) -> Rule | None:
    """Return the rule of the first source; of those in the same, the first rule."""
    best = before
    for rule in found:
        if rule is not None and (best is None or rule.source < best.source):
            best = rule
    return best
