"""Decide about requests, and about responses that the packet cache repeats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from corepy.net.client_prefix import ClientPrefix
from corepy.net.connection_limit import client_number
from corepy.plugin import Denial
from corepy_rrl.accounts import Accounts
from corepy_rrl.category import Category
from corepy_rrl.metrics import REQUESTS, RESPONSES, SLIPPED, count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy_rrl.category import Token

IPV4_PREFIX: Final = 24
IPV6_PREFIX: Final = 56
WINDOW: Final = 15.0
TABLE_SIZE: Final = 100_000
"""The defaults of github.com/coredns/rrl (plugins/rrl/setup.go)."""


@dataclass(slots=True)
class Settings:
    """The options of one directive."""

    zones: list[str] = field(default_factory=list)
    window: float = WINDOW
    """Seconds."""

    ipv4_prefix: int = IPV4_PREFIX
    ipv6_prefix: int = IPV6_PREFIX
    intervals: dict[Category, float] = field(default_factory=dict)
    """Seconds between two responses of a category at its rate; 0 for no limit."""

    request_interval: float = 0.0
    slip_ratio: int = 0
    table_size: int = TABLE_SIZE
    is_report: bool = False

    def interval(self, category: int) -> float:
        """Return the interval of a category, by default that of responses with records."""
        return self.intervals.get(Category(category), self.intervals.get(Category.RESPONSE, 0.0))


class Limits:
    """The settings and accounts of one directive."""

    def __init__(self, settings: Settings) -> None:
        """Start with all accounts full."""
        self.settings = settings
        self.accounts = Accounts(settings.table_size, settings.window, settings.slip_ratio)
        self.prefix = ClientPrefix(settings.ipv4_prefix, settings.ipv6_prefix)
        self.processes = 1
        """The number of processes that share the clients; each has its share of the rates."""

    def key(self, client: int, token: Token | None) -> int:
        """Return the key of an account; `token` is None for that of requests.

        It is a hash with a secret seed, that of the interpreter. So nothing is gained by names that
        are chosen for it.
        """
        return hash((self.prefix.of(client), token))


class AccountGate:
    """The gate of one kind of message to all clients."""

    def __init__(self, limits: Limits, token: Token | None, interval: float) -> None:
        """`token` is that of responses, None for requests; `interval` is in seconds."""
        self.limits = limits
        self.token = token
        self.interval = interval * limits.processes

    def over_limit(self, clients: Sequence[int], now: float) -> list[int]:
        """Debit the account of each client; return the indexes of those with a negative balance."""
        limits, token, interval = self.limits, self.token, self.interval
        debit, key = limits.accounts.debit, limits.key
        return [
            index
            for index, client in enumerate(clients)
            if debit(key(client, token), interval, now)
        ]

    def deny(self, peer: object, _server: str) -> Denial | None:
        """Count a message over the limit; return what its client gets."""
        count(REQUESTS if self.token is None else RESPONSES, peer)
        limits = self.limits
        if limits.settings.is_report:
            return None
        if self.token is None or not limits.accounts.slips(
            limits.key(client_number(peer), self.token)
        ):
            return Denial.DROP
        SLIPPED.inc()
        return Denial.TRUNCATE

    def count_hits(self, times: int) -> None:
        """Do nothing: `over_limit` counts."""
