"""The transport grpc://, DNS over CoreDNS's gRPC service (core/dnsserver/server_grpc.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from hyperframe.frame import SettingsFrame

from corepy.corefile.zones import SCHEMES
from corepy.net.http_probe import answers
from corepy.plugin import GRPCLimits, ProxyPolicy, Timeouts, TLSSetting, TSIGKeys
from corepy.server.listen.http.grpc_exchange import GRPCApplication
from corepy.server.listen.http.http2 import HTTP2Session
from corepy.server.listen.http.http_listener import H2, PREFACE, HTTPListener
from corepy.server.listen.http.plaintext import encryption_problem
from corepy.server.listen.transport import Transport

if TYPE_CHECKING:
    from corepy.plugin import ListenerConfig
    from corepy.server.listen.http.http_connection import HTTPConnection
    from corepy.server.listen.http.http_exchange import Session
    from corepy.server.listen.router import Router


SETTINGS: Final = SettingsFrame(0).serialize()
"""The first frame of a session: without settings, those of the protocol apply."""


class GRPCListener(HTTPListener):
    """One listening TCP socket of DNS over gRPC."""

    protocol: ClassVar[str] = "grpc"
    is_checkable: ClassVar[bool] = True
    pads_replies: ClassVar[bool] = True
    application_protocols: ClassVar[tuple[str, ...]] = (H2,)

    def swap(self, router: Router, config: ListenerConfig) -> None:
        """Use `router` and `config` from the next query on; see `StreamListener.swap`."""
        super().swap(router, config)
        self._max_streams = config.get(GRPCLimits).max_streams

    def connection_limit(self, config: ListenerConfig) -> int:
        """Return the maximum number of connections; see `HTTPListener.connection_limit`."""
        return config.get(GRPCLimits).max_connections

    def new_session(self, connection: HTTPConnection, protocol: str | None) -> Session:
        """Return a session of HTTP/2, also for a client without ALPN."""
        return HTTP2Session(connection, GRPCApplication(connection), self._max_streams)

    async def check(self, address: tuple[str | int, ...]) -> bool:
        """Begin a session at `address`; return whether the listener sends its settings."""
        protocol = None if self._tls is None else H2
        return await answers(address, protocol, PREFACE + SETTINGS, SETTINGS[3:])

    def plain_protocol(self, start: bytes) -> str:
        """Return the only protocol: another start is an error of the session."""
        return H2


def find_problem(config: ListenerConfig) -> str | None:
    """Return why an address cannot be served: without a certificate, or in plain text with one."""
    plaintext = config.get(GRPCLimits).plaintext
    return encryption_problem(config, is_plaintext=plaintext)


TRANSPORT: Final = Transport(
    "grpc",
    SCHEMES["grpc"],
    (GRPCListener,),
    settings=(Timeouts, TSIGKeys, TLSSetting, ProxyPolicy, GRPCLimits),
    find_listener_problem=find_problem,
)
