"""The desired state of the host as plain values: addresses, endpoints and packet filter rules.

Nothing here touches the host. Server blocks with the same needs produce equal values, so sets
replace reference counts. The list in `rules_for` is the contract with the operator. It repeats the
rules of node-cache (kubernetes-sigs/node-local-dns, cmd/node-cache/app/cache_app.go, initIptables).
Change it only together with the README.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

MARK: Final = "corepy nodecache"
"""The comment of corepy's own rules, and the alias of every link that corepy creates."""

LAST_PORT: Final = 65535

NODE_CACHE_COMMENTS: Final = {
    "NOTRACK": "NodeLocal DNS Cache: skip conntrack",
    "ACCEPT": "NodeLocal DNS Cache: allow DNS traffic",
}
"""The comments of node-cache's rules, by target (cmd/node-cache/app/cache_app.go)."""

COMMENTS: Final = frozenset({MARK, *NODE_CACHE_COMMENTS.values()})
"""The comments that a rule of corepy can have."""

Style = Literal["corepy", "node-cache"]
Family = Literal[4, 6]
Kind = Literal["dns", "health"]
Mode = Literal["auto", "legacy", "nft", "off"]

TABLES: Final = ("filter", "raw")
"""The tables in the order of writing.

Accepting rules come first, because a firewall may drop untracked packets that no rule accepts. A
pass that only removes rules uses the reverse order (`table_order`).
"""


class HostError(Exception):
    """A change of the host failed; `kind` is the label of the error counter, as in node-cache."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Address(NamedTuple):
    """An address that a network device of this node must have."""

    device: str
    ip: str

    @property
    def family(self) -> Family:
        """Return 4 or 6."""
        return family_of(self.ip)


class UntrackedEndpoint(NamedTuple):
    """A socket whose traffic must not be tracked: DNS over UDP and TCP, or health over TCP."""

    kind: Kind
    ip: str
    port: int
    style: Style = "corepy"
    """The program whose comments the rules have; see `rules_for`."""


class FilterRule(NamedTuple):
    """One packet filter rule; an empty address and port 0 match any."""

    family: Family
    table: str
    chain: str
    protocol: str
    source: str
    destination: str
    source_port: int
    destination_port: int
    target: str
    comment: str = MARK
    """One of `COMMENTS`, or empty for a rule without a comment, which corepy never adds."""

    @property
    def bare(self) -> FilterRule:
        """The rule without its comment: equal for all rules with the same effect."""
        return self._replace(comment="")

    @property
    def ip(self) -> str:
        """The address that the rule matches."""
        return self.source or self.destination


class DesiredState(NamedTuple):
    """The desired state of the host, for this process or one server block."""

    addresses: frozenset[Address] = frozenset()
    endpoints: frozenset[UntrackedEndpoint] = frozenset()
    adopted: frozenset[str] = frozenset()
    """The devices that become corepy's if the program node-cache has left them."""

    def rules(self) -> set[FilterRule]:
        """Return the rules of all endpoints."""
        return {rule for endpoint in self.endpoints for rule in rules_for(endpoint)}

    def adopted_rules(self) -> set[FilterRule]:
        """Return, without comments, the rules that corepy shares with the program node-cache."""
        shared = (it for it in self.endpoints if it.style == "node-cache")
        return {rule.bare for endpoint in shared for rule in rules_for(endpoint)}


class Difference(NamedTuple):
    """The changes that a list of rules needs; `remove` has positions in it, ascending."""

    add: list[FilterRule]
    remove: list[int]


def family_of(ip: str) -> Family:
    """Return the IP version (4 or 6) of an address in text form."""
    return 6 if ":" in ip else 4


def canonical_ip(text: str) -> str:
    """Return an address as the kernel prints it; raises ValueError if no host can have it."""
    ip = ipaddress.ip_address(text)
    if isinstance(ip, ipaddress.IPv6Address) and (ip.scope_id or ip.ipv4_mapped):
        raise ValueError(f"{text} cannot be used in a rule: it is IPv4-mapped or has a zone")
    if ip.is_unspecified or ip.is_multicast:
        raise ValueError(f"{text} is not the address of a host")
    # inet_ntop's spelling, which iptables and ip print; Python's differs for some IPv6 addresses.
    return socket.inet_ntop(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, ip.packed)


