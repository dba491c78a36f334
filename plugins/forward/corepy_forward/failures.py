"""Detects and describes the failures of an upstream.

`Watchlist` detects late and expired attempts. `HealthProbe` probes an upstream after a failure.

A reason is the part after the address in the messages of Go's net package, which CoreDNS logs, with
the system call in front if one failed ("connect: connection refused"). Alerts and the patterns of
*errors* match these messages: `^read udp .* i/o timeout$`, `connect: connection refused$`.
`go_error` returns the whole line, with corepy's details between its beginning and its end.
"""

from __future__ import annotations

import errno
import os
import ssl
from time import monotonic
from typing import TYPE_CHECKING

from corepy.dns import names
from corepy.dns.constants import FLAG_RD, TYPE_NS
from corepy.dns.message import query
from corepy_forward import metrics

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from corepy_forward.attempt import Attempt, UpstreamLike

NO_REPLY = "i/o timeout"
NOT_CONNECTED = "dial: i/o timeout"
NO_HEALTHY = "no healthy proxies"
CLOSED = "EOF"
MALFORMED = "malformed reply"
OTHER_QUESTION = "reply to another question"
TOO_LARGE = "reply is too large"
HTTP_STATUS = "HTTP status "
NOT_DNS = "the response is not a DNS message"
NO_COOKIE_SENT = "answered BADCOOKIE to a query without a cookie"

_OF_REPLIES = (MALFORMED, OTHER_QUESTION, TOO_LARGE, HTTP_STATUS, NOT_DNS, NO_COOKIE_SENT)

_OPERATIONS = {"connect": "dial", "dial": "dial", "remote error": "dial", "tls": "dial"}
_OPERATIONS["write"] = "write"

_OVER_UDP = frozenset(("udp", "quic", "https3"))

_UNVERIFIED = "tls: failed to verify certificate"
_UNKNOWN_AUTHORITY = frozenset((2, 18, 19, 20, 21))
"""OpenSSL's codes (X509_V_ERR_*) for a chain without a trusted authority."""

_TLS_REASONS = {
    "WRONG_VERSION_NUMBER": "tls: first record does not look like a TLS handshake",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "remote error: tls: handshake failure",
    "TLSV1_ALERT_PROTOCOL_VERSION": "remote error: tls: protocol version not supported",
    "TLSV1_UNRECOGNIZED_NAME": "remote error: tls: unrecognized name",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "remote error: tls: certificate required",
}

TIMEOUT = 1.0
"""Seconds to wait for the reply to a probe."""

LEAST_PAUSE = 0.01
TRUSTED = 0.05
"""Seconds after an answered probe during which failed queries do not start another check."""

MOST_BACKOFF = 4
"""Maximum factor by which the pause exceeds `health_check`."""

_TICK = 0.001
_AT_ONCE = 16
"""Attempts processed in one turn of the event loop, so that clients do not wait for the rest."""


def explain(error: Exception, call: str) -> str:
    """Return the reason for an error of TLS or of the system call `call`."""
    if isinstance(error, TimeoutError) and not error.errno:
        return NO_REPLY
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error)
    if isinstance(error, ssl.SSLError):
        return _TLS_REASONS.get(error.reason or "", f"tls: {error.reason or error}".lower())
    number: int = getattr(error, "errno", None) or 0
    if number in errno.errorcode:
        return f"{call}: {os.strerror(number).lower()}"  # asyncio's texts differ from these
    if isinstance(error, ConnectionResetError) and not number:
        return CLOSED  # asyncio's error for a connection that ends during its handshake
    if isinstance(error, OSError) and error.strerror:  # getaddrinfo's numbers are negative
        return f"{call}: {error.strerror.lower()}"
    return (str(error) or type(error).__name__).lower()


def is_of_reply(reason: str) -> bool:
    """Whether the upstream sent a reply, though an unusable one."""
    return reason.startswith(_OF_REPLIES)


def _of_certificate(error: ssl.SSLCertVerificationError) -> str:
    detail = f"certificate verify failed: {error.verify_message}".lower()
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return f"{_UNVERIFIED} ({detail}): x509: certificate signed by unknown authority"
    return f"{_UNVERIFIED}: x509: {detail}"


