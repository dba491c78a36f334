"""Parse the *bind* directives of a block into its listen hosts (CoreDNS: plugin/bind/setup.go).

*bind* has no handler: `setup` does all of its work. Interfaces are read only if a Corefile names
one.
"""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING

from corepy.net.interfaces import Interfaces, read_interfaces
from corepy.plugin import ListenHosts, Mistakes

if TYPE_CHECKING:
    from corepy.plugin import Controller, Token


def setup(controller: Controller) -> None:
    """Set `ListenHosts` to the addresses of all *bind* directives of the block, in their order."""
    mistakes = Mistakes()
    directives = _Directives(controller, mistakes)
    for _ in controller.occurrences():
        with controller.statement(mistakes):
            directives.read()
    mistakes.settle()
    hosts = tuple(directives.hosts)
    if not hosts:
        controller.warn("bind leaves no address to listen on, so this server block answers nothing")
    controller.configure(ListenHosts(hosts))


class _Directives:
    """Parses the directives of one block."""

    def __init__(self, controller: Controller, mistakes: Mistakes) -> None:
        self._controller = controller
        self._mistakes = mistakes
        self._interfaces: Interfaces | None = None
        self.hosts: dict[str, Token] = {}

    def read(self) -> None:
        """Add the addresses of the controller's current directive."""
        controller = self._controller
        wanted = self._arguments()
        excluded: list[Token] = []
        with self._mistakes:
            controller.options({"except": lambda: excluded.extend(self._arguments())})
        without = {host for token in excluded for host in self._collected(token)}
        for token in wanted:
            with self._mistakes:
                self._refuse_without_zone(token)
            for host in self._collected(token):
                # `fe80::1` excludes `fe80::1%eth0` as well, as in CoreDNS.
                if host not in without and host.partition("%")[0] not in without:
                    with self._mistakes:
                        self._add(host, token)

    def _collected(self, token: Token) -> list[str]:
        """Return the addresses of an argument, none if it is invalid."""
        with self._mistakes:
            return self._resolve(token)
        return []

    def _refuse_without_zone(self, token: Token) -> None:
        """Raise an error for a link-local address without a zone, which cannot be bound."""
        address = parse_ip(token.text)
        if address is not None and "%" not in address and _is_link_local(address):
            raise self._controller.error(
                f"a link-local address needs its network interface: {token.text!r}",
                token,
                f"such as {address}%eth0",
            )

    def _arguments(self) -> list[Token]:
        tokens = list(self._controller.remaining_tokens())
        if not tokens:
            raise self._controller.error("at least one address or interface name is expected")
        return tokens

    def _add(self, host: str, token: Token) -> None:
        if host in self.hosts:
            first = self.hosts[host]
            raise self._controller.error(
                f"{host} is bound twice in this server block",
                token,
                f"it is already bound by {first.text!r} in line {first.line}",
            )
        self.hosts[host] = token

    def _resolve(self, token: Token) -> list[str]:
        """Return the addresses of an argument, in canonical form."""
        address = parse_ip(token.text)
        if address is not None:
            return [address]
        if "%" in token.text:
            raise self._controller.error(
                f"not a valid IP address with a zone: {token.text!r}",
                token,
                "only a link-local IPv6 address has one, its network interface: fe80::53%eth0",
            )
        if self._interfaces is None:
            self._interfaces = read_interfaces(may_ask=not self._controller.checking)
        found = self._interfaces.hosts(token.text)
        if found is None:
            hint = _hint(token.text) or (
                f"interfaces of this host: {', '.join(self._interfaces.names) or 'none'}"
            )
            message = f"not a valid IP address or interface name: {token.text!r}"
            raise self._controller.error(message, token, hint)
        if not self._interfaces.exact:
            self._controller.warn(
                f"the IPv4 addresses of {token.text} were guessed from the routing table",
                token,
                "this process may not use netlink; write the addresses instead",
            )
        return found


def _hint(text: str) -> str | None:
    """Return a suggestion for an argument that is neither address nor interface."""
    if "," in text or any(char.isspace() for char in text):
        return "separate addresses with spaces; the value of a variable stays one word"
    host, colon, port = text.rpartition(":")
    if colon and port.isdecimal() and parse_ip(host.strip("[]")) is not None:
        return f"bind takes no port; it belongs to the zone, such as '.:{port} {{'"
    return None


def parse_ip(text: str) -> str | None:
    """Return an IP address in canonical form, None if `text` is not an IP address.

    Accepts the syntax of Go's net.ParseIP, without leading zeros in IPv4. An IPv4-mapped IPv6
    address becomes the IPv4 address, as in Go. A link-local address may have a zone, the name or
    number of its network interface (RFC 4007 section 11), which CoreDNS refuses.
    """
    text, percent, zone = text.partition("%")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if percent:
        return f"{address}%{zone}" if _is_link_local(text) and _is_zone(zone) else None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)


def _is_link_local(address: str) -> bool:
    return ":" in address and ipaddress.ip_address(address).is_link_local


def _is_zone(zone: str) -> bool:
    """Whether a network interface may have this name (Linux: dev_valid_name)."""
    return (
        0 < len(os.fsencode(zone)) < 16
        and zone not in (".", "..")
        and not any(char in "/:%" or char.isspace() for char in zone)
    )
