"""Parse the *shed* directive (CoreDNS: plugin/shed/setup.go)."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from corepy.net.sockets import Address
from corepy.plugin import ListenHosts
from corepy_shed.dropped import DropCounter

if TYPE_CHECKING:
    from corepy.plugin import Controller

_PLAIN: Final = "dns"


def setup(controller: Controller) -> None:
    """Count the drops at the addresses of the block; there is no handler."""
    for _ in controller.single():
        controller.arguments(0, 0)
        controller.options({})
        for key in controller.config.keys:
            if key.transport != _PLAIN:
                raise controller.error(
                    f"shed in a server block for {key.token.text!r}, whose transport is"
                    f" {key.transport!r}",
                    hint="use shed in server blocks for plain DNS only",
                )
    config = controller.config
    labels = {
        f"{key.transport}://{Address(_canonical(host), key.port)}"
        for key in config.keys
        for host in config.get(ListenHosts).hosts
    }
    controller.register(DropCounter(labels))


def _canonical(host: str) -> str:
    """Return an address as in the name of its server; "" stays, for all addresses."""
    address, percent, zone = host.partition("%")
    return f"{ipaddress.ip_address(address)}{percent}{zone}" if host else ""
