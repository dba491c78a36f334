"""Sends spans to a collector in the background: batches, a bounded backlog, pauses after failures.

Adding spans never waits. One task of a server block sends them: a batch when it is full, or after
the interval. If the collector cannot be reached, the spans stay in the backlog, whose oldest ones
make room for new ones, as in zipkin-go's reporter. Each attempt has a time limit, and the pauses
between attempts grow. While attempts fail and the backlog is full, `is_stalled` is True, so that no
further spans need be made.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import TYPE_CHECKING, Final

from corepy.plugin import plugin_logger, show_duration
from corepy.plugin.failures import report
from corepy_trace.metrics import DROPPED, FAILURES, REASONS, SENT, SKIPPED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.http.http_client import HTTPClient, HTTPResult
    from corepy_trace.formats import Format
    from corepy_trace.settings import Settings
    from corepy_trace.span import Span

TIMEOUT: Final = 5.0
"""Seconds for a request, including the connection (as in zipkin-go's reporter)."""

FLUSH_TIMEOUT: Final = 1.0
"""Seconds that the last spans may take at the end of a generation."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between failed attempts; a pause is up to a half longer, so that nodes spread out."""

_AT_ONCE: Final = 50
"""Spans that are encoded before the event loop does its other work: less than a millisecond."""

_RETRIED: Final = (408, 429, 500, 502, 503, 504)
"""Statuses after which the same spans are sent again."""

_TOO_LARGE: Final = 413
"""The status for a request that is longer than the collector accepts."""

LOG = plugin_logger("trace")


class Reporter:
    """The spans of one server block on their way to its collector."""

    def __init__(
        self,
        settings: Settings,
        encoder: Format,
        client: HTTPClient,
        *,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        """Use the limits of `settings`; the task starts with `start`."""
        self._encoder = encoder
        self._client = client
        self._backlog: deque[Span] = deque()
        self._most = settings.backlog
        self._batch_size = settings.batch
        self._interval = settings.interval
        self._headers = tuple(settings.headers)
        self._first_pause = self._pause = first_pause
        self._in_flight = 0
        self._is_closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.problem = ""
        """The reason why the last attempt failed, "" if it did not fail."""
        collector = client.target.authority
        self._sent = SENT.labels(collector)
        self._failures = FAILURES.labels(collector)
        self._dropped = {reason: DROPPED.labels(collector, reason) for reason in REASONS}
        self.skipped = SKIPPED.labels(collector)

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def waiting(self) -> int:
        """The number of spans that were not sent yet."""
        return len(self._backlog) + self._in_flight

    @property
    def is_stalled(self) -> bool:
        """Whether a new span would only displace another one that cannot be sent either."""
        return bool(self.problem) and self.waiting >= self._most

    def add(self, spans: Sequence[Span]) -> None:
        """Take spans that have ended; those of background work may end after `close`."""
        if self._is_closing:
            self._dropped["shutdown"].inc(len(spans))
            return
        self._backlog.extend(spans)
        self._make_room()
        if len(self._backlog) >= self._batch_size:
            self._due.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._due.set()

    def _make_room(self) -> None:
        surplus = len(self._backlog) - self._most
        if surplus > 0:
            self._dropped["backlog"].inc(surplus)
            for _ in range(surplus):
                self._backlog.popleft()

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            while self._backlog and await self._send():
                pass
            if self._is_closing:
                return

    async def _send(self) -> bool:
        """Send one batch; return False after a failure that ends a flush."""
        result: HTTPResult | OSError
        batch = [self._backlog.popleft() for _ in range(min(self._batch_size, len(self._backlog)))]
        self._in_flight = len(batch)
        try:
            result = await self._client.post(*await self._encode(batch))
        except OSError as error:
            result = error
        except asyncio.CancelledError:
            self._backlog.extendleft(reversed(batch))  # `close` counts them
            raise
        except Exception as error:  # a mistake in the encoder costs one batch, not the task
            report("trace", "task", "failed to encode spans", error)
            self._dropped["rejected"].inc(len(batch))
            return True
        finally:
            self._in_flight = 0
        if isinstance(result, OSError):
            return await self._failed(batch, result.strerror or str(result))
        if result.status // 100 == 2:
            self._succeeded(len(batch))
            return True
        problem = f"status {result.status} {result.excerpt}".rstrip()
        if result.status in _RETRIED:
            return await self._failed(batch, problem, result)
        if result.status == _TOO_LARGE and len(batch) > 1:
            self._split(batch)
            return True
        self._dropped["rejected"].inc(len(batch))
        return await self._failed([], f"the spans were rejected with {problem}")

    def _split(self, batch: Sequence[Span]) -> None:
        """Send smaller batches from now on, `batch` first: its request is too large."""
        self._failures.inc()
        self._batch_size = len(batch) // 2
        self._backlog.extendleft(reversed(batch))
        self._make_room()
        text = "%s rejects a request with %d spans: status 413; now up to %d are sent at once"
        LOG.warning(text, self._client.target.url, len(batch), self._batch_size)

    async def _encode(self, batch: Sequence[Span]) -> tuple[bytes, Sequence[tuple[str, str]]]:
        encoded: list[bytes] = []
        for span in batch:
            encoded.append(self._encoder.encode(span))
            if not len(encoded) % _AT_ONCE:
                await asyncio.sleep(0)
        body, headers = self._encoder.assemble(batch, encoded)
        return body, (*headers, *self._headers)

    def _succeeded(self, count: int) -> None:
        self._sent.inc(count)
        self._pause = self._first_pause
        if self.problem:
            self.problem = ""
            LOG.info("%s accepts spans again", self._client.target.url)

    async def _failed(
        self, batch: Sequence[Span], problem: str, result: HTTPResult | None = None
    ) -> bool:
        """Put a batch back and pause; return whether to try again."""
        self._failures.inc()
        self._backlog.extendleft(reversed(batch))
        self._make_room()
        pause = self._pause * (1 + os.urandom(1)[0] / 512)
        if result is not None and result.retry_after is not None:
            pause = max(pause, min(result.retry_after, LONGEST_PAUSE))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if not self.problem:
            LOG.warning(
                "cannot send spans to %s: %s; next attempt in %s, up to %d spans are kept",
                self._client.target.url,
                problem,
                show_duration(round(pause, 1)),
                self._most,
            )
        self.problem = problem
        try:
            async with asyncio.timeout(pause):
                await self._closing.wait()
        except TimeoutError:
            return True
        return False

    async def close(self) -> None:
        """Send the remaining spans, unless the last attempt failed, and end the task."""
        self._is_closing = True
        self._closing.set()
        self._due.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            if self.problem:
                self._task.cancel()
            _, late = await asyncio.wait([self._task], timeout=FLUSH_TIMEOUT)
            if late:
                self._task.cancel()
                await asyncio.wait([self._task])
        self._client.close()
        self._dropped["shutdown"].inc(len(self._backlog))
        self._backlog.clear()
