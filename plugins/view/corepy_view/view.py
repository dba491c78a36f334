"""The filters of a view, and its handler (CoreDNS: plugin/view/view.go)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.plugin import Cacheability, ExplainedHandler, FastHandler, hookimpl, plugin_logger

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.expr import ExpressionError
    from corepy.plugin.handler import Answer

LOG = plugin_logger("view")
_SECONDS_BETWEEN_ERRORS: Final = 10.0


class FailureLog:
    """Logs the failures of the conditions of a view."""

    def __init__(self, view: str) -> None:
        """`view` is its name."""
        self._view = view
        self._quiet_until = 0.0

    def report(self, request: Request, error: ExpressionError) -> None:
        """Log a failure; it may be due to the query, so only some of them are logged."""
        if request.received >= self._quiet_until:
            self._quiet_until = request.received + _SECONDS_BETWEEN_ERRORS
            LOG.warning("view %s rejects %s %s: %s", self._view, request.name, request.type, error)


class View(FastHandler, ExplainedHandler):
    """Provides the name of the view as metadata; the filters have done the rest."""

    name: ClassVar[str] = "view"
    cacheability = Cacheability.SAFE
    inputs = b""

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
