"""The transport tls://, DNS over TLS (RFC 7858)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from corepy.corefile.zones import SCHEMES
from corepy.plugin import Timeouts, TLSSetting, TSIGKeys
from corepy.server.listen.tcp import TCPListener
from corepy.server.listen.transport import Transport

if TYPE_CHECKING:
    from corepy.plugin import ListenerConfig


class TLSListener(TCPListener):
    """One listening TCP socket of DNS over TLS."""

    protocol: ClassVar[str] = "tls"
    application_protocols: ClassVar[tuple[str, ...]] = ("dot",)
    is_checkable: ClassVar[bool] = False


def without_certificate(config: ListenerConfig) -> str | None:
    """Return why an address cannot be served if none of its blocks has a certificate."""
    if config.get(TLSSetting).source is None:
        return "it has no certificate (add to the server block: tls CERT KEY)"
    return None


TRANSPORT: Final = Transport(
    "tls",
    SCHEMES["tls"],
    (TLSListener,),
    settings=(Timeouts, TSIGKeys, TLSSetting),
    find_listener_problem=without_certificate,
)
