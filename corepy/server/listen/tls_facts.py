"""The TLS parameters of a connection, for plugins (`corepy.dns.TLSFacts`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns import TLSFacts

if TYPE_CHECKING:
    import ssl


def facts_of(tls: ssl.SSLObject) -> TLSFacts:
    """Return the facts about a connection whose handshake is complete."""
    cipher = tls.cipher()
    return TLSFacts(
        version=tls.version() or "",
        cipher="" if cipher is None else cipher[0],
        protocol=tls.selected_alpn_protocol() or "",
        peer_certificate=tls.getpeercert(binary_form=True),
    )
