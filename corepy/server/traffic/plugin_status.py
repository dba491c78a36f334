"""The status of plugins: collected from the hook `status`, and merged over processes.

The server knows no plugin. It only adds to each status the server block of the plugin, and makes
sure that JSON can represent it. `corepy.plugin.HookSpecs.status` documents the keys with a common
meaning.
"""

from __future__ import annotations

from collections import Counter
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin import Handler, handlers_below
from corepy.plugin.errors import describe
from corepy.plugin.failures import report
from corepy.server.build.generation import directive_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from corepy.server.build.generation import Generation
    from corepy.server.listen.router import ZoneRoute

MOST_DEPTH: Final = 8
MEANS: Final = frozenset(("rtt",))
"""Keys whose numbers are averaged over processes; all other numbers are added up."""

STATES: Final = ("up", "suspect", "down")
"""States of an upstream from the best to the worst."""


def collect(generation: Generation) -> list[dict[str, Any]]:
    """Return the status of each plugin that has one, in chain order."""
    blocks = dict(_blocks(generation))
    found = []
    for implementation in generation.plugins.hook.status.get_hookimpls():
        directive = directive_of(implementation)
        try:
            status = implementation.function()
        except BaseException as error:  # plugin code
            report(directive, "hook", "status failed", error)
            status = {"state": "unknown", "problems": [f"status failed: {describe(error)}"]}
        if status is None:
            continue
        routes = blocks.get(id(implementation.plugin), ())
        found.append(
            {
                "plugin": directive,
                "block": routes[0].position if routes else None,
                "zones": [route.zone for route in routes],
                "status": plain(status),
            }
        )
    return found


def _blocks(generation: Generation) -> Iterator[tuple[int, list[ZoneRoute]]]:
    """Yield the identity of each handler and the routes whose chain contains it."""
    chains: dict[int, tuple[Handler, dict[str, ZoneRoute]]] = {}
    for router in generation.routers.values():
        for route in router.routes:
            if route.chain is not None:
                _, routes = chains.setdefault(id(route.chain), (route.chain, {}))
                routes.setdefault(route.zone, route)
    for first, routes in chains.values():
        for handler in (first, *handlers_below(first)):
            yield id(handler), list(routes.values())


def plain(value: Any, depth: int = MOST_DEPTH) -> Any:
    """Return `value` as JSON can represent it: other objects become text, infinity becomes None."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return value if isfinite(value) else None
    if depth and hasattr(value, "items"):
        return {str(key): plain(each, depth - 1) for key, each in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [plain(each, depth - 1) for each in value]
    return str(value)


def merge(processes: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the status of the plugins of several processes, the leader's first."""
    parts: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for plugins in processes:
        numbers = Counter[str]()
        for each in plugins:
            number = numbers[each["plugin"]]
            numbers[each["plugin"]] += 1
            parts.setdefault((each["plugin"], number), []).append(each)
    return [
        {**found[0], "status": merge_values("", [each["status"] for each in found])}
        for found in parts.values()
    ]


def merge_values(key: str, values: Sequence[Any]) -> Any:
    """Return the values of a key in several processes as one; the first is the leader's.

    Numbers are added up, or averaged; of states the worst is taken; lists become unions, with
    objects of the same `address` merged; else the first value is taken.
    """
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return known[0] if known else None
    if key == "state" and all(value in STATES for value in known):
        return max(known, key=STATES.index)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return sum(known) / len(known) if key in MEANS else sum(known)
    if all(isinstance(value, dict) for value in known):
        keys = dict.fromkeys(name for value in known for name in value)
        return {name: merge_values(name, [value.get(name) for value in known]) for name in keys}
    if all(isinstance(value, list) for value in known):
        return _union([each for value in known for each in value])
    return known[0]


def _union(values: Sequence[Any]) -> list[Any]:
    found: dict[str, list[Any]] = {}
    for value in values:
        identity = value.get("address", value) if isinstance(value, dict) else value
        found.setdefault(repr(identity), []).append(value)
    return [
        merge_values("", same) if isinstance(same[0], dict) and "address" in same[0] else same[0]
        for same in found.values()
    ]
