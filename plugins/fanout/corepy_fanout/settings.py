"""The options of one directive, with the defaults of the original (const.go, fanout.go)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corepy.plugin.upstream_words import UpstreamWord

MOST_UPSTREAMS: Final = 100
LEAST_WORKERS: Final = 2
MOST_WORKERS: Final = 32
MOST_WEIGHT: Final = 100
DEFAULT_ATTEMPTS: Final = 3
DEFAULT_TIMEOUT: Final = 30.0
LONGEST: Final = 9.0
"""Seconds that a query may take in any case: the server ends it after 10 seconds."""

SEQUENTIAL: Final = "sequential"
WEIGHTED: Final = "weighted-random"
POLICIES: Final = (SEQUENTIAL, WEIGHTED)
NETWORKS: Final = ("udp", "tcp", "tcp-tls")


@dataclass(slots=True)
class Settings:
    """The options of one directive."""

    zone: str = "."
    upstreams: list[UpstreamWord] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    """Zones whose names are passed on."""

    network: str = "udp"
    attempts: int = DEFAULT_ATTEMPTS
    """Attempts at each upstream; 0 for as many as fit into the timeout."""

    timeout: float = DEFAULT_TIMEOUT
    """Seconds."""

    worker_count: int = 0
    """Upstreams that are asked at the same time; 0 for all."""

    server_count: int = 0
    """Upstreams that are asked at all; 0 for all."""

    weights: list[int] = field(default_factory=list)
    policy: str = SEQUENTIAL
    is_race: bool = False
    tls: list[str] = field(default_factory=list)
    """The arguments of `tls`."""

    tls_server: str = ""

    def complete(self) -> None:
        """Replace the defaults that depend on the number of upstreams (setup.go)."""
        count = len(self.upstreams)
        self.worker_count = min(self.worker_count or count, count)
        self.server_count = min(self.server_count or count, count)
        self.weights = self.weights or [MOST_WEIGHT] * count

    def lines_for(self, upstream: UpstreamWord) -> list[list[str]]:
        """Return the words of a *forward* directive that asks one upstream."""
        lines = [["max_connect_attempts", str(self.attempts)], ["max_fails", "0"]]
        if self.network == "tcp-tls" and upstream.transport == "dns":
            upstream = upstream._replace(transport="tls")
        if upstream.transport == "dns":
            lines += [["force_tcp"]] if self.network == "tcp" else []
        else:
            lines += [["tls", *self.tls]] if self.tls else []
            lines += [["tls_servername", self.tls_server]] if self.tls_server else []
        return [[".", str(upstream)], *lines]
