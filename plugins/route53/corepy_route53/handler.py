"""The handler that answers from hosted zones of Route 53 (CoreDNS: plugin/route53)."""

from __future__ import annotations

from typing import ClassVar

from corepy.zone.polled_handler import PolledHandler


class Route53(PolledHandler):
    """Answers queries for names in the hosted zones of one directive."""

    name: ClassVar[str] = "route53"
