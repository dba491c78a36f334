"""The transport https://, DNS over HTTPS (RFC 8484) with HTTP/2 and HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from corepy.corefile.zones import SCHEMES
from corepy.net.http_probe import answers
from corepy.plugin import HTTPSLimits, ProxyPolicy, Timeouts, TLSSetting, TSIGKeys, metrics
from corepy.server.listen.http import doh
from corepy.server.listen.http.doh_exchange import DoHApplication
from corepy.server.listen.http.http1 import HTTP1Session
from corepy.server.listen.http.http2 import HTTP2Session
from corepy.server.listen.http.http_listener import H2, HTTP1, HTTPListener
from corepy.server.listen.http.plaintext import encryption_problem
from corepy.server.listen.status_query import status_query
from corepy.server.listen.transport import Transport

if TYPE_CHECKING:
    import socket

    from corepy.plugin import ListenerConfig
    from corepy.server.listen.http.http_connection import HTTPConnection
    from corepy.server.listen.http.http_exchange import Session
    from corepy.server.listen.query_listener import ListenerContext

RESPONSES: Final = metrics.counter(
    "coredns_dns_https_responses_total",
    "Counter of DoH responses per server and http status code.",
    ("server", "status"),
)

MAX_STREAMS: Final = 250
"""Open requests of a connection, as in Go's HTTP/2 server."""


class HTTPSListener(HTTPListener):
    """One listening TCP socket of DNS over HTTPS."""

    protocol: ClassVar[str] = "https"
    is_checkable: ClassVar[bool] = True
    pads_replies: ClassVar[bool] = True

    def __init__(self, sock: socket.socket, context: ListenerContext) -> None:
        """Listen at `sock`."""
        super().__init__(sock, context)
        self._counter = doh.ResponseCounter(RESPONSES, context.label)

    def connection_limit(self, config: ListenerConfig) -> int:
        """Return the maximum number of connections; see `HTTPListener.connection_limit`."""
        return config.get(HTTPSLimits).max_connections

    def new_session(self, connection: HTTPConnection, protocol: str | None) -> Session:
        """Return the session for a protocol; see `HTTPListener.new_session`."""
        application = DoHApplication(connection, self._counter)
        if protocol == H2:
            return HTTP2Session(connection, application, MAX_STREAMS, self._count_ok)
        return HTTP1Session(connection, application)

    async def check(self, address: tuple[str | int, ...]) -> bool:
        """Send a STATUS query to `address`, which is refused; return whether it is answered."""
        query = status_query()
        head = (
            f"POST {doh.PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(query)}\r\n\r\n"
        )
        protocol = None if self._tls is None else HTTP1
        return await answers(address, protocol, head.encode() + query, b"HTTP/1.1 400 ")

    def _count_ok(self) -> None:
        self._counter[doh.OK].value += 1


def find_problem(config: ListenerConfig) -> str | None:
    """Return why an address cannot be served: without a certificate, or in plain text with one."""
    return encryption_problem(config, is_plaintext=config.get(HTTPSLimits).plaintext)


TRANSPORT: Final = Transport(
    "https",
    SCHEMES["https"],
    (HTTPSListener,),
    settings=(Timeouts, TSIGKeys, TLSSetting, ProxyPolicy, HTTPSLimits),
    find_listener_problem=find_problem,
)
