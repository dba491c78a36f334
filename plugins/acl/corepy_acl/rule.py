"""The rules of *acl*, compiled so that a query costs one binary search for each directive.

For each set of query types that the same policies apply to, the addresses of a family are divided
into segments. All addresses of a segment have the same first matching policy. CoreDNS walks the
policies and looks the address up in a tree of each (plugin/acl/acl.go).
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from corepy.dns.names import InvalidName, from_text, lower
from corepy.plugin import ZoneMatcher
from corepy_acl.networks import EVERYWHERE, IPV4_BITS, IPV6_BITS, Network, merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corepy.plugin import Token

_IPV4_SIZE: Final = IPV4_BITS // 8
_IPV6_SIZE: Final = IPV6_BITS // 8

MOST_REMEMBERED: Final = 256
"""Addresses that the verdicts for a zone and a type remember; a node has fewer pods (110)."""


class Action(Enum):
    """What happens to a query; the value is the word of the Corefile."""

    ALLOW = "allow"
    BLOCK = "block"
    FILTER = "filter"
    DROP = "drop"


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """One line of a directive: an action for some query types from some networks."""

    action: Action
    types: frozenset[int] | None = None
    """The numbers of the query types; None for all."""

    networks: Sequence[Network] = EVERYWHERE
    token: Token | None = None
    """The action's word in the Corefile."""

    @property
    def place(self) -> str:
        """Its position in the configuration, such as "Corefile:3"."""
        return f"{self.token.file}:{self.token.line}" if self.token is not None else ""


NO_ADDRESS: Final = Policy(Action.BLOCK)
"""The policy for a client without an IP address; no rule can say anything about it."""

Bounds = list[bytes]
Policies = list[Policy | None]
"""The first matching policy of each segment; None where no policy matches."""

_NOWHERE: Final[tuple[Bounds, Policies]] = [b""], [NO_ADDRESS]
"""The only segment for clients without an IP address."""


class Segments:
    """The first matching policy for each address, for query types that share it."""

    __slots__ = ("by_size", "policies")

    def __init__(self, policies: Sequence[Policy]) -> None:
        """Compile `policies`, in the order of the Corefile."""
        ipv4, ipv6 = _divide(policies, IPV4_BITS), _divide(policies, IPV6_BITS)
        self.by_size = {_IPV4_SIZE: ipv4, _IPV6_SIZE: ipv6, 0: _NOWHERE}
        """The segments for each size of an address (`networks.key_of`) in bytes."""

        self.policies = frozenset((*ipv4[1], *ipv6[1]))
        """The policies of all segments, None among them if an address has no policy."""


