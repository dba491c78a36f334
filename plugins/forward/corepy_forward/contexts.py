"""How the certificates of upstreams are verified, by transport, and the modules of transports."""

from __future__ import annotations

import ssl
from importlib import import_module
from typing import TYPE_CHECKING, Final

from corepy.plugin.tls_client import client_context

if TYPE_CHECKING:
    from corepy.plugin.tls_client import TLSFiles
    from corepy_forward.quic_trust import TLSContext

PROTOCOLS: Final = {"tls": "dot", "https": "h2", "quic": "doq", "https3": "h3"}
"""ALPN protocols (the registration for RFC 7858; RFC 8484 section 5.2, RFC 9250, RFC 9114)."""

_CLIENTS: Final = {"https": "doh", "quic": "quic", "https3": "doh3"}
_OVER_QUIC: Final = ("quic", "https3")


def import_client(transport: str) -> None:
    """Import the module of a transport, if it needs a library; raises ImportError."""
    if transport in _CLIENTS:
        import_module(f"corepy_forward.{_CLIENTS[transport]}")


def make_context(files: TLSFiles, transport: str, *, verifies: bool = True) -> TLSContext:
    """Return how to verify upstreams of a transport; raises OSError or ValueError."""
    protocol = PROTOCOLS[transport]
    if transport in _OVER_QUIC:
        from corepy_forward.quic_trust import QUICTrust

        return QUICTrust(files, protocol, verifies=verifies)
    context = client_context(files, [protocol])
    if not verifies:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
