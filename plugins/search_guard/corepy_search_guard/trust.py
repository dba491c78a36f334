"""Whether the server of a search domain denies only names without names below them (RFC 8020).

Some servers answer NXDOMAIN for an empty non-terminal: `web.eu.corp.example` exists, but
`eu.corp.example` has no records of its own and is denied. So does a server that adds names of its
own to those of another one, such as CoreDNS with *hosts* or *rewrite*. Such a denial proves nothing
about names below.

A server is tested with names that must exist: in a cluster with `default.svc.cluster.local`, which
every Kubernetes cluster has, before the first proof is used; in each domain with the names above
those that have been answered. If one of them is denied, it may be new, and the denial may be in a
cache. The server is only refused if both replies are the same after the time of the denial.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.dns.names import to_text
from corepy.plugin import plugin_logger
from corepy_search_guard.metrics import VIOLATIONS
from corepy_search_guard.proof import is_denial, is_existence, negative_ttl

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Request
    from corepy_search_guard.asking import Asker
    from corepy_search_guard.domains import Domain

VERDICT_FOR: Final = 600.0
"""Seconds for which the result of a test is valid."""

UNKNOWN_FOR: Final = 5.0
"""Seconds until the next test after one without a result."""

_log = plugin_logger("search_guard")


class Evidence(NamedTuple):
    """Two replies that contradict each other: `existing` is below `denied`."""

    existing: bytes
    denied: bytes


class Trust:
    """The results of the tests of one search domain's server."""

    def __init__(self, domain: Domain, asker: Asker, clock: Callable[[], float]) -> None:
        """`clock` returns monotonic seconds."""
        self.domain = domain
        self._asker = asker
        self._clock = clock
        self._evidence: Evidence | None = None
        self._is_confirmed = False
        self._review_at = 0.0
        self._has_namespace: bool | None = None if domain.is_cluster else True
        self._namespace_until = 0.0
        self._lock = asyncio.Lock()

    @property
    def is_refused(self) -> bool:
        """Whether the server is known to deny names that have names below them."""
        return self._is_confirmed or self._has_namespace is False

    async def allows(self, request: Request) -> bool:
        """Return whether denials of the server may be used as proofs; tests it if necessary."""
        async with self._lock:
            if self._evidence is not None and self._clock() >= self._review_at:
                await self._review(request, self._evidence)
            if self.domain.is_cluster and self._clock() >= self._namespace_until:
                await self._test_namespace(request)
        return self._has_namespace is True and not self._is_confirmed

    async def test(self, request: Request, existing: bytes, name: bytes) -> None:
        """Ask for `name`, which must exist, because `existing` is below it."""
        async with self._lock:
            if self._evidence is not None:
                return
            reply = await self._asker.below(request, name)
            if reply is not None and is_denial(reply):
                seconds = min(max(negative_ttl(reply), UNKNOWN_FOR), VERDICT_FOR)
                self._evidence = Evidence(existing, name)
                self._review_at = self._clock() + seconds

    async def _review(self, request: Request, evidence: Evidence) -> None:
        """Confirm the evidence, or dismiss it."""
        exists = await self._exists(request, evidence.existing)
        parent = None if exists is None else await self._exists(request, evidence.denied)
        if parent is None:
            self._review_at = self._clock() + UNKNOWN_FOR
        elif exists and not parent:
            self._report(evidence.denied, is_new=not self._is_confirmed)
            self._is_confirmed = True
            self._review_at = self._clock() + VERDICT_FOR
        else:
            self._evidence, self._is_confirmed = None, False

    async def _test_namespace(self, request: Request) -> None:
        name = self.domain.namespace_name
        exists = await self._exists(request, name)
        if exists is False:
            self._report(name, is_new=self._has_namespace is not False)
        self._has_namespace = exists
        seconds = UNKNOWN_FOR if exists is None else VERDICT_FOR
        self._namespace_until = self._clock() + seconds

    async def _exists(self, request: Request, name: bytes) -> bool | None:
        """Return whether the server has `name`; None if its reply does not show that."""
        reply = await self._asker.below(request, name)
        if reply is None or not (is_denial(reply) or is_existence(reply)):
            return None
        return is_existence(reply)

    def _report(self, name: bytes, *, is_new: bool) -> None:
        text = self.domain.text
        VIOLATIONS.labels(text).value += 1
        if is_new:
            _log.warning(
                "the server of %s answers NXDOMAIN for %s, which has names below it (RFC 8020):"
                " search_guard denies no names in this domain until it answers NODATA",
                text,
                to_text(name),
            )
