"""Where a plugin stands in the chain.

The order of the directives in a Corefile means nothing; the order of this list means everything, as
in CoreDNS, whose `plugin.cfg` it repeats: a plugin sees what those above it let through, and its
reply passes through them on the way up. Third parties say `before` and `after` which directives
they want to stand; without a wish they stand right above *cache*, so they see every query.
`nodecache` sits at the end: it handles no query, and its setup wants what *bind* has set.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corepy.plugin.errors import OrderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_CHAIN = """
    root metadata geoip cancel proxyproto quic grpc_server https https3 timeouts multisocket
    reload nsid bufsize bind debug trace ready health pprof shed prometheus errors log dnstap
    local dns64 any chaos loadbalance tsig rewrite autopath acl
    cache header dnssec tls minimal
    template transfer hosts route53 azure clouddns k8s_external kubernetes file auto secondary
    etcd loop forward grpc erratic whoami
    on sign view nomad nodecache
"""

DIRECTIVES: tuple[str, ...] = tuple(_CHAIN.split())
"""Directives whose place is fixed. Names that corepy does not ship keep their place for those who
do.
"""

_PLACE = {name: place for place, name in enumerate(DIRECTIVES)}
_DEFAULT_ABOVE = "cache"


@dataclass(frozen=True, slots=True)
class Wish:
    """Where a third-party plugin wants to stand."""

    directive: str
    distribution: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def resolve(wishes: Iterable[Wish], installed: Iterable[str]) -> list[str]:
    """Return all directives, fixed ones and those of `wishes`, in chain order.

    `installed` are the names that may be referred to beside the fixed ones. Raises `OrderError` for
    a wish that names a directive nobody has, and for wishes that contradict each other or the fixed
    order.
    """
    asked = {wish.directive: wish for wish in wishes if wish.directive not in _PLACE}
    known = {*_PLACE, *installed, *asked}
    edges = _fixed_edges()
    for wish in asked.values():
        _add_edges(edges, wish, known, asked)
    return _sort(edges, {name: _preferred_place(wish) for name, wish in asked.items()}, asked)


def _fixed_edges() -> dict[str, set[str]]:
    """Map each fixed directive to the one that must directly follow it in the order."""
    edges: dict[str, set[str]] = {name: set() for name in DIRECTIVES}
    for upper, lower in itertools.pairwise(DIRECTIVES):
        edges[upper].add(lower)
    return edges


def _add_edges(
    edges: dict[str, set[str]], wish: Wish, known: set[str], asked: Mapping[str, Wish]
) -> None:
    own = edges.setdefault(wish.directive, set())
    for other in (*wish.before, *wish.after):
        if other not in known:
            raise OrderError(
                wish.directive,
                wish.distribution,
                f"wants to stand before or after {other!r}, which nobody has",
            )
    own.update(name for name in wish.before if name in _PLACE or name in asked)
    for name in wish.after:
        if name in _PLACE or name in asked:
            edges.setdefault(name, set()).add(wish.directive)


def _preferred_place(wish: Wish) -> float:
    """Return a number between the places of the fixed directives around which this plugin wants to
    stand.
    """
    befores = [_PLACE[name] for name in wish.before if name in _PLACE]
    if befores:
        return min(befores) - 0.5
    afters = [_PLACE[name] for name in wish.after if name in _PLACE]
    if afters:
        return max(afters) + 0.5
    return _PLACE[_DEFAULT_ABOVE] - 0.5


def _sort(
    edges: dict[str, set[str]], preferred: Mapping[str, float], asked: Mapping[str, Wish]
) -> list[str]:
    """Sort topologically; among directives that are free to go, the one with the smallest place
    goes first.
    """
    place: dict[str, float] = {**_PLACE, **preferred}
    waiting_for = dict.fromkeys(edges, 0)
    for followers in edges.values():
        for name in followers:
            waiting_for[name] += 1
    free = [(place[name], name) for name, count in waiting_for.items() if not count]
    heapq.heapify(free)
    order: list[str] = []
    while free:
        _, name = heapq.heappop(free)
        order.append(name)
        for follower in edges[name]:
            waiting_for[follower] -= 1
            if not waiting_for[follower]:
                heapq.heappush(free, (place[follower], follower))
    if len(order) < len(edges):
        stuck = sorted(name for name in asked if name not in order)
        wish = asked[stuck[0]]
        raise OrderError(
            wish.directive,
            wish.distribution,
            f"cannot be placed: before ({', '.join(wish.before)}) and"
            f" after ({', '.join(wish.after)}) contradict the order of the others"
            f" (in the knot: {', '.join(stuck)})",
        )
    return order
