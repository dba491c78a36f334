"""The order of plugins in the chain.

The order of the directives in a Corefile is irrelevant; the order of this list decides, as in
CoreDNS, whose `plugin.cfg` it repeats. A plugin receives the queries that the plugins above it pass
on, and its replies pass through them on the way up. Third-party plugins declare with `before` and
`after` which directives they must precede or follow. Without a constraint they are placed directly
above *cache*, so they receive every query that no handler above answers.

CoreDNS does not have `no_aaaa`, `search_guard`, `console` and `nodecache`. The first two are below
*rewrite* and *acl*, which change and refuse queries, and above *cache*, where their replies would
displace others. The others handle no queries: `console` is beside *pprof*, which also serves HTTP,
and `nodecache` is at the end, since its setup needs the listen addresses that *bind* has set.

The operator can override the order (`corepy.loading.orderfile`). The rules in that file for a
directive, third-party or not, replace its own constraints or its fixed position.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from corepy.plugin.errors import OrderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.corefile import Token

_CHAIN = """
    root metadata geoip cancel proxyproto quic grpc_server https https3 timeouts multisocket
    reload nsid bufsize bind debug trace ready health pprof console shed prometheus errors log
    dnstap local dns64 any chaos loadbalance tsig rewrite autopath acl
    no_aaaa search_guard cache header dnssec tls minimal
    template transfer hosts route53 azure clouddns k8s_external kubernetes file auto secondary
    etcd loop forward grpc erratic whoami
    on sign view nomad nodecache
"""

DIRECTIVES: tuple[str, ...] = tuple(_CHAIN.split())
"""Directives with a fixed position, including those that only CoreDNS contains."""

_POSITION = {name: position for position, name in enumerate(DIRECTIVES)}
_DEFAULT_ABOVE = "cache"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A third-party plugin's constraints on its position."""

    directive: str
    distribution: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class OperatorRule(NamedTuple):
    """A rule in the operator's file: `subject` is before, or after, `other`."""

    subject: Token
    relation: str
    other: Token


class Position(NamedTuple):
    """A directive of the chain, and the reason for its position."""

    directive: str
    reason: str


@dataclass(slots=True)
class _Placement:
    """The constraints of one directive without a fixed position, or moved by the operator."""

    before: tuple[str, ...]
    after: tuple[str, ...]
    reason: str
    distribution: str = ""
    rules: tuple[OperatorRule, ...] = ()

    def __str__(self) -> str:
        sides = (("before", self.before), ("after", self.after))
        return ", ".join(f"{side} {' '.join(names)}" for side, names in sides if names)


def resolve(
    constraints: Iterable[Constraint], installed: Iterable[str], rules: Sequence[OperatorRule] = ()
) -> list[str]:
    """Return all directives in chain order; see `arrange`."""
    return [position.directive for position in arrange(constraints, installed, rules)]


def arrange(
    constraints: Iterable[Constraint], installed: Iterable[str], rules: Sequence[OperatorRule] = ()
) -> list[Position]:
    """Return the positions of all directives, fixed and those of `constraints`, in chain order.

    Constraints may refer to the `installed` names and the fixed ones. `rules` are the operator's.
    Raises `OrderError` for an unknown name, and for constraints that contradict each other or the
    fixed order.
    """
    asked = {
        constraint.directive: constraint
        for constraint in constraints
        if constraint.directive not in _POSITION
    }
    placements = _placements(asked, rules)
    known = {*_POSITION, *installed, *asked}
    for name, placement in placements.items():
        for other in (*placement.before, *placement.after):
            if other not in known:
                problem = (
                    f"must be before or after {other!r}, but no plugin provides that directive"
                )
                raise OrderError(name, placement.distribution, problem, _token(placement, other))
    order = _Sorter(placements).sort()
    return [
        Position(name, placements[name].reason if name in placements else "fixed position")
        for name in order
    ]


def setup_order(chain: Sequence[str]) -> list[str]:
    """Return the order in which directives of a chain are set up.

    It is the chain's order, except for fixed directives that the operator has moved. Setups rely on
    the block configuration that others have set (*nodecache* on *bind*), regardless of the
    handlers' order.
    """
    fixed = iter(sorted((name for name in chain if name in _POSITION), key=_POSITION.__getitem__))
    return [next(fixed) if name in _POSITION else name for name in chain]


def _placements(
    asked: dict[str, Constraint], rules: Sequence[OperatorRule]
) -> dict[str, _Placement]:
    placements = {}
    for name, constraint in asked.items():
        placement = _Placement(constraint.before, constraint.after, "", constraint.distribution)
        words = (
            f"{placement}: declared by the plugin"
            if str(placement)
            else f"right above {_DEFAULT_ABOVE}: the default"
        )
        placement.reason = f"{words} ({constraint.distribution})"
        placements[name] = placement
    for name in dict.fromkeys(rule.subject.text for rule in rules):
        if name in placements or name in _POSITION:
            placements[name] = _ordered(name, rules, placements.get(name))
    return placements


