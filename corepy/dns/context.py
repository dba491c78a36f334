"""`RequestContext`: the listener and the server block of a query, shared by many queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The values that all queries of one listener and one zone have in common.

    The server creates one for each pair of listener and zone when it activates a configuration.
    """

    protocol: str = "udp"
    """The transport of the listener: "udp", "tcp", "tls", ..."""

    network: str = "udp"
    """The protocol of its socket, "udp" or "tcp": the `proto` of metrics and logs."""

    server: str = ""
    """The address of the server, such as "dns://:53"."""

    zone: str = ""
    """The zone of the answering server block."""

    view: str = ""
    """The view of the answering server block (`corepy.plugin.BlockFilter`)."""

    family: int = 0
    """The address family of all clients of the listener: 1 is IPv4, 2 is IPv6, 0 is both."""

    uses_deadlines: bool = True
    """False if the packet cache is off here, so `Reply.deadline` need not be computed."""

    router: Any = None
    """The router of the generation; see `corepy.plugin.lookup`. None without a server."""

    route: Any = None
    """The zone's entry in the router, for the server only."""


UNROUTED = RequestContext()
"""The context of a request that did not come through a server."""
