"""Reports the attempts at upstreams to observers such as *trace* (`AttemptObserver`).

It is called for a query with metadata, and reports one that an observer has selected. So a query
that is not traced, in a block without *metadata*, costs no call.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from corepy.plugin.failures import report
from corepy.plugin.protocols import UpstreamAttempt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Request
    from corepy.plugin.protocols import AttemptObserver
    from corepy_forward.exchange import Exchange

PROTOCOLS: Final = {
    "udp": "udp",
    "tcp": "tcp",
    "tcp-tls": "tls",
    "https": "https",
    "quic": "quic",
    "https3": "https3",
}
"""The protocols of other plugins, by those of attempts."""


def report_attempts(
    observers: Sequence[AttemptObserver], request: Request, exchange: Exchange
) -> None:
    """Report all attempts of an exchange to the observers that have selected `request`."""
    for observer in observers:
        if dict.get(request.metadata, observer.call_label) is None:
            continue
        for attempt, ended, reason in exchange.outcomes(monotonic()):
            target, protocol = attempt.upstream.target, PROTOCOLS[attempt.proto]
            address = target.connect_host, target.port
            found = UpstreamAttempt(address, protocol, attempt.sent, ended, reason)
            try:
                observer.observe_attempt(request, found)
            except Exception as error:  # another plugin's code: the query continues unobserved
                name = getattr(observer, "name", type(observer).__name__)
                report(name, "exception", "failed to observe an attempt", error)
