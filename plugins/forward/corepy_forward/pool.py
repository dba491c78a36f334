"""The upstreams of one `forward` line and the exchanges in flight to them."""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import TYPE_CHECKING

from corepy.dns.constants import NOERROR, NXDOMAIN
from corepy.net.clients import client_of
from corepy.plugin import Wakeups
from corepy_forward import metrics
from corepy_forward.crowd import LEAST_TIME, Crowd
from corepy_forward.exchange import BUDGET, BUDGET_DOWN, Exchange
from corepy_forward.health import HealthCheck
from corepy_forward.limit import LIMIT, Places
from corepy_forward.policy import Random, make_policy
from corepy_forward.problems import NO_HEALTHY
from corepy_forward.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy_forward.settings import Settings
    from corepy_forward.targets import Target

TIDY_INTERVAL = 5.0
"""Seconds between two looks for idle and aged connections, less if `expire` is shorter."""

HEDGE_BURST = 1000
HEDGE_SHARE = 0.1
"""Second queries allowed in any second: a burst, and a share of the queries in that second. When
everything is slow, asking twice would only make it slower.
"""

SWEEP = 8
"""Exchanges out of time that are ended at once. What began together must not end together: that
takes longer than a client should wait who has come just now.
"""

SWEEP_PAUSE = 0.001
LONGEST_PAUSE = 0.1

_FINAL = frozenset((NOERROR, NXDOMAIN))
_STOPPING = "the server is stopping"
_LEAST_ATTEMPTS = 4
_UNLIMITED = 64


