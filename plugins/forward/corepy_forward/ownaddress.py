"""Detects upstreams that are addresses of this server block, which would cause a forwarding loop.

Another block of the same server is a valid upstream; CoreDNS's manual has an example. A TO that is
an own address is an error in the Corefile and is rejected. In a file, the line is skipped, because
the address of a node-local cache may be in the resolv.conf that the cache reads. When the Corefile
is loaded, only the addresses of `bind` are known; the wildcard means all addresses of this machine
and is checked before the server listens.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from corepy.plugin import ListenHosts
from corepy_forward.targets import as_ip, split_host_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.plugin import BlockConfig, Controller, Token
    from corepy_forward.targets import Target, ToAddress

Place = tuple[str, int]
"""Host and port of a listening socket.

The host is a wildcard such as "", or an IP address, possibly with its zone.
"""

_WILDCARDS = ("", "0.0.0.0", "::")
_UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""The address that a socket connected to an unspecified address reaches."""


def refuse_own_addresses(controller: Controller, entry: ToAddress, token: Token) -> None:
    """Raise an error if a TO is an address that the block listens on."""
    own = own_among(entry.targets, named_places(controller.config))
    if own is not None:
        raise controller.error(
            f"upstream {own.address} is an address that this server listens on",
            token,
            "queries would go round in a circle",
        )


def skipped_own(target: Target, place: str) -> str:
    """Return the message for a line of a file with an address of this server block."""
    return f"{place}: {target.address} is this server itself; the line is skipped"


def named_places(config: BlockConfig) -> list[Place]:
    """Return the addresses and ports of the block's *bind* directives, without wildcards."""
    ports = {key.port for key in config.keys if key.transport == "dns"}
    named = [host for host in config.get(ListenHosts).hosts if host not in _WILDCARDS]
    return [(host, port) for host in named for port in ports]


def places_of(config: BlockConfig, listening: Sequence[str]) -> list[Place]:
    """Return the addresses and ports that the block listens on.

    `listening` has those of the whole server, as "dns://host:port". It is needed for the number of
    a port that the kernel chooses.
    """
    hosts = {_normal(host) for host in config.get(ListenHosts).hosts}
    ports = {key.port for key in config.keys if key.transport == "dns"}
    return [
        (host, port)
        for host, port in _places(listening)
        if _normal(host) in hosts and (port in ports or 0 in ports)
    ]


def _places(listening: Iterable[str]) -> Iterable[Place]:
    for address in listening:
        transport, _, rest = address.partition("://")
        split = split_host_port(rest)
        if transport == "dns" and split is not None and split[1].isdigit():
            yield split[0], int(split[1])


def _normal(host: str) -> str:
    return "" if host in _WILDCARDS else as_ip(host.partition("%")[0]) or host


def own_among(targets: Iterable[Target], places: Sequence[Place]) -> Target | None:
    """Return the first of `targets` that is one of the addresses `places`."""
    for target in targets:
        if target.transport == "dns" and any(_is(target, host, port) for host, port in places):
            return target
    return None


def _is(target: Target, host: str, port: int) -> bool:
    if target.port != port:
        return False
    if host in _WILDCARDS:
        return is_local(target)
    zone = host.partition("%")[2]
    if zone and target.scope and zone != target.scope:
        return False  # the same link-local address on another link
    return _normal(host) == _UNSPECIFIED.get(target.host, target.host)


def is_local(target: Target) -> bool:
    """Whether an address belongs to this machine, which is the case if a socket can bind to it."""
    with socket.socket(target.family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(target._replace(port=0).sockaddr)
        except OSError:
            return False
    return True