def _divide(policies: Sequence[Policy], bits: int) -> tuple[Bounds, Policies]:
    """Return the first addresses of the segments, from address zero on, and their policies."""
    events: list[tuple[int, int, int]] = []
    for number, policy in enumerate(policies):
        for network in merge(policy.networks):
            if network.bits == bits:
                events += (network.first, 1, number), (network.last + 1, 0, number)
    events.sort()
    active: list[int] = []  # a heap of the policies that apply here; may hold some that have ended
    ended = [True] * len(policies)
    starts: Bounds = [bytes(bits // 8)]
    found: Policies = [None]
    for position, group in _grouped(events):
        for is_start, number in group:
            ended[number] = not is_start
            if is_start:
                heapq.heappush(active, number)
        while active and ended[active[0]]:
            heapq.heappop(active)
        policy_here = policies[active[0]] if active else None
        if position >> bits or policy_here is found[-1]:
            continue  # the end of all addresses, or no change
        if position:
            starts.append(position.to_bytes(bits // 8, "big"))
            found.append(policy_here)
        else:
            found[0] = policy_here
    return starts, found


def _grouped(
    events: Sequence[tuple[int, int, int]],
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield each position with its events; the ends at a position precede the starts."""
    group: list[tuple[int, int]] = []
    for number, (position, is_start, policy) in enumerate(events):
        group.append((is_start, policy))
        if number + 1 == len(events) or events[number + 1][0] != position:
            yield position, group
            group = []


class Rule:
    """One *acl* directive: policies for the names of some zones."""

    def __init__(self, zones: Sequence[str], policies: Sequence[Policy]) -> None:
        """Take zones as `Controller.zones_from` returns them."""
        self.zones = ZoneMatcher(zones)
        self.policies = tuple(policies)
        self.types = {qtype for policy in policies for qtype in policy.types or ()}
        """The query types that some policy names."""

        compiled: dict[tuple[int, ...], Segments] = {}
        self._by_type: dict[int | None, Segments] = {
            qtype: self._compile(qtype, compiled) for qtype in self.types
        }
        self._other = self._compile(None, compiled)

    def _compile(self, qtype: int | None, compiled: dict[tuple[int, ...], Segments]) -> Segments:
        """Return the segments for a type, shared by types with the same policies."""
        numbers = tuple(
            number
            for number, policy in enumerate(self.policies)
            if policy.types is None or qtype in policy.types
        )
        if numbers not in compiled:
            compiled[numbers] = Segments([self.policies[number] for number in numbers])
        return compiled[numbers]

    def segments(self, qtype: int | None) -> Segments:
        """Return the segments for a query type; None stands for one that no policy names."""
        return self._by_type.get(qtype, self._other)

    def unreachable(self) -> Iterator[Policy]:
        """Yield the policies that match nothing, because earlier ones match first."""
        reached = self._other.policies.union(*(it.policies for it in self._by_type.values()))
        yield from (policy for policy in self.policies if policy not in reached)


class Verdicts:
    """The verdicts on the queries for the names in a zone and for a type, by client."""

    __slots__ = ("_tables", "allowed", "depends_on_client")

    def __init__(self, compiled: Sequence[tuple[Segments, str]]) -> None:
        """Take the segments of each rule, in the order of the Corefile, and its zone."""
        self._tables = {
            size: [(*segments.by_size[size], zone) for segments, zone in compiled]
            for size in (_IPV4_SIZE, _IPV6_SIZE, 0)
        }
        self.allowed: set[bytes] = set()
        """Some of the addresses that are allowed, as in the clients' socket addresses."""

        self.depends_on_client = len(_actions(segments for segments, _ in compiled)) > 1
        """Whether some clients get another verdict than others."""

    def find(self, key: bytes) -> tuple[Policy | None, str]:
        """Return the policy that decides on a query, and the zone of its rule; None for none.

        `key` is the client's address (`networks.key_of`). A client without one is blocked.
        """
        for starts, policies, zone in self._tables[len(key)]:
            policy = policies[bisect_right(starts, key) - 1]
            if policy is not None:
                return policy, zone
        return None, ""

    def remember(self, address: bytes) -> None:
        """Add an address that is allowed; forget the others if there are many."""
        if len(self.allowed) >= MOST_REMEMBERED:
            self.allowed.clear()
        self.allowed.add(address)


def _actions(compiled: Iterable[Segments]) -> set[Action]:
    """Return the actions that clients may get."""
    actions: set[Action] = set()
    for segments in compiled:
        actions.update(policy.action for policy in segments.policies if policy is not None)
        if None not in segments.policies:
            return actions
    return actions | {Action.ALLOW}


class ZoneRules:
    """The rules for the names in a zone, in the order of the Corefile."""

    __slots__ = ("by_type", "others")

    def __init__(self, zone: str, rules: Iterable[Rule]) -> None:
        """Take those of `rules` that apply to a zone; none if the zone has no wire form."""
        applicable = list(_applicable(zone, rules))
        known: dict[tuple[tuple[Segments, str], ...], Verdicts] = {}

        def verdicts(qtype: int | None) -> Verdicts:
            compiled = tuple((rule.segments(qtype), label) for rule, label in applicable)
            return known.setdefault(compiled, Verdicts(compiled))

        types = {qtype for rule, _ in applicable for qtype in rule.types}
        self.by_type = {qtype: verdicts(qtype) for qtype in types}
        """The verdicts for each query type that a policy names."""

        self.others = verdicts(None)
        """The verdicts for all other types."""

    def find(self, qtype: int, key: bytes) -> tuple[Policy | None, str]:
        """Return the policy that decides on a query of a type; see `Verdicts.find`."""
        return self.by_type.get(qtype, self.others).find(key)

    @property
    def always_depends(self) -> bool:
        """Whether the verdict depends on the client for every type."""
        return all(it.depends_on_client for it in (self.others, *self.by_type.values()))

    @property
    def never_depends(self) -> bool:
        """Whether the verdict depends on the client for no type."""
        return not any(it.depends_on_client for it in (self.others, *self.by_type.values()))


def _applicable(zone: str, rules: Iterable[Rule]) -> Iterator[tuple[Rule, str]]:
    try:
        name = lower(from_text(zone))
    except InvalidName:  # no query is for such a name
        return
    for rule in rules:
        label = rule.zones.find(name)
        if label is not None:
            yield rule, label
