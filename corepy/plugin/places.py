"""The installed plugins in chain order, with the reason for each place: `corepy -plugins -order`.

This imports only third-party plugins, because only they have constraints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.corefile import CorefileError, Diagnostic
from corepy.plugin.errors import OrderError, PluginError
from corepy.plugin.order import DIRECTIVES, Place, Wish, arrange
from corepy.plugin.orderfile import unknown_names
from corepy.plugin.registry import find, load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy.plugin.order import Rule
    from corepy.plugin.registry import FoundPlugin


def places(
    rules: Sequence[Rule], installed: Mapping[str, FoundPlugin] | None = None
) -> tuple[list[Place], list[str]]:
    """Return the places of installed plugins under `rules`, and a line for each unusable plugin.

    Raise `CorefileError` for contradictory constraints.
    """
    found = find() if installed is None else installed
    unknown = unknown_names(rules, found)
    if unknown:
        raise CorefileError(*unknown)
    wishes, problems = [], []
    for directive, plugin in found.items():
        if directive in DIRECTIVES:
            continue
        try:
            loaded = load(plugin)
            wishes.append(Wish(directive, loaded.distribution, loaded.before, loaded.after))
        except PluginError as error:
            problems.append(str(error))
    try:
        order = arrange(wishes, found, rules)
    except OrderError as error:
        raise CorefileError(Diagnostic(str(error), error.token)) from error
    return [place for place in order if place.directive in found], problems


def table(found: Sequence[Place]) -> str:
    """Return the places as text, one line each."""
    width = max((len(place.directive) for place in found), default=0)
    return "".join(f"{place.directive:<{width}}  {place.reason}\n" for place in found)
