"""The settings of one *cache* directive, with CoreDNS's defaults (plugin/cache/cache.go, New).

All times are in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_TTL = 3600
"""Default upper bound for positive replies."""

MAX_DENIAL_TTL = 1800
"""Default upper bound for denials."""

MIN_TTL = 5
"""Default lower bound for both, and the default TTL of a cached SERVFAIL."""

DEFAULT_CAPACITY = 9984
"""Default number of entries of each kind: CoreDNS's 256 shards of 39."""

MIN_CAPACITY = 1024
"""CoreDNS's smallest cache: 256 shards of 4 entries."""


@dataclass(slots=True)
class Bounds:
    """Limits of one kind of reply; `except_zones` are lower-case wire names that are not cached."""

    max_ttl: int
    min_ttl: int = MIN_TTL
    capacity: int = DEFAULT_CAPACITY
    except_zones: tuple[bytes, ...] = ()

    def clamp(self, ttl: int) -> int:
        """Return the TTL to cache a reply with, given the TTL of its records."""
        least, most = self.min_ttl, self.max_ttl
        # min() and max() take ten times as long, and this runs for every reply.
        return ttl if least <= ttl <= most else min(max(ttl, least), most)


@dataclass(slots=True)
class Stale:
    """`serve_stale` and `serve_stale_policy`; off while `up_to` is 0."""

    up_to: int = 0
    verify: bool = False
    verify_timeout: float = 0.0
    """Seconds to wait for the chain below; 0 means no limit."""
    response_ttl: int = 0
    recheck: float = 0.0
    prefer_positive: bool = False


@dataclass(slots=True)
class Prefetch:
    """`prefetch`; off while `amount` is 0."""

    amount: int = 0
    duration: float = 60.0
    percentage: int = 10

    def threshold(self, ttl: int) -> int:
        """Return the remaining TTL at which an entry with `ttl` is prefetched."""
        return -(-ttl * self.percentage // 100)


@dataclass(slots=True)
class Settings:
    """The options of one directive; `zones` are in presentation form, normalized."""

    zones: list[str] = field(default_factory=lambda: ["."])
    success: Bounds = field(default_factory=lambda: Bounds(MAX_TTL))
    denial: Bounds = field(default_factory=lambda: Bounds(MAX_DENIAL_TTL))
    prefetch: Prefetch = field(default_factory=Prefetch)
    stale: Stale = field(default_factory=Stale)
    servfail: int = MIN_TTL
    keep_ttl: bool = False
    memory: int = 0
    """Bytes for the whole process; 0 if the directive has no `memory` option."""
