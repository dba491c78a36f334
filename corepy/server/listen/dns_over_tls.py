"""The transport tls://, DNS over TLS (RFC 7858)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.corefile.zones import SCHEMES
from corepy.net.frames import frame
from corepy.net.tls_probe import answers
from corepy.plugin import ProxyPolicy, Timeouts, TLSSetting, TSIGKeys
from corepy.server.listen.status_query import status_query
from corepy.server.listen.tcp import TCPConnection, TCPListener
from corepy.server.listen.tls_acceptance import facts
from corepy.server.listen.transport import Transport

if TYPE_CHECKING:
    import ssl

    from corepy.plugin import ListenerConfig
    from corepy.server.listen.stream_listener import StreamConnection


class TLSListener(TCPListener):
    """One listening TCP socket of DNS over TLS."""

    protocol: ClassVar[str] = "tls"
    application_protocols: ClassVar[tuple[str, ...]] = ("dot",)
    pads_replies: ClassVar[bool] = True

    def new_connection(self) -> StreamConnection:
        """Return the protocol for a connection that is being accepted."""
        return TLSConnection(self)

    async def check(self, address: tuple[str | int, ...]) -> bool:
        """Send a STATUS query to `address`; return whether it is answered.

        A listener that waits for its first certificate is not at fault.
        """
        if not self.is_ready:
            return True
        query = status_query()
        return await answers(address, self.application_protocols, frame(query), query[:2])


class TLSConnection(TCPConnection):
    """One client's connection: framed as over TCP (RFC 7858 section 3.3)."""

    def secured(self, tls: ssl.SSLObject) -> None:
        """Record the parameters of the connection for its queries."""
        self.identity = replace(self.identity, tls=facts(tls))
        super().secured(tls)


def without_certificate(config: ListenerConfig) -> str | None:
    """Return why an address cannot be served if none of its blocks has a certificate."""
    if config.get(TLSSetting).source is None:
        return "it has no certificate (add to the server block: tls CERT KEY)"
    return None


TRANSPORT: Final = Transport(
    "tls",
    SCHEMES["tls"],
    (TLSListener,),
    settings=(Timeouts, TSIGKeys, TLSSetting, ProxyPolicy),
    find_listener_problem=without_certificate,
)
