"""Parse the *dns64* directive (CoreDNS: plugin/dns64/setup.go)."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from corepy_dns64.dns64 import DNS64
from corepy_dns64.prefix import LONGEST, RFC_LENGTHS, SHORTEST, STEP, U_OCTET, Prefix

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token

WELL_KNOWN: Final = "64:ff9b::/96"
"""The default prefix (RFC 6052 section 2.1)."""

_HINT: Final = f"such as {WELL_KNOWN}"


def setup(controller: Controller) -> None:
    """Add one handler; as in CoreDNS, further directives of the block change its settings."""
    handler = DNS64(Prefix(ipaddress.IPv6Network(WELL_KNOWN)))
    options = {
        "prefix": lambda: setattr(handler, "prefix", _prefix(controller, controller.argument())),
        "translate_all": lambda: _set(controller, handler, "translate_all"),
        "allow_ipv4": lambda: _set(controller, handler, "allow_ipv4"),
    }
    for _ in controller.occurrences():
        for token in controller.arguments(0, 1):
            handler.prefix = _prefix(controller, token)
        controller.options(options)
    controller.add_handler(handler)


def _set(controller: Controller, handler: DNS64, option: str) -> None:
    controller.arguments(0, 0)
    setattr(handler, option, True)


def _prefix(controller: Controller, token: Token) -> Prefix:
    """Return the prefix in `token`, whose host bits are ignored; raises `CorefileError`."""
    text = token.text
    try:
        host, _, length = text.partition("/")
        if "%" in host or not (length.isascii() and length.isdigit()):
            raise ValueError
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise controller.error(f"invalid CIDR address: {text}", token, _HINT) from None
    if not isinstance(network, ipaddress.IPv6Network):
        raise controller.error(f"{text} is an IPv4 network, not an IPv6 prefix", token, _HINT)
    size = network.prefixlen
    if size % STEP or not SHORTEST <= size <= LONGEST:
        hint = f"it has {SHORTEST} to {LONGEST} bits, in steps of {STEP}"
        raise controller.error(f"invalid prefix length {size}", token, hint)
    if network.network_address.packed[U_OCTET]:
        hint = "RFC 6052 section 2.2: these bits of the address are always zero"
        raise controller.error(f"bits 64 to 71 of {text} are not zero", token, hint)
    if size not in RFC_LENGTHS:
        lengths = ", ".join(map(str, RFC_LENGTHS))
        controller.warn(f"RFC 6052 has no prefix of {size} bits", token, f"it has {lengths}")
    return Prefix(network)
