"""The cases: queries, server settings, and the ratios that corepy aims at.

Goals are ratios of CPU per query: that of corepy's compiled form divided by the peer's. They are
shown beside the measured ratios, never asserted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from benchmarks.ask import free_port
from benchmarks.servers import Setting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from corepy.testing.certificates import Files

TEN_LISTENERS = tuple(f"127.0.0.{number}" for number in range(1, 11))
LARGE_CACHE = (
    200_000  # CoreDNS splits its capacity among 256 shards: leave room, or unlucky ones evict
)


class Names(Enum):
    """The set of names that is queried."""

    HOT = "hot"
    MANY = "many"
    NEW = "new"
    DISTINCT = "distinct"
    """Each name of the large set once, then again from the first."""


@dataclass(frozen=True)
class Case:
    """One row of the comparison.

    With `tcp` clients keep their connections; with `short` each query has a connection of its own.
    With `tls` these connections are encrypted, with `https` they carry HTTP/2 besides.
    With `authoritative` the servers have a zone of `MANY` names and forward nothing.
    """

    key: str
    title: str
    names: Names = Names.HOT
    tcp: bool = False
    short: bool = False
    tls: bool = False
    https: bool = False
    addresses: tuple[str, ...] = Setting.addresses
    cache_size: int = Setting.cache_size
    log: bool = False
    upstream_tcp: bool = False
    packet_cache: bool = True
    client_limit: int = Setting.client_limit
    authoritative: bool = False
    rcode: str = "NOERROR"
    goals: Mapping[str, float] = field(default_factory=dict)

    def setting(self, port: int, upstream: int, zone: Path, certificate: Files) -> Setting:
        """Return the server configuration for the case; `zone` is the file of the large zone."""
        return Setting(
            port=port,
            upstream=upstream,
            addresses=self.addresses,
            cache_size=self.cache_size,
            log=self.log,
            upstream_tcp=self.upstream_tcp,
            packet_cache=self.packet_cache,
            client_limit=self.client_limit,
            zone=zone if self.authoritative else None,
            tls_port=free_port() if self.tls else 0,
            https=self.https,
            certificate=certificate if self.tls else None,
        )


CASES = (
    Case("hot", "hot names", goals={"unbound": 0.9, "coredns": 0.34}),
    Case("ordinary", "ordinary-way hits", packet_cache=False, goals={"coredns": 0.42}),
    Case("miss-udp", "misses over UDP", Names.NEW, goals={"unbound": 0.72, "coredns": 0.6}),
    Case(
        "miss-tcp",
        "misses over TCP",
        Names.NEW,
        upstream_tcp=True,
        goals={"unbound": 0.95, "coredns": 0.55},
    ),
    Case("log", "log on, hot names", log=True, goals={"unbound": 0.95, "coredns": 0.38}),
    Case("limit", "a limit per client, hot names", client_limit=10_000_000),
    Case("listeners", "10 listeners, hot names", addresses=TEN_LISTENERS),
    Case(
        "many",
        "100k cached names, uniform",
        Names.MANY,
        cache_size=LARGE_CACHE,
        goals={"unbound": 1.2, "coredns": 0.42},
    ),
    Case("tcp", "TCP clients, hot names", tcp=True),
    Case(
        "tcp-short",
        "TCP clients, one query a connection",
        short=True,
        goals={"unbound": 1.0, "coredns": 0.8},
    ),
    Case("dot", "DNS over TLS, hot names", tcp=True, tls=True, goals={"unbound": 1.2}),
    Case(
        "dot-short",
        "DNS over TLS, a handshake for each query",
        short=True,
        tls=True,
        goals={"unbound": 1.3},
    ),
    Case(
        "https",
        "DNS over HTTPS, hot names",
        tcp=True,
        tls=True,
        https=True,
        goals={"dnsdist": 1.5, "coredns": 1.5},
    ),
    Case("zone-hot", "100k-name zone, hot names", authoritative=True),
    Case("zone-distinct", "100k-name zone, distinct names", Names.DISTINCT, authoritative=True),
    Case(
        "zone-absent",
        "100k-name zone, absent names",
        Names.NEW,
        authoritative=True,
        rcode="NXDOMAIN",
    ),
)
