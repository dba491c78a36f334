"""Health checks of one upstream (CoreDNS: plugin/pkg/proxy/health.go, plugin/pkg/up).

A check starts with the server, and whenever a query to the upstream fails. It repeats until the
upstream answers; any reply counts. While no upstream answers, the pause between probes grows, so
that a recovering network is not flooded with probes.
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
"""Seconds to wait for the reply to a probe."""

LEAST_PAUSE = 0.01
TRUSTED = 0.05
"""Seconds after an answered probe during which failed queries do not start another check."""

MOST_BACKOFF = 4
"""Maximum factor by which the pause exceeds `health_check`."""


class HealthCheck:
    """Probes one upstream until it answers; the `Owner` of its probes."""

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
        """Start probing, unless a check is running or has just succeeded."""
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
        """Record a success: any reply counts."""
        if attempt is self._attempt:
            self._attempt = None
            self._stop_timer()
            self._backoff = 1.0
            self._well_until = time.monotonic() + TRUSTED
            self._upstream.healthy()

    def failed(self, attempt: Attempt, reason: str) -> None:
        """Count a failed probe and repeat it after the pause."""
        if attempt is self._attempt:
            self._missed()

    def late(self, attempt: Attempt) -> None:
        """Do nothing: probes have their own timeout."""

    def doubted(self, attempt: Attempt, wire: bytes, lacks: str) -> None:
        """Record a success: any reply counts, also one without a cookie."""
        self.replied(attempt, wire)

    def guessed(self, attempt: Attempt) -> None:
        """Do nothing: a probe's reply is not sent to clients."""

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Stop checking."""
        self._enabled = False
        self._attempt = None
        self._stop_timer()