def table_order(wanted: Collection[FilterRule]) -> Sequence[str]:
    """Return the tables in the order of change: reversed if no rules are wanted."""
    return TABLES if wanted else TABLES[::-1]


def spec(rule: FilterRule) -> str:
    """Return a rule in the notation of iptables, beginning with the chain."""
    width = 128 if rule.family == 6 else 32
    parts = [
        rule.chain,
        f"-s {rule.source}/{width}" if rule.source else "",
        f"-d {rule.destination}/{width}" if rule.destination else "",
        f"-p {rule.protocol} -m {rule.protocol}",
        f"--sport {rule.source_port}" if rule.source_port else "",
        f"--dport {rule.destination_port}" if rule.destination_port else "",
        f'-m comment --comment "{rule.comment}"' if rule.comment else "",
        f"-j {rule.target}",
    ]
    return " ".join(filter(None, parts))


def rules_for(endpoint: UntrackedEndpoint) -> tuple[FilterRule, ...]:
    """Return the rules of an endpoint: ten for DNS, two for the health check.

    In the style "corepy" their comment is `MARK`, so corepy can tell its rules from those of a
    node-cache that runs beside it. In the style "node-cache" they equal the rules of that program:
    each of the two finds and removes the rules that the other one has left.
    """
    if endpoint.kind == "health":
        return (
            _to(endpoint, "raw", "OUTPUT", "tcp", "NOTRACK"),
            _from(endpoint, "raw", "OUTPUT", "tcp", "NOTRACK"),
        )
    return tuple(
        rule
        for protocol in ("udp", "tcp")
        for rule in (
            _to(endpoint, "raw", "PREROUTING", protocol, "NOTRACK"),
            # For clients in the host network, such as hostNetwork pods (kubernetes/dns 318).
            _to(endpoint, "raw", "OUTPUT", protocol, "NOTRACK"),
            _from(endpoint, "raw", "OUTPUT", protocol, "NOTRACK"),
            # The usual "ESTABLISHED: ACCEPT" rule does not match untracked packets.
            _to(endpoint, "filter", "INPUT", protocol, "ACCEPT"),
            _from(endpoint, "filter", "OUTPUT", protocol, "ACCEPT"),
        )
    )


def _to(
    endpoint: UntrackedEndpoint, table: str, chain: str, protocol: str, target: str
) -> FilterRule:
    ip, port, comment = endpoint.ip, endpoint.port, _comment(endpoint, target)
    return FilterRule(family_of(ip), table, chain, protocol, "", ip, 0, port, target, comment)


def _from(
    endpoint: UntrackedEndpoint, table: str, chain: str, protocol: str, target: str
) -> FilterRule:
    ip, port, comment = endpoint.ip, endpoint.port, _comment(endpoint, target)
    return FilterRule(family_of(ip), table, chain, protocol, ip, "", port, 0, target, comment)


def _comment(endpoint: UntrackedEndpoint, target: str) -> str:
    return MARK if endpoint.style == "corepy" else NODE_CACHE_COMMENTS[target]


def difference(
    actual: Sequence[FilterRule],
    wanted: Iterable[FilterRule],
    removable: Callable[[FilterRule], bool],
    shared: Collection[FilterRule] = frozenset(),
) -> Difference:
    """Compare the rules on the host with the desired rules.

    A rule in `shared` that is on the host takes the place of a desired rule with `MARK`.

    Adds missing rules, removes duplicates, and removes each undesired rule for which `removable`
    returns true.
    """
    in_place = {rule.bare for rule in actual if rule in shared}
    wanted = {rule for rule in wanted if rule.comment != MARK or rule.bare not in in_place}
    seen: Counter[FilterRule] = Counter()
    remove = []
    for position, rule in enumerate(actual):
        seen[rule] += 1
        unwanted = rule not in wanted
        if (unwanted and removable(rule)) or (not unwanted and seen[rule] > 1):
            remove.append(position)
    return Difference(sorted(wanted - seen.keys()), remove)
