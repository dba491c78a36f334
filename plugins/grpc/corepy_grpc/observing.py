"""Reports the attempts at upstreams to observers such as *trace* (`AttemptObserver`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corepy.plugin.failures import report

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.dns import Request
    from corepy.plugin.protocols import AttemptObserver, UpstreamAttempt

PROTOCOL: Final = "grpc"


def report_attempts(
    observers: Sequence[AttemptObserver], request: Request, attempts: Iterable[UpstreamAttempt]
) -> None:
    """Report attempts to the observers that have selected `request`.

    Those at Unix sockets, which have no address of the network, are left out.
    """
    for observer in observers:
        if dict.get(request.metadata, observer.call_label) is None:
            continue
        for attempt in attempts:
            if not attempt.upstream[1]:
                continue
            try:
                observer.observe_attempt(request, attempt)
            except Exception as error:  # another plugin's code: the query continues unobserved
                name = getattr(observer, "name", type(observer).__name__)
                report(name, "exception", "failed to observe an attempt", error)