class Pool:
    """See the module. Made and used inside the event loop; give it back with `close`."""

    def __init__(self, settings: Settings, targets: Sequence[Target]) -> None:
        """`targets` are those of `settings` after host names were looked up."""
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.wakeups = Wakeups(self.loop)
        self.flights: dict[object, Exchange] = {}
        """In the order in which they began. The key is the question, of one in a crowd perhaps
        more.
        """

        self.crowds: dict[bytes, Crowd] = {}
        """By question."""

        self.final_rcodes = _FINAL - settings.failover_rcodes
        """Response codes that end an exchange without a further look."""

        self.force_tcp = settings.force_tcp
        self.places = Places(LIMIT.most_of_one(settings.max_concurrent))
        """The queries of clients that wait for a reply."""

        self.upstreams: list[Upstream] = []
        self.max_attempts = 0
        self._checks: dict[Upstream, HealthCheck] = {}
        self._leaving: list[Upstream] = []
        self._probing = False
        self._closed = False
        self._preferred: list[Upstream] = []
        self._policy = make_policy(settings.policy)
        self._random = Random()
        self._window = 0.0
        self._begun = self._hedges = 0
        self.budget = max(BUDGET, settings.read_timeout)
        self.least_budget = settings.read_timeout if settings.read_timeout > 2 else BUDGET_DOWN
        self._sweep_timer: asyncio.TimerHandle | None = None
        self.retarget(targets)
        self._tidy_timer = self.loop.call_later(self._tidy_interval(), self._tidy)

    def retarget(self, targets: Sequence[Target]) -> None:
        """Use these upstreams from now on; those that stay keep their state and sockets."""
        known = {upstream.target: upstream for upstream in self.upstreams}
        self.upstreams = [
            known.pop(target) if target in known else self._open(target) for target in targets
        ]
        for gone in known.values():
            self._checks.pop(gone).stop()
            self._leaving.append(gone)
            self.loop.call_later(self.budget, self._let_go, gone)
        configured = self.settings.max_connect_attempts
        by_default = max(_LEAST_ATTEMPTS, 2 * len(self.upstreams))
        self.max_attempts = by_default if configured is None else configured or _UNLIMITED
        self._rate()

    def _let_go(self, gone: Upstream) -> None:
        """Close an upstream that is no longer used, now that nothing waits for it."""
        if gone in self._leaving:
            self._leaving.remove(gone)
            gone.close()

    def _open(self, target: Target) -> Upstream:
        context = self.settings.tls_contexts.get(target.transport)
        upstream = Upstream(target, self.settings, self.wakeups, self._rate, context)
        check = self._checks[upstream] = HealthCheck(upstream, self._is_all_down)
        upstream.check = check.start
        if self._probing:
            check.start()
        return upstream

    def start_checks(self) -> None:
        """Probe every upstream now, before the first client has to find out."""
        self._probing = True
        for check in self._checks.values():
            check.start()

    def _rate(self) -> None:
        """Find the upstreams fit to be asked first."""
        alive = [upstream for upstream in self.upstreams if not upstream.is_down()]
        self._preferred = [upstream for upstream in alive if not upstream.is_suspect] or alive

    def _is_all_down(self) -> bool:
        return all(upstream.fails for upstream in self.upstreams)

    def is_any_well(self) -> bool:
        """Whether some upstream has passed its last health check."""
        return not self._is_all_down()

    def begin(self, question: bytes, body: bytes, for_tcp: bool, peer: object = None) -> Exchange:
        """Start the exchange for a question that is not in flight; it may be over at once.

        `peer` is the address of the client that asks.
        """
        if self.crowds and question in self.crowds:
            return self._join(self.crowds[question], peer, question, body, for_tcp)
        now = time.monotonic()
        exchange = self.flights[question] = Exchange(self, question, body, for_tcp, now)
        self._begun += 1
        preferred = self._preferred
        if preferred:
            exchange.ask(preferred[0] if len(preferred) == 1 else self._policy(preferred), now)
        else:
            self._begin_without_health(exchange, now)
        return exchange

    def _begin_without_health(self, exchange: Exchange, now: float) -> None:
        """Ask though no upstream is well."""
        if self._closed:
            exchange.fail(_STOPPING)
            return
        metrics.HEALTHCHECK_BROKEN.value += 1
        if self.settings.failfast:
            exchange.fail(f"failfast_all_unhealthy_upstreams is set: {NO_HEALTHY}")
        else:
            exchange.ask(self._random(self.upstreams), now)

    def begin_for_tcp(self, question: bytes, body: bytes, peer: object) -> Exchange:
        """Return an exchange that does not end with a truncated reply."""
        first = self.flights.get(question)
        if first is None:
            return self.begin(question, body, True, peer)
        if first.body == body and first.for_tcp:
            return first
        return self.begin_beside(first, body, True, peer)

    def begin_beside(self, first: Exchange, body: bytes, for_tcp: bool, peer: object) -> Exchange:
        """Return the exchange that asks the question of `first`, in flight, in another way."""
        question = first.question
        crowd = self.crowds.get(question)
        if crowd is None:
            crowd = self.crowds[question] = Crowd(first, self._begin_in_crowd)
        return self._join(crowd, peer, question, body, for_tcp)

    def _join(
        self, crowd: Crowd, peer: object, question: bytes, body: bytes, for_tcp: bool
    ) -> Exchange:
        exchange = crowd.find(body, for_tcp)
        if exchange is None:
            exchange = Exchange(self, question, body, for_tcp, time.monotonic())
            exchange.key = question, body, for_tcp
            self.flights[exchange.key] = exchange
            self._begun += 1
            crowd.join(exchange, client_of(peer))
            self.watch_time()
        return exchange

    def _begin_in_crowd(self, exchange: Exchange) -> bool:
        """Let an exchange ask an upstream that has room; False if none has."""
        now = time.monotonic()
        if not self._preferred:
            if not self._closed and all(map(exchange.is_full, self.upstreams)):
                return False
            self._begin_without_health(exchange, now)
            return True
        fit = [upstream for upstream in self._preferred if not exchange.is_full(upstream)]
        if fit:
            exchange.ask(self._policy(fit), now)
        return bool(fit)

    def leave(self, crowd: Crowd, exchange: Exchange) -> None:
        """Take an exchange that has ended out of its crowd."""
        exchange.cancel()
        if crowd.leave(exchange, time.monotonic() - self._budget_now() + LEAST_TIME):
            self.crowds.pop(exchange.question, None)

    def _budget_now(self) -> float:
        """Seconds that an exchange may take."""
        return self.budget if self.is_any_well() else self.least_budget

    def watch_time(self) -> None:
        """See to it that exchanges end in time, now that one of them has trouble."""
        if self._sweep_timer is None:
            self._sweep_timer = self.loop.call_later(LONGEST_PAUSE, self._sweep)

    def _sweep(self) -> None:
        now = time.monotonic()
        limit = now - self._budget_now()
        for exchange in list(islice(self.flights.values(), SWEEP)):
            if exchange.started <= limit:
                exchange.out_of_time(now)
        first = next(iter(self.flights.values()), None)
        self._sweep_timer = None
        if first is not None:
            pause = min(max(first.started - limit, SWEEP_PAUSE), LONGEST_PAUSE)
            self._sweep_timer = self.loop.call_later(pause, self._sweep)

    def another(
        self,
        tried: Sequence[Upstream],
        *,
        new_only: bool,
        is_full: Callable[[Upstream], bool],
    ) -> Upstream | None:
        """Return the upstream to ask after those `tried`: one that is well, tried least, and next
        in the order of the Corefile. With `new_only` None when all have been tried.
        """
        upstreams = self.upstreams
        indexes = [
            i
            for i, each in enumerate(upstreams)
            if not (new_only and each in tried) and not is_full(each)
        ]
        if not indexes or (self.settings.failfast and not self._preferred):
            return None
        count = len(upstreams)
        first = upstreams.index(tried[0]) if tried[0] in upstreams else 0

        def rank(index: int) -> tuple[bool, int, int]:
            upstream = upstreams[index]
            unfit = upstream.is_down() or upstream.is_suspect
            return unfit, tried.count(upstream), (index - first) % count

        return upstreams[min(indexes, key=rank)]

    def may_hedge(self) -> bool:
        """Whether one more query may be sent on the mere suspicion that another one is lost."""
        now = time.monotonic()
        elapsed = now - self._window
        if elapsed > 1:
            self._hedges = int(-HEDGE_BURST - HEDGE_SHARE * self._begun / elapsed)
            self._window, self._begun = now, 0
        self._hedges += 1
        return self._hedges <= 0

    def _tidy_interval(self) -> float:
        return min(TIDY_INTERVAL, max(self.settings.expire / 2, 0.25))

    def _tidy(self) -> None:
        now = time.monotonic()
        for upstream in self.upstreams:
            upstream.tidy(now)
        self._tidy_timer = self.loop.call_later(self._tidy_interval(), self._tidy)

    def close(self) -> None:
        """End what is in flight and close all sockets."""
        self._tidy_timer.cancel()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._closed, self._preferred = True, []
        for exchange in list(self.flights.values()):
            if not exchange.done:  # what waited in a crowd has ended with another
                exchange.fail(_STOPPING)
        for check in self._checks.values():
            check.stop()
        for upstream in (*self.upstreams, *self._leaving):
            upstream.close()
