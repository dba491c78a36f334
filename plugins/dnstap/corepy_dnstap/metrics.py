"""The metrics; CoreDNS has none for *dnstap*."""

from __future__ import annotations

from corepy.plugin import metrics

SENT = metrics.counter(
    "coredns_dnstap_messages_sent_total",
    "Messages that were written to a collector.",
    ("endpoint",),
)
DROPPED = metrics.counter(
    "coredns_dnstap_messages_dropped_total",
    "Messages that were dropped, because the collector was not connected or too slow.",
    ("endpoint",),
)
CONNECTED = metrics.gauge(
    "coredns_dnstap_connections",
    "Connections to collectors that are established.",
    ("endpoint",),
)
