"""Health checks of one upstream (CoreDNS: plugin/pkg/proxy/health.go, plugin/pkg/up).

A check begins at start, and whenever something goes wrong with the upstream; it repeats until the
upstream answers. Any answer is good. While no upstream answers at all the pause grows, so that a
network that is down is not showered with probes when it comes back.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from corepy.dns import names
from corepy.dns.constants import FLAG_RD, TYPE_NS
from corepy.dns.message import query
from corepy_forward import metrics

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from corepy_forward.attempt import Attempt
    from corepy_forward.upstream import Upstream

TIMEOUT = 1.0
"""Seconds that an upstream has to answer a probe."""

LEAST_PAUSE = 0.01
TRUSTED = 0.05
"""Seconds after a probe that was answered during which failed queries are no reason for another."""

MOST_BACKOFF = 4
"""How much longer than `health_check` a pause may become."""


class HealthCheck:
    """See the module. The owner of its probes."""

    def __init__(self, upstream: Upstream, is_all_down: Callable[[], bool]) -> None:
        settings = upstream.settings
        flags = FLAG_RD if settings.health.recursion_desired else 0
        self._upstream = upstream
        self._is_all_down = is_all_down
        name = names.from_text(settings.health.domain)
        self.body = query(name, TYPE_NS, flags=flags)[2:]
        self.question = self.body[10:].lower()
        self._over_tcp = settings.force_tcp
        self._interval = max(settings.health.interval, LEAST_PAUSE)
        self._enabled = settings.max_fails > 0
        self._timer: asyncio.TimerHandle | None = None
        self._attempt: Attempt | None = None
        self._backoff = 1.0
        self._well_until = 0.0
        self._failures = metrics.HEALTHCHECK_FAILURES.labels(metrics.PROXY, upstream.address)

    def start(self) -> None:
        """Begin to check, unless that is going on or has just gone well."""
        if self._enabled and self._timer is None and time.monotonic() >= self._well_until:
            self._probe()

    def _probe(self) -> None:
        upstream = self._upstream
        self._timer = upstream.loop.call_later(TIMEOUT, self._give_up)
        try:
            self._attempt = upstream.probe(self, self._over_tcp)
        except OSError:
            self._missed()

    def _give_up(self) -> None:
        attempt = self._attempt
        if attempt is not None and attempt.link is not None:
            attempt.link.forget(attempt)
        self._missed()

    def _missed(self) -> None:
        self._failures.inc()
        self._attempt = None
        self._stop_timer()
        self._upstream.unhealthy()
        pause = self._interval
        if self._is_all_down():
            pause *= self._backoff
            self._backoff = min(self._backoff * 2, MOST_BACKOFF)
        else:
            self._backoff = 1.0
        self._timer = self._upstream.loop.call_later(pause, self._probe)

    def replied(self, attempt: Attempt, wire: bytes) -> None:
        """Any reply will do."""
        if attempt is self._attempt:
            self._attempt = None
            self._stop_timer()
            self._backoff = 1.0
            self._well_until = time.monotonic() + TRUSTED
            self._upstream.healthy()

    def failed(self, attempt: Attempt, reason: str) -> None:
        """Try again after the pause."""
        if attempt is self._attempt:
            self._missed()

    def late(self, attempt: Attempt) -> None:
        """Probes are not watched for that."""

    def doubted(self, attempt: Attempt, wire: bytes, lacks: str) -> None:
        """Any reply will do."""
        self.replied(attempt, wire)

    def guessed(self, attempt: Attempt) -> None:
        """Probes tell clients nothing."""

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Check no more."""
        self._enabled = False
        self._attempt = None
        self._stop_timer()
