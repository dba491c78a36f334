"""`RequestContext`: the listener and the server block of a query, shared by many queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

ECHOED_OPTIONS: Final = frozenset((12,))
"""The codes of the options that are echoed without a plugin that registers them: PADDING.

RFC 7830 section 4 requires padding in the reply to a query with padding, and the client's length is
a valid one where the length of a reply need not be hidden (`RequestContext.pads_replies`). CoreDNS
(request/edns0.go) also echoes NSID, EXPIRE, COOKIE and TCP KEEPALIVE. Their replies have contents
of their own, so an echo would be a false statement: an empty server name, no expiry, a cookie
without a server's part (RFC 7873 section 4.2), no timeout (RFC 7828 section 3.1).
"""


NETWORKS: Final = ("udp", "tcp")
"""The values of `RequestContext.network`."""


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
    """The address family of all clients of the listener: 1 is IPv4, 2 is IPv6, 0 is both.

    It is 0 where a proxy states the client.
    """

    uses_deadlines: bool = True
    """False if the packet cache is off here, so `Reply.deadline` need not be computed."""

    echoed_options: frozenset[int] = ECHOED_OPTIONS
    """The codes of the EDNS options that a reply repeats from its query."""

    pads_replies: bool = False
    """Whether the replies to queries with padding are padded to a common length (RFC 8467).

    True for encrypted transports.
    """

    idle_timeout: int = 0
    """Tenths of a second that a connection may be idle (RFC 7828); 0 if replies do not state it."""

    is_gated: bool = False
    """Whether the listener has asked the gates of the block already (`corepy.plugin.gates`)."""

    takes_series: bool = False
    """Whether a reply may consist of several messages (`Request.reply_series`)."""

    router: Any = None
    """The router of the generation; see `corepy.plugin.lookup`. None without a server."""

    route: Any = None
    """The zone's entry in the router, for the server only."""


UNROUTED = RequestContext()
"""The context of a request that did not come through a server."""
