"""What of corepy is on the host, and what a configuration would change: for the one-shot commands.

Works without a running server, reads both kinds of iptables, and creates nothing by looking.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from corepy_nodecache.claims import Claims
from corepy_nodecache.detect import choose
from corepy_nodecache.legacy import LegacyTables
from corepy_nodecache.link import Links
from corepy_nodecache.model import Rule, Want, spec
from corepy_nodecache.nft import NftTables

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy_nodecache.link import Snapshot
    from corepy_nodecache.model import Mode
    from corepy_nodecache.tables import RuleTables


class Finding(NamedTuple):
    """One thing on the host; `state` says in words whose it is, or what is wrong with it."""

    kind: str
    where: str
    what: str
    state: str


class Step(NamedTuple):
    """One change that a configuration asks for; `action` is add or remove."""

    action: str
    what: str


def all_tables() -> tuple[RuleTables, ...]:
    """Return both kinds of iptables."""
    return LegacyTables(), NftTables()


def findings(links: Links) -> list[Finding]:
    """Return every link, address and rule of corepy, and who claims what; raises `HostError`."""
    now = links.read()
    rules = [it for tables in all_tables() for it in _rules(tables.name, tables.read())]
    return [*_links(now), *_addresses(now), *rules, *_claimed()]


def _links(now: Snapshot) -> list[Finding]:
    ours = (link for link in now.links.values() if link.is_ours)
    return [Finding("link", link.name, link.kind, "up" if link.is_up else "down") for link in ours]


def _addresses(now: Snapshot) -> list[Finding]:
    devices = {address.device for address in now.addresses if address.is_ours}
    devices |= {link.name for link in now.links.values() if link.is_ours}
    return [
        Finding("address", it.device, it.ip, "corepy's" if it.is_ours else "not corepy's")
        for it in now.addresses
        if it.device in devices and not it.is_link_local
    ]


def _rules(kind: str, rules: Iterable[Rule]) -> list[Finding]:
    """Return one line for each address and port."""
    counts: Counter[tuple[str, int]] = Counter()
    repeated: Counter[tuple[str, int]] = Counter()
    for rule, times in Counter(rules).items():
        socket = rule.source or rule.destination, rule.source_port or rule.destination_port
        counts[socket] += 1
        repeated[socket] += times - 1
    return [
        Finding(
            "rules",
            kind,
            f"{ip} port {port}",
            f"{count}, {repeated[ip, port]} repeated" if repeated[ip, port] else str(count),
        )
        for (ip, port), count in sorted(counts.items())
    ]


def _claimed() -> list[Finding]:
    want = Claims().others()
    addresses = [Finding("claim", it.device, it.ip, "wanted") for it in sorted(want.addresses)]
    endpoints = (
        Finding("claim", it.kind, f"{it.ip} port {it.port}", "wanted")
        for it in sorted(want.endpoints)
    )
    return [*addresses, *endpoints]


def steps(want: Want, mode: Mode, links: Links) -> list[Step]:
    """Return what a server that wants `want` would change now; raises `HostError`.

    What other processes claim stays.
    """
    others = Claims().others()
    now = links.read()
    placed = {it.ip for it in now.addresses}
    missing = [it for it in sorted(want.addresses) if it.ip not in placed]
    devices = sorted({it.device for it in missing} - now.links.keys())
    stale = sorted(set(now.ours()) - want.addresses - others.addresses)
    added, removed = _rule_steps(want, mode, others)
    return [
        *(Step("add", f"interface {device}") for device in devices),
        *(Step("add", f"address {it.ip} on {it.device}") for it in missing),
        *(Step("add", rule) for rule in added),
        *(Step("remove", rule) for rule in removed),
        *(Step("remove", f"address {it.ip} on {it.device}") for it in stale),
    ]


def _rule_steps(want: Want, mode: Mode, others: Want) -> tuple[list[str], list[str]]:
    if mode == "off":
        return [], []
    tables = choose(mode)
    actual, wanted = set(tables.read()), want.rules()
    return (
        [_text(tables, rule) for rule in sorted(wanted - actual)],
        [_text(tables, rule) for rule in sorted(actual - wanted - others.rules())],
    )


def _text(tables: RuleTables, rule: Rule) -> str:
    return f"rule {tables.name} IPv{rule.family} {rule.table} {spec(rule)}"


def remove_everything(links: Links) -> list[str]:
    """Take away all rules, addresses and links of corepy; returns what was done, in words."""
    done = []
    for tables in all_tables():
        _, removed = tables.reconcile(set(), lambda _: True)
        done += [f"removed {removed} rules from {tables.name} iptables"] if removed else []
    return done + links.remove_all()
