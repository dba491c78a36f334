"""Parse the *view* directive (CoreDNS: plugin/view/setup.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.expr import Conditions, Environment, query_functions, read_conditions
from corepy.plugin import Cacheability
from corepy_view.view import FailureLog, View

if TYPE_CHECKING:
    from corepy.expr import Expression
    from corepy.plugin import Controller

_HINT: Final = "such as: expr incidr(client_ip(), '192.0.2.0/24')"
_ENVIRONMENT: Final = Environment.of(query_functions())


def setup(controller: Controller) -> None:
    """Add the filters of the block, and the handler that provides the label `view/name`."""
    expressions: list[Expression] = []
    for _ in controller.single():
        name = controller.argument("a view has a name and conditions in braces: view NAME { ... }")
        controller.options(
            {
                "expr": lambda: expressions.extend(
                    read_conditions(controller, controller.arguments(1, hint=_HINT), _ENVIRONMENT)
                )
            }
        )
        if not expressions:
            hint = f"write a condition in the block, {_HINT}"
            controller.warn("view without expr accepts all queries", name, hint)
    _add_filters(controller, name.text, expressions)
    controller.add_handler(View(name.text))
    controller.provides_labels(["view/name"])


def _rank(expression: Expression) -> tuple[bool, bool]:
    """Return a key that sorts the expressions that depend on most inputs to the end."""
    depends = expression.depends
    return depends is Cacheability.UNSAFE, depends is not Cacheability.SAFE


def _add_filters(controller: Controller, name: str, expressions: list[Expression]) -> None:
    """Add a filter for each cacheability, the safe one first.

    A query that it rejects reaches no other condition, so the packet cache stays on for it. All
    conditions must be true, and one that fails is not, so their order does not matter.
    """
    groups: dict[Cacheability, list[Expression]] = {}
    for expression in sorted(expressions, key=_rank):
        groups.setdefault(expression.depends, []).append(expression)
    view, log = name, FailureLog(name)
    for cacheability, group in (groups or {Cacheability.SAFE: []}).items():
        controller.add_filter(
            Conditions(group, log.report).accept,
            view=view,
            cacheability=cacheability,
            is_about_question=all(each.is_about_question for each in group),
        )
        view = ""
