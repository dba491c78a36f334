"""The handler of *clouddns* (CoreDNS: plugin/clouddns)."""

from __future__ import annotations

from typing import ClassVar

from corepy.zone.polled_handler import PolledHandler


class CloudDNS(PolledHandler):
    """Answers from the zones of one *clouddns* directive."""

    name: ClassVar[str] = "clouddns"
