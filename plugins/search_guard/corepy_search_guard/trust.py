"""Whether the server of a search domain denies only names without names below them (RFC 8020).

Some servers answer NXDOMAIN for an empty non-terminal: `web.eu.corp.example` exists, but
`eu.corp.example` has no records of its own and is denied. Such a denial proves nothing about names
below. A server is tested with names that must exist: in a cluster with `default.svc.cluster.local`,
which every Kubernetes cluster has, before the first proof is used; in each domain with the parents
of names that have been answered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corepy.dns.names import to_text
from corepy.plugin import plugin_logger
from corepy_search_guard.metrics import VIOLATIONS
from corepy_search_guard.proof import is_denial, is_existence

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Reply, Request
    from corepy_search_guard.asking import Asker
    from corepy_search_guard.domains import Domain

VERDICT_FOR: Final = 600.0
"""Seconds for which the result of a test is valid."""

UNKNOWN_FOR: Final = 5.0
"""Seconds until the next test after one without a result."""

_log = plugin_logger("search_guard")


class Trust:
    """The results of the tests of one search domain's server."""

    def __init__(self, domain: Domain, asker: Asker, clock: Callable[[], float]) -> None:
        """`clock` returns monotonic seconds."""
        self.domain = domain
        self._asker = asker
        self._clock = clock
        self._obeys: bool | None = None  # None if the last test had no result
        self._until = 0.0
        self._lock = asyncio.Lock()

    @property
    def is_due(self) -> bool:
        """Whether there is no valid result."""
        return self._clock() >= self._until

    @property
    def is_refused(self) -> bool:
        """Whether the server is known to deny names that exist."""
        return self._obeys is False and not self.is_due

    async def allows(self, request: Request) -> bool:
        """Return whether denials of the server may be used as proofs; tests it if necessary."""
        if not self.domain.is_cluster:
            return not self.is_refused
        await self.test(request, self.domain.namespace_name)
        return self._obeys is True

    async def test(self, request: Request, name: bytes) -> None:
        """Ask for `name`, which exists, unless there is a valid result."""
        async with self._lock:
            if self.is_due:
                self._judge(await self._asker.below(request, name), name)

    def _judge(self, reply: Reply | None, name: bytes) -> None:
        if reply is None or not (is_denial(reply) or is_existence(reply)):
            self._obeys, self._until = None, self._clock() + UNKNOWN_FOR
            return
        self._obeys = is_existence(reply)
        self._until = self._clock() + VERDICT_FOR
        if not self._obeys:
            text = self.domain.text
            VIOLATIONS.labels(text).value += 1
            _log.warning(
                "the server of %s answers NXDOMAIN for %s, which has names below it (RFC 8020):"
                " search_guard denies no names in this domain for %d seconds",
                text,
                to_text(name),
                VERDICT_FOR,
            )
