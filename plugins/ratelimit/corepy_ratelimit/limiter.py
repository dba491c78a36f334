"""The gate of a server block: which queries are over the limit, and what their clients get."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from corepy.dns.address import host_port
from corepy.net.client_prefix import IPV4_BITS, IPV6_BITS, ClientPrefix
from corepy.plugin import Denial, metrics, plugin_logger
from corepy_ratelimit.metrics import CLIENTS, DENIED, DROPPED, EXEMPT, UNTRACKED
from corepy_ratelimit.networks import Networks
from corepy_ratelimit.rates import Rates

if TYPE_CHECKING:
    from corepy.plugin.metrics import Value

DEFAULT_LIMIT: Final = 50
"""Queries a second, as github.com/milgradesec/ratelimit."""

DEFAULT_SIZE: Final = 20_000
"""Clients with a state of their own, about 150 bytes each."""

SECONDS_OF_QUIET: Final = 10.0
"""Seconds between two lines of the log."""

LOG: Final = plugin_logger("ratelimit")
_active: list[Limiter] = []


@dataclass(slots=True)
class Settings:
    """The options of one directive."""

    limit: float = DEFAULT_LIMIT
    """Queries a second."""

    burst: int | None = None
    """Queries at once; by default those of a second, at least 1."""

    ipv4_prefix: int = IPV4_BITS
    ipv6_prefix: int = IPV6_BITS
    action: Denial = Denial.REFUSE
    slip: int = 0
    """Every n-th denied query gets a truncated reply; 0 for none."""

    size: int = DEFAULT_SIZE
    is_report: bool = False
    exempt: Networks = field(default_factory=Networks)


class Limiter:
    """Limits the clients of one server block."""

    def __init__(self, settings: Settings) -> None:
        """Take the options of the directive."""
        self.settings = settings
        burst = settings.burst or max(1.0, settings.limit)
        prefix = ClientPrefix(settings.ipv4_prefix, settings.ipv6_prefix)
        self.rates = Rates(settings.limit, burst, settings.size, prefix)
        self.over_limit = self.rates.over_limit
        self._exempt = settings.exempt
        self._until_slip = settings.slip
        self._reported = 0
        self._unlogged = 0
        self._quiet_until = -inf
        self._counters: dict[tuple[str, Denial | None], tuple[Value, Value]] = {}

    def deny(self, peer: object, server: str) -> Denial | None:
        """Count a query over the limit; return what its client gets, None for an answer."""
        if peer in self._exempt:
            EXEMPT.labels(server).inc()
            return None
        denial = self._denial()
        self._log(peer)
        labels = server, denial
        counters = self._counters.get(labels)
        if counters is None:
            word = "report" if denial is None else denial.value
            counters = DROPPED.labels(server), DENIED.labels(server, word)
            self._counters[labels] = counters
        counters[0].value += 1
        counters[1].value += 1
        return denial

    def _log(self, peer: object) -> None:
        """Log a client, at most once in `SECONDS_OF_QUIET`; most likely it is the busiest one."""
        self._unlogged += 1
        now = monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + SECONDS_OF_QUIET
            LOG.warning(
                "queries over the limit of %g a second: %d since the last line like this one,"
                " the last one from %s",
                self.settings.limit,
                self._unlogged,
                host_port(peer)[0],
            )
            self._unlogged = 0

    def _denial(self) -> Denial | None:
        settings = self.settings
        if settings.is_report:
            return None
        if settings.slip:
            self._until_slip -= 1
            if not self._until_slip:
                self._until_slip = settings.slip
                return Denial.TRUNCATE
        return settings.action

    def count_hits(self, times: int) -> None:
        """Do nothing: repeated replies are counted by `over_limit`."""

    def start(self, processes: int) -> None:
        """Divide the limit among the processes, and export the size of the table."""
        self.rates.divide(processes)
        _active.append(self)

    def stop(self) -> None:
        """Export the size of the table no longer."""
        if self in _active:
            update()
            _active.remove(self)

    def report(self) -> int:
        """Return the untracked queries since the last call."""
        missed, self._reported = self.rates.missed - self._reported, self.rates.missed
        return missed


@metrics.before_reading
def update() -> None:
    """Copy the numbers of the tables; called before the metrics are read."""
    CLIENTS.value = float(sum(len(limiter.rates) for limiter in _active))
    for limiter in _active:
        UNTRACKED.inc(limiter.report())
