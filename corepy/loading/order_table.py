"""The output of `corepy -plugins -order`: plugins in chain order, with the reasons.

This imports only plugins without a fixed position, because only they have constraints. The
constraints of a plugin whose packages are not installed are unknown, so its default position is
listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.corefile import CorefileError, Diagnostic
from corepy.loading.extras import missing_extra
from corepy.loading.order import DIRECTIVES, Constraint, Position, arrange
from corepy.loading.orderfile import unknown_names
from corepy.loading.registry import find, load
from corepy.plugin.errors import OrderError, PluginError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy.loading.order import OperatorRule
    from corepy.loading.registry import FoundPlugin


def positions(
    rules: Sequence[OperatorRule], installed: Mapping[str, FoundPlugin] | None = None
) -> tuple[list[Position], list[str]]:
    """Return the positions of installed plugins under `rules`, and a line for each unusable plugin.

    Raises `CorefileError` for contradictory constraints.
    """
    found = find() if installed is None else installed
    unknown = unknown_names(rules, found)
    if unknown:
        raise CorefileError(*unknown)
    constraints, problems = [], []
    for directive, plugin in found.items():
        if directive in DIRECTIVES:
            continue
        if missing_extra(directive, plugin.entry_point):
            constraints.append(Constraint(directive, plugin.distribution))
            continue
        try:
            loaded = load(plugin)
            constraints.append(
                Constraint(directive, loaded.distribution, loaded.before, loaded.after)
            )
        except PluginError as error:
            problems.append(str(error))
    try:
        order = arrange(constraints, found, rules)
    except OrderError as error:
        raise CorefileError(Diagnostic(str(error), error.token)) from error
    return [position for position in order if position.directive in found], problems


def table(found: Sequence[Position]) -> str:
    """Return the positions as text, one line each."""
    width = max((len(position.directive) for position in found), default=0)
    return "".join(f"{position.directive:<{width}}  {position.reason}\n" for position in found)
