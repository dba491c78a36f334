"""Where the page is served: an address, or a socket of the Unix domain."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from corepy.http import split_address

DEFAULT_ADDRESS: Final = "localhost:8053"
UNIX: Final = "unix:"


def is_local(address: str) -> bool:
    """Return whether only this machine reaches `address`; False for names but localhost."""
    if address.startswith(UNIX):
        return True
    host = split_address(address)[0]
    return host.lower().rstrip(".") == "localhost" or is_loopback(host)


def is_loopback(host: str) -> bool:
    """Return whether `host` is an IP address of the loopback interface."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
