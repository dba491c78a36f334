"""Finds the rule that applies to a reply: its aliases, its addresses, and its name servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.names import lower
from corepy.dns.wire import ANSWER, AUTHORITY, NameReader, walk
from corepy_blocklist.rule import NSDNAME, RESPONSE_IP

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    found = [table.find_address(RESPONSE_IP, address) for address in content.addresses]
    if NSDNAME in others:
        found += [table.find_name_server(name) for name in content.name_servers]
    return _first(before, found)


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


def _first(before: Rule | None, found: Iterable[Rule | None]) -> Rule | None:
    best = before
    for rule in found:
        if rule is not None and (best is None or rule.source < best.source):
            best = rule
    return best
