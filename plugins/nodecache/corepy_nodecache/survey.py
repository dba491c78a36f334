"""List corepy's objects on the host and the changes a Corefile would make, for the commands.

Needs no running server, reads both kinds of iptables, and creates no tables by reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy_nodecache.claims import Claims
from corepy_nodecache.detect import choose
from corepy_nodecache.legacy import LegacyTables
from corepy_nodecache.link import Links
from corepy_nodecache.model import MARK, Address, difference, spec
from corepy_nodecache.nft import NftTables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy_nodecache.blocks import Plan
    from corepy_nodecache.link import Placed, Snapshot
    from corepy_nodecache.model import DesiredState, FilterRule
    from corepy_nodecache.tables import RuleTables


MISSING: Final = "missing"
UNWANTED: Final = "not wanted"
_NODE_CACHE: Final = ", with the comments of node-cache"


class Finding(NamedTuple):
    """One object on the host; `state` describes its owner or the problem with it."""

    kind: str
    where: str
    what: str
    state: str


class Step(NamedTuple):
    """One change that a configuration requires; `action` is add or remove."""

    action: str
    what: str


def all_tables() -> tuple[RuleTables, ...]:
    """Return the back ends of both kinds of iptables."""
    return LegacyTables(), NftTables()


def findings(links: Links, plan: Plan | None = None) -> list[Finding]:
    """Return every link, address, rule and claim of corepy; raises `HostError`.

    With a `plan`, also returns the objects that it wants and that are missing, and marks those that
    it does not want.
    """
    now = links.read()
    want = plan.want if plan else None
    return [*_links(now, want), *_addresses(now, want), *_all_rules(plan), *_claimed()]


def _links(now: Snapshot, want: DesiredState | None) -> list[Finding]:
    ours = (link for link in now.links.values() if link.is_ours)
    found = [Finding("link", it.name, it.kind, "up" if it.is_up else "down") for it in ours]
    devices = {address.device for address in want.addresses} if want else set()
    missing = sorted(devices - now.links.keys())
    return [*found, *(Finding("link", device, "dummy", MISSING) for device in missing)]


def _addresses(now: Snapshot, want: DesiredState | None) -> list[Finding]:
    wanted = want.addresses if want else frozenset()
    devices = {address.device for address in now.addresses if address.is_ours}
    devices |= {link.name for link in now.links.values() if link.is_ours}
    placed, wanted_ips = {it.ip for it in now.addresses}, {it.ip for it in wanted}
    found = [
        Finding("address", it.device, it.ip, _owner(it, want))
        for it in now.addresses
        if (it.device in devices and not it.is_link_local) or it.ip in wanted_ips
    ]
    missing = (it for it in sorted(wanted) if it.ip not in placed)
    return [*found, *(Finding("address", it.device, it.ip, MISSING) for it in missing)]


def _owner(placed: Placed, want: DesiredState | None) -> str:
    if not placed.is_ours:
        return "not corepy's"
    is_surplus = want and Address(placed.device, placed.ip) not in want.addresses
    return f"corepy's, {UNWANTED}" if is_surplus else "corepy's"


def _all_rules(plan: Plan | None) -> Iterator[Finding]:
    """Yield the rules in both kinds of iptables; the rules of a `plan` belong in one of them."""
    chosen = choose(plan.mode).name if plan and plan.mode != "off" else ""
    for tables in all_tables():
        wanted = plan.want.rules() if plan and tables.name == chosen else set()
        yield from _rules(tables.name, tables.read(), wanted if plan else None)


def _rules(kind: str, rules: Sequence[FilterRule], wanted: set[FilterRule] | None) -> list[Finding]:
    """Return one finding for each address and port, and for each of the two kinds of comments."""
    found = []
    for place in sorted({_place(rule) for rule in [*rules, *(wanted or ())]}):
        ip, port, is_node_cache = place
        here = [rule for rule in rules if _place(rule) == place]
        mine = {it for it in wanted if _place(it) == place} if wanted is not None else None
        if is_node_cache and not mine:
            mine = None  # they may be the rules of the program node-cache, which stay
        suffix = _NODE_CACHE if is_node_cache else ""
        found.append(Finding("rules", kind, f"{ip} port {port}", _count(here, mine) + suffix))
    return found


def _place(rule: FilterRule) -> tuple[str, int, bool]:
    return rule.ip, rule.source_port or rule.destination_port, rule.comment != MARK


def _count(rules: Sequence[FilterRule], wanted: set[FilterRule] | None) -> str:
    """Return the number of an endpoint's rules, with the numbers of duplicate and wrong ones."""
    actual = set(rules)
    parts = [str(len(actual))]
    if len(rules) > len(actual):
        parts.append(f"{len(rules) - len(actual)} repeated")
    if wanted is not None:
        parts += [f"{len(wanted - actual)} {MISSING}"] if wanted - actual else []
        parts += [f"{len(actual - wanted)} {UNWANTED}"] if actual - wanted else []
    return ", ".join(parts)


def _claimed() -> list[Finding]:
    want = Claims().others()
    addresses = [Finding("claim", it.device, it.ip, "wanted") for it in sorted(want.addresses)]
    endpoints = (
        Finding("claim", it.kind, f"{it.ip} port {it.port}", "wanted")
        for it in sorted(want.endpoints)
    )
    return [*addresses, *endpoints]


def steps(plan: Plan, links: Links) -> list[Step]:
    """Return the changes that a server with this `plan` would make now; raises `HostError`.

    The claims of other processes are kept.
    """
    want, others = plan.want, Claims().others()
    now = links.read()
    placed = {it.ip for it in now.addresses}
    missing = [it for it in sorted(want.addresses) if it.ip not in placed]
    devices = sorted({it.device for it in missing} - now.links.keys())
    stale = sorted(set(now.ours()) - want.addresses - others.addresses)
    added, removed = _rule_steps(plan, others)
    return [
        *(Step("add", f"interface {device}") for device in devices),
        *(Step("add", f"address {it.ip} on {it.device}") for it in missing),
        *(Step("add", rule) for rule in added),
        *(Step("remove", rule) for rule in removed),
        *(Step("remove", f"address {it.ip} on {it.device}") for it in stale),
    ]


def _rule_steps(plan: Plan, others: DesiredState) -> tuple[list[str], list[str]]:
    if plan.mode == "off":
        return [], []
    tables, wanted, adopted = choose(plan.mode), plan.want.rules(), plan.want.adopted_rules()
    actual, claimed = tables.read(adopted), others.rules()

    def removable(rule: FilterRule) -> bool:
        return rule not in claimed and (rule.comment == MARK or rule.bare in adopted)

    shared = {rule for rule in claimed if rule.comment != MARK}
    change = difference(actual, wanted, removable, shared)
    removed = sorted({actual[place] for place in change.remove})
    return (
        [_text(tables, rule) for rule in change.add],
        [_text(tables, rule) for rule in removed],
    )


def _text(tables: RuleTables, rule: FilterRule) -> str:
    return f"rule {tables.name} IPv{rule.family} {rule.table} {spec(rule)}"


def remove_everything(links: Links) -> list[str]:
    """Remove all rules, addresses and links of corepy; returns the changes as text.

    Rules with node-cache's comments are corepy's if it has added their address.
    """
    done: list[str] = []
    ips = {address.ip for address in links.read().ours()}

    def is_ours(rule: FilterRule) -> bool:
        return rule.comment == MARK or rule.ip in ips

    for tables in all_tables():
        _, removed = tables.reconcile(set(), is_ours)
        done += [f"removed {removed} rules from {tables.name} iptables"] if removed else []
    return done + links.remove_all()