def _ordered(name: str, rules: Sequence[OperatorRule], own: _Placement | None) -> _Placement:
    mine = tuple(rule for rule in rules if rule.subject.text == name)
    before, after = (
        tuple(rule.other.text for rule in mine if rule.relation == relation)
        for relation in ("before", "after")
    )
    placement = _Placement(before, after, "", own.distribution if own else "", mine)
    files = dict.fromkeys(f"{rule.subject.file}:{rule.subject.line}" for rule in mine)
    instead = f", instead of {own}" if own and str(own) else ""
    placement.reason = f"{placement}: {' and '.join(files)}{instead}"
    return placement


def _token(placement: _Placement, other: str) -> Token | None:
    return next((rule.other for rule in placement.rules if rule.other.text == other), None)


class _Sorter:
    """Sorts topologically; of unblocked directives, the one with the lowest position is first."""

    def __init__(self, placements: dict[str, _Placement]) -> None:
        self._placements = placements
        fixed = [name for name in DIRECTIVES if name not in placements]
        self._followers: dict[str, set[str]] = {name: set() for name in (*fixed, *placements)}
        for upper, lower in itertools.pairwise(fixed):
            self._followers[upper].add(lower)
        for name, placement in placements.items():
            self._followers[name].update(it for it in placement.before if it in self._followers)
            for upper in placement.after:
                if upper in self._followers:
                    self._followers[upper].add(name)

    def sort(self) -> list[str]:
        positions = {name: self._position(name, ()) for name in self._followers}
        waiting_for = dict.fromkeys(self._followers, 0)
        for name in itertools.chain.from_iterable(self._followers.values()):
            waiting_for[name] += 1
        free = [(positions[name], name) for name, count in waiting_for.items() if not count]
        heapq.heapify(free)
        order: list[str] = []
        while free:
            _, name = heapq.heappop(free)
            order.append(name)
            for follower in self._followers[name]:
                waiting_for[follower] -= 1
                if not waiting_for[follower]:
                    heapq.heappush(free, (positions[follower], follower))
        if len(order) < len(self._followers):
            raise self._cycle_error(set(self._followers).difference(order))
        return order

    def _position(self, name: str, asking: tuple[str, ...]) -> float:
        """Return the preferred position of `name`; fixed positions are whole numbers."""
        placement = self._placements.get(name)
        if placement is None or name in asking:  # a cycle, which the sort will detect
            return _POSITION.get(name, _POSITION[_DEFAULT_ABOVE])
        asking = (*asking, name)
        step = 0.5 ** len(asking)
        if befores := [
            self._position(it, asking) for it in placement.before if it in self._followers
        ]:
            return min(befores) - step
        if afters := [
            self._position(it, asking) for it in placement.after if it in self._followers
        ]:
            return max(afters) + step
        return self._position(_DEFAULT_ABOVE, asking) - step

    def _cycle_error(self, stuck: set[str]) -> OrderError:
        """Return the error for a cycle among directives that block each other."""
        circle = [min(stuck)]
        while True:
            upper = min(name for name in stuck if circle[-1] in self._followers[name])
            if upper in circle:
                circle = circle[circle.index(upper) :][::-1]
                break
            circle.append(upper)
        pairs = list(zip(circle, circle[1:] + circle[:1], strict=True))
        owned = [
            (owner, owner != pair[0], at)
            for at, pair in enumerate(pairs)
            if (owner := self._owner(pair))
        ]
        start = min(owned)[-1]
        pairs = pairs[start:] + pairs[:start]
        said = ", ".join(f"{upper} before {lower}" for upper, lower in self._short(pairs))
        name, token = self._responsible(pairs)
        problem = f"cannot be placed: these contradict each other: {said}"
        return OrderError(name, self._placements[name].distribution, problem, token)

    def _short(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the pairs of a cycle, with consecutive pairs of the fixed order merged."""
        shown: list[tuple[str, str]] = []
        was_fixed = False
        for pair in pairs:
            is_fixed = self._owner(pair) is None
            if is_fixed and was_fixed:
                shown[-1] = (shown[-1][0], pair[1])
            else:
                shown.append(pair)
            was_fixed = is_fixed
        return shown

    def _owner(self, pair: tuple[str, str]) -> str | None:
        """Return the directive that requires this order of the pair; None for the fixed order."""
        upper, lower = pair
        if upper in self._placements and lower in self._placements[upper].before:
            return upper
        if lower in self._placements and upper in self._placements[lower].after:
            return lower
        return None

    def _responsible(self, pairs: list[tuple[str, str]]) -> tuple[str, Token | None]:
        """Return the directive to blame, and its token in the operator's file, if it is there."""
        owners = [(owner, pair) for pair in pairs if (owner := self._owner(pair))]
        for owner, pair in owners:
            other = pair[1] if owner == pair[0] else pair[0]
            if token := _token(self._placements[owner], other):
                return owner, token
        return min(owner for owner, _ in owners), None