def go_error(address: str, proto: str, reason: str, detail: str) -> str:
    """Return a line such as "read udp 192.0.2.1:53 (attempt 1 of 4, 2.001s): i/o timeout"."""
    operation = _OPERATIONS.get(reason.partition(": ")[0], "read")
    network = "udp" if proto in _OVER_UDP else "tcp"
    over = "" if proto == network else f"over {proto}, "
    return f"{operation} {network} {address} ({over}{detail}): {reason.removeprefix('dial: ')}"


class HealthProbe:
    """Probes one upstream until it answers; the `Owner` of its probes.

    CoreDNS: plugin/pkg/proxy/health.go, plugin/pkg/up. A check starts with the server, and whenever
    a query to the upstream fails. It repeats until the upstream answers; any reply counts. While no
    upstream answers, the pause between probes grows, so that a recovering network is not flooded
    with probes.
    """

    def __init__(self, upstream: UpstreamLike, is_all_down: Callable[[], bool]) -> None:
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
        if self._enabled and self._timer is None and monotonic() >= self._well_until:
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
            self._well_until = monotonic() + TRUSTED
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


class Watchlist:
    """Calls back for late and expired attempts; `patience`, in seconds until late, may change.

    An attempt is `young` until its reply is late in comparison with this upstream's usual response
    time, then `old` until the read timeout. Both queues are in the order of sending. A query that
    is answered in time costs one insertion and one removal, but no timer of its own.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        patience: float,
        timeout: float,
        on_late: Callable[[list[Attempt]], None],
        on_expired: Callable[[Attempt], None],
    ) -> None:
        """Take the times in seconds from sending and the callbacks.

        An expired attempt is removed before `on_expired` is called.
        """
        self.patience = patience
        self.young: dict[Attempt, None] = {}
        self.old: dict[Attempt, None] = {}
        self._loop = loop
        self._timeout = timeout
        self._on_late = on_late
        self._on_expired = on_expired
        self._young_timer: asyncio.TimerHandle | None = None
        self._old_timer: asyncio.TimerHandle | None = None

    def add(self, attempt: Attempt) -> None:
        """Add an attempt: a new one, or one that continues over TCP."""
        if attempt.is_late:
            self.old[attempt] = None
            if self._old_timer is None:
                self._old_timer = self._loop.call_later(_TICK, self._expire)
            return
        self.young[attempt] = None
        if self._young_timer is None:
            self._young_timer = self._loop.call_at(attempt.sent + self.patience, self._find_late)

    def remove(self, attempt: Attempt) -> bool:
        """Remove an attempt; return whether it was there."""
        return (self.old if attempt.is_late else self.young).pop(attempt, False) is None

    def _find_late(self) -> None:
        limit = monotonic() - self.patience
        late = _before(self.young, limit)
        for attempt in late:
            del self.young[attempt]
            attempt.is_late = True
            self.add(attempt)
        # `_young_timer` is not None yet, so that new attempts of the owners do not set another.
        if late:
            self._on_late(late)
        first = next(iter(self.young), None)
        self._young_timer = None
        if first is not None:
            when = max(first.sent - limit, _TICK)
            self._young_timer = self._loop.call_later(when, self._find_late)

    def _expire(self) -> None:
        limit = monotonic() - self._timeout
        for attempt in _before(self.old, limit):
            if attempt in self.old:
                del self.old[attempt]
                self._on_expired(attempt)
        first = next(iter(self.old), None)
        self._old_timer = None
        if first is not None:
            when = max(first.sent - limit, _TICK)
            self._old_timer = self._loop.call_later(when, self._expire)

    def close(self) -> None:
        """Stop both timers."""
        for timer in (self._young_timer, self._old_timer):
            if timer is not None:
                timer.cancel()


def _before(queue: dict[Attempt, None], limit: float) -> list[Attempt]:
    """Return the first attempts in `queue` that were sent by `limit`, at most `_AT_ONCE`."""
    found: list[Attempt] = []
    for attempt in queue:
        if attempt.sent > limit or len(found) == _AT_ONCE:
            break
        found.append(attempt)
    return found
