"""Options that name other DNS servers, such as "[2001:db8::1]:5353", and keys to talk to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from corepy.corefile import parse_unsigned
from corepy.dns.address import address_bytes, canonical
from corepy.dns.names import InvalidName, from_text, lower, to_text
from corepy.plugin.listener_settings import TSIGKeys

if TYPE_CHECKING:
    from corepy.corefile import Token
    from corepy.dns.tsig import TSIGKey
    from corepy.plugin.controller import Controller

DNS_PORT: Final = 53
_HIGHEST_PORT: Final = 65535


class ServerAddress(NamedTuple):
    """The address of a server."""

    host: str
    """An IP address in canonical form, with the interface of a link-local one."""

    port: int

    @property
    def packed(self) -> bytes:
        """The IP address as `corepy.dns.address.address_bytes` returns that of a client."""
        return address_bytes((self.host, self.port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_server_address(text: str) -> ServerAddress:
    """Return the address of a server, with port 53 by default (plugin/pkg/parse: HostPort).

    Raises ValueError with the reason.
    """
    host = canonical(text)
    if host is not None:
        return ServerAddress(host, DNS_PORT)
    left, colon, digits = text.rpartition(":")
    if colon and left.startswith("[") and left.endswith("]"):
        host = canonical(left[1:-1])
    elif colon and ":" not in left:
        host = canonical(left)
    if host is None:
        raise ValueError(f"must specify an IP address: {text!r}")
    port = parse_unsigned(digits, _HIGHEST_PORT) if digits else DNS_PORT
    if not port:
        raise ValueError(f"not a port number: {digits!r}")
    return ServerAddress(host, port)


def read_server_address(controller: Controller, token: Token) -> ServerAddress:
    """Return the address of a server in `token`; raises `CorefileError`."""
    try:
        return parse_server_address(token.text)
    except ValueError as error:
        hint = "such as 192.0.2.1 or [2001:db8::1]:5353"
        raise controller.error(str(error), token, hint) from None


def read_key(controller: Controller, token: Token) -> TSIGKey:
    """Return the key of *tsig* in this block that `token` names; raises `CorefileError`.

    The setup of *tsig* must precede, as in the order of the chain.
    """
    keys = controller.config.get(TSIGKeys)
    try:
        key = keys.key(lower(from_text(token.text)))
    except InvalidName:
        key = None
    if key is None:
        known = ", ".join(to_text(name) for name in keys.secrets)
        hint = f"known: {known}" if known else "define it with tsig in this server block"
        raise controller.error(f"unknown key {token.text!r}", token, hint)
    return key
