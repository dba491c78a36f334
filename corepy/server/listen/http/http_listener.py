"""`HTTPListener`: a listening TCP socket for DNS over HTTP/2, and over HTTP/1.1 if it allows it."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.net.descriptors import descriptor_limit
from corepy.plugin import Timeouts
from corepy.server.listen.http.http_connection import HTTPConnection
from corepy.server.listen.stream_listener import SHARE, StreamConnection, StreamListener

if TYPE_CHECKING:
    from corepy.plugin import ListenerConfig
    from corepy.server.listen.http.http_exchange import Session

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The first bytes of a client of HTTP/2 (RFC 9113 section 3.4)."""

H2: Final = "h2"
HTTP1: Final = "http/1.1"


class HTTPListener(StreamListener):
    """Accepts connections that carry HTTP."""

    application_protocols: ClassVar[tuple[str, ...]] = (H2, HTTP1)

    def new_connection(self) -> StreamConnection:
        """Return the protocol for a connection that is being accepted."""
        return HTTPConnection(self)

    @abc.abstractmethod
    def connection_limit(self, config: ListenerConfig) -> int:
        """Return the maximum number of connections of the transport's plugin; 0 for no limit."""

    def most_connections(self, config: ListenerConfig) -> int:
        """Return the maximum number of connections; without one, what the descriptors allow."""
        given = config.get(Timeouts).max_connections or self.connection_limit(config)
        return given or max(descriptor_limit() // SHARE, 1)

    @abc.abstractmethod
    def new_session(self, connection: HTTPConnection, protocol: str | None) -> Session:
        """Return the session for a protocol of `application_protocols`, or for a client without."""

    def plain_protocol(self, start: bytes) -> str | None:
        """Return the protocol of a connection without TLS that begins with `start`.

        None if there is not enough of it. A client of HTTP/2 has to know that the server speaks it
        (RFC 9113 section 3.3).
        """
        if start.startswith(PREFACE[: len(start)]):
            return H2 if len(start) >= len(PREFACE) else None
        return HTTP1
