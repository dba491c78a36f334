"""Explains which *template* directive answers a query; imported only by `corepy explain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from corepy_template.rule import WriteError
from corepy_template.writer import Writer

if TYPE_CHECKING:
    from corepy.dns import Request
    from corepy_template.rule import TemplateRule

_SHOWN: Final = 200
"""Characters of a variable."""


def explain(rules: Sequence[TemplateRule], request: Request) -> dict[str, str]:
    """Return the directive that decides about a query, and the reasons of those before it."""
    passed: list[str] = []
    for rule in rules:
        zone = rule.zone_for(request)
        if zone is None:
            continue
        found = _verdict(rule, request, zone)
        reason = found.get("reason")
        if reason is None or "state" in found:
            return _state(rule, found, passed)
        if not rule.fallthrough.passes(request.name_wire):
            reason = f"{reason}, and the name has no fallthrough"
            return _state(rule, {"state": "no match", "reason": reason}, passed)
        passed.append(f"{rule.location} ({reason})")
    return {"state": "no match", **_passed(passed)}


def _state(rule: TemplateRule, found: dict[str, str], passed: list[str]) -> dict[str, str]:
    return {"state": "matches", "template": rule.location, **found, **_passed(passed)}


def _passed(passed: list[str]) -> dict[str, str]:
    return {"passed over": "; ".join(passed)} if passed else {}


def _verdict(rule: TemplateRule, request: Request, zone: str) -> dict[str, str]:
    """Return the variables of a directive that matches, or the reason why it does not.

    With a state the directive decides about the query all the same.
    """
    if not isinstance(rule.writer, Writer):
        return {}
    data = Writer.match(rule.writer, request, zone)  # without the conditions
    if data is None:
        return {"reason": "no regular expression matches"}
    if rule.expressions is None:
        return {}
    try:
        place = rule.expressions.refusal(data)
    except WriteError as error:
        return {"state": "no value", "reason": str(error)}
    if place is not None:
        return {"reason": f"the condition at {place} is not true"}
    return {f"var {name}": str(value)[:_SHOWN] for name, value in data.variables.items()}
