"""The filters of a view, and its handler (CoreDNS: plugin/view/view.go)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.expr import ExpressionError
from corepy.plugin import Cacheability, ExplainedHandler, FastHandler, hookimpl, plugin_logger

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.expr import Expression
    from corepy.plugin.handler import Answer

LOG = plugin_logger("view")
_SECONDS_BETWEEN_ERRORS: Final = 10.0


class Conditions:
    """Conditions of a view that depend on the same inputs."""

    def __init__(self, view: str, expressions: Sequence[Expression]) -> None:
        """All `expressions` must be true for a query of `view`."""
        self._view = view
        self._evaluations = tuple(expression.evaluate for expression in expressions)
        self._quiet_until = 0.0

    def accept(self, request: Request) -> bool:
        """Return whether all conditions are true; one that fails is not, as in CoreDNS."""
        try:
            for evaluate in self._evaluations:
                if evaluate(request) is not True:
                    return False
        except ExpressionError as error:
            self._report(request, error)
            return False
        return True

    def _report(self, request: Request, error: ExpressionError) -> None:
        """Log a failure; it may be due to the query, so only some of them are logged."""
        if request.received >= self._quiet_until:
            self._quiet_until = request.received + _SECONDS_BETWEEN_ERRORS
            LOG.warning("view %s rejects %s %s: %s", self._view, request.name, request.type, error)


class View(FastHandler, ExplainedHandler):
    """Provides the name of the view as metadata; the filters have done the rest."""

    name: ClassVar[str] = "view"
    cacheability = Cacheability.SAFE

    def __init__(self, view: str) -> None:
        """`view` is the name of the view."""
        self.view = view

    def begin_dns(self, request: Request) -> Answer:
        """Return the next handler's answer."""
        return self.next.begin_dns(request)

    @hookimpl
    def metadata(self) -> Mapping[str, str]:
        """Provide the label `view/name`."""
        return {"view/name": self.view}

    def explain_state(self, request: Request, reply: Reply | None = None) -> Mapping[str, str]:
        """Return the name of the view."""
        return {"state": self.view}
