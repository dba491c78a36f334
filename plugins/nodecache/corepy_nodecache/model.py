"""What nodecache wants on the host, as plain values: addresses, endpoints and packet filter rules.

Nothing here touches the host. Two blocks that want the same thing produce equal values, so sets do
the reference counting. The list in `rules_for` is the contract with the operator (and with
node-cache, whose rules it repeats: kubernetes-sigs/node-local-dns, cmd/node-cache/app/cache_app.go,
initIptables); change it only together with the README.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

MARK: Final = "corepy nodecache"
"""The comment of every rule, and the alias of every link, that corepy made."""

Family = Literal[4, 6]
Kind = Literal["dns", "health"]
Mode = Literal["auto", "legacy", "nft", "off"]

TABLES: Final = ("filter", "raw")
"""In the order of writing: untracked packets that nothing accepts may be dropped, so the rules that
accept come first. When rules only go, the order is the reverse (`table_order`)."""


class HostError(Exception):
    """The host did not do what was asked; `kind` is the error counter's label, as in node-cache."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Address(NamedTuple):
    """An address that a device of this node has to carry."""

    device: str
    ip: str

    @property
    def family(self) -> Family:
        """4 or 6."""
        return family_of(self.ip)


class Endpoint(NamedTuple):
    """A socket whose traffic must not be tracked: DNS over UDP and TCP, or health over TCP."""

    kind: Kind
    ip: str
    port: int


class Rule(NamedTuple):
    """One packet filter rule; an empty address and port 0 mean any. Its comment is `MARK`."""

    family: Family
    table: str
    chain: str
    protocol: str
    source: str
    destination: str
    source_port: int
    destination_port: int
    target: str


class Want(NamedTuple):
    """Everything that this process wants on the host."""

    addresses: frozenset[Address] = frozenset()
    endpoints: frozenset[Endpoint] = frozenset()

    def rules(self) -> set[Rule]:
        """Return the rules of all endpoints."""
        return {rule for endpoint in self.endpoints for rule in rules_for(endpoint)}


class Difference(NamedTuple):
    """How a list of marked rules has to change; `remove` holds positions in it, ascending."""

    add: list[Rule]
    remove: list[int]


def family_of(ip: str) -> Family:
    """Return 4 or 6 for an address in text form."""
    return 6 if ":" in ip else 4


def canonical_ip(text: str) -> str:
    """Return an address as the kernel prints it; raises ValueError for what no host can have."""
    ip = ipaddress.ip_address(text)
    if isinstance(ip, ipaddress.IPv6Address) and (ip.scope_id or ip.ipv4_mapped):
        raise ValueError(f"{text} cannot stand in a rule, being mapped or with a zone")
    if ip.is_unspecified or ip.is_multicast:
        raise ValueError(f"{text} is not the address of a host")
    # As C spells it, and so iptables and ip; Python differs for some IPv6 addresses.
    return socket.inet_ntop(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, ip.packed)


def table_order(wanted: Collection[Rule]) -> Sequence[str]:
    """Return the tables in the order to change them when `wanted` is what has to be there."""
    return TABLES if wanted else TABLES[::-1]


def spec(rule: Rule) -> str:
    """Return a rule in iptables' notation, from the chain on."""
    width = 128 if rule.family == 6 else 32
    parts = [
        rule.chain,
        f"-s {rule.source}/{width}" if rule.source else "",
        f"-d {rule.destination}/{width}" if rule.destination else "",
        f"-p {rule.protocol} -m {rule.protocol}",
        f"--sport {rule.source_port}" if rule.source_port else "",
        f"--dport {rule.destination_port}" if rule.destination_port else "",
        f'-m comment --comment "{MARK}" -j {rule.target}',
    ]
    return " ".join(filter(None, parts))


def rules_for(endpoint: Endpoint) -> tuple[Rule, ...]:
    """Return the rules of an endpoint: ten for DNS, two for the health check."""
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
            # Clients in the host's network, such as hostNetwork pods (kubernetes/dns 318).
            _to(endpoint, "raw", "OUTPUT", protocol, "NOTRACK"),
            _from(endpoint, "raw", "OUTPUT", protocol, "NOTRACK"),
            # Untracked packets miss the usual "established: accept".
            _to(endpoint, "filter", "INPUT", protocol, "ACCEPT"),
            _from(endpoint, "filter", "OUTPUT", protocol, "ACCEPT"),
        )
    )


def _to(endpoint: Endpoint, table: str, chain: str, protocol: str, target: str) -> Rule:
    family = family_of(endpoint.ip)
    return Rule(family, table, chain, protocol, "", endpoint.ip, 0, endpoint.port, target)


def _from(endpoint: Endpoint, table: str, chain: str, protocol: str, target: str) -> Rule:
    family = family_of(endpoint.ip)
    return Rule(family, table, chain, protocol, endpoint.ip, "", endpoint.port, 0, target)


def difference(
    actual: Sequence[Rule], wanted: Iterable[Rule], removable: Callable[[Rule], bool]
) -> Difference:
    """Compare the marked rules that are there with those wanted.

    Missing ones are added, repeated ones are thinned out to one, and others go if `removable` says
    so.
    """
    wanted = set(wanted)
    seen: Counter[Rule] = Counter()
    remove = []
    for position, rule in enumerate(actual):
        seen[rule] += 1
        unwanted = rule not in wanted
        if (unwanted and removable(rule)) or (not unwanted and seen[rule] > 1):
            remove.append(position)
    return Difference(sorted(wanted - seen.keys()), remove)
