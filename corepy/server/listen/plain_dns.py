"""The transport dns://, plain DNS over UDP and TCP (RFC 1035 section 4.2, RFC 7766)."""

from __future__ import annotations

from typing import Final

from corepy.corefile.zones import DEFAULT_SCHEME, SCHEMES
from corepy.plugin import ProxyPolicy, Timeouts, TSIGKeys
from corepy.server.listen.tcp import TCPListener
from corepy.server.listen.transport import Transport
from corepy.server.listen.udp import UDPListener

TRANSPORT: Final = Transport(
    DEFAULT_SCHEME,
    SCHEMES[DEFAULT_SCHEME],
    (UDPListener, TCPListener),
    settings=(Timeouts, TSIGKeys, ProxyPolicy),
)
