"""The failures of the watches of a cluster: for the log, and for `corepy status`."""

from __future__ import annotations

import time
from typing import Final

from corepy.plugin import plugin_logger
from corepy.plugin.errors import describe
from corepy_kubernetes.api_client import FORBIDDEN, UNAUTHORIZED, APIError
from corepy_kubernetes.api_resources import group_of
from corepy_kubernetes.objects import Kind

_NOT_FOUND: Final = 404

_log = plugin_logger("kubernetes")


class Problems:
    """The failures of the watches, by kind; each is logged once until it has ended."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._current: dict[Kind, str] = {}
        self._since = 0.0

    def report(self, kind: Kind, error: Exception | None) -> None:
        """Note a failure, or with None a success."""
        if error is None:
            if self._current.pop(kind, None) is not None and not self._current:
                _log.info("the API of %s answers again", self._cluster)
            return
        problem = explain(kind, error)
        if not self._current:
            self._since = time.time()  # time of day: it is shown to operators
        if self._current.get(kind) != problem:
            self._current[kind] = problem
            _log.warning("the API of %s: %s", self._cluster, problem)

    @property
    def lines(self) -> list[str]:
        """The current failures."""
        return list(self._current.values())

    @property
    def since(self) -> float | None:
        """When the first of them began, in seconds since the epoch; None without."""
        return self._since if self._current else None


def explain(kind: Kind, error: Exception) -> str:
    """Return a failure with the next step of the operator, if it is known."""
    text = f"{kind.value}: {_reason(error)}"
    status = error.status if isinstance(error, APIError) else 0
    if status == FORBIDDEN:
        place = f'apiGroups: ["{group_of(kind)}"], resources: ["{kind.value}"]'
        rule = f'{place}, verbs: ["list", "watch"]'
        return f"{text}; add this rule to the ClusterRole of corepy: {rule}"
    if status == UNAUTHORIZED:
        return f"{text}; the API does not accept the token or the client certificate"
    if status == _NOT_FOUND and kind is Kind.IMPORT:
        return f"{text}; install the custom resources of the Multi-Cluster Services API"
    return text + _hint_of_connection(text)


def _hint_of_connection(text: str) -> str:
    """Return the next step after a handshake that has failed."""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "; the CA certificate that is configured must be that of the API"
    if "WRONG_VERSION_NUMBER" in text or "during the TLS handshake" in text:
        return "; is this the port for https?"
    return ""


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, ValueError) else describe(error)
