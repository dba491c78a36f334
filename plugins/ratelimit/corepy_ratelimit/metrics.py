"""The metrics of *ratelimit*; the first one is that of github.com/milgradesec/ratelimit."""

from __future__ import annotations

from typing import Final

from corepy.plugin import metrics

DROPPED: Final = metrics.counter(
    "coredns_ratelimit_dropped_request_total",
    "Queries over the limit of their client.",
    ("server",),
)
DENIED: Final = metrics.counter(
    "corepy_ratelimit_denied_total",
    "Queries over the limit of their client, by what it got.",
    ("server", "action"),
)
EXEMPT: Final = metrics.counter(
    "corepy_ratelimit_exempt_total",
    "Queries that were over the limit and answered because their client is exempt.",
    ("server",),
)
UNTRACKED: Final = metrics.counter(
    "corepy_ratelimit_untracked_total",
    "Queries of clients that shared their state with others because the table was full.",
).labels()
CLIENTS: Final = metrics.gauge(
    "corepy_ratelimit_clients", "Clients that were seen recently and have a state of their own."
).labels()
