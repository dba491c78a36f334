"""The settings of one `nodecache` directive, as documented in the README."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from corepy_nodecache.model import Address, DesiredState, Mode, Style, UntrackedEndpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_IP = "192.168.10.100"
"""The address that upstream uses without *bind* (contentful-labs/coredns-nodecache, setup.go)."""


class Settings(NamedTuple):
    """The options of one server block."""

    ips: tuple[str, ...] = (DEFAULT_IP,)
    ports: tuple[int, ...] = (53,)
    health: tuple[tuple[str, int], ...] = ()
    interface: str = "nodecache"
    iptables: Mode = "auto"
    interval: float = 60.0
    device: bool = True
    skip_teardown: bool = False
    best_effort: bool = False
    """Whether to serve even if the host cannot be set up."""
    adopt_node_cache: bool = False
    """Whether the rules are those of the program node-cache, and its interface becomes ours."""

    metrics: str = ""
    """A further address of the metrics (host:port); empty for none."""

    @property
    def manages(self) -> bool:
        """Whether interface or rules are managed."""
        return self.device or self.iptables != "off"

    def addresses(self) -> frozenset[Address]:
        """Return the addresses that the interface must have."""
        return frozenset(Address(self.interface, ip) for ip in self.ips if self.device)

    def endpoints(self) -> frozenset[UntrackedEndpoint]:
        """Return the sockets whose traffic must not be tracked."""
        if self.iptables == "off":
            return frozenset()
        style: Style = "node-cache" if self.adopt_node_cache else "corepy"
        dns = {UntrackedEndpoint("dns", ip, port, style) for ip in self.ips for port in self.ports}
        return frozenset(
            dns | {UntrackedEndpoint("health", ip, port, style) for ip, port in self.health}
        )

    def adopted(self) -> frozenset[str]:
        """Return the devices that become corepy's if the program node-cache has left them."""
        return frozenset({self.interface} if self.device and self.adopt_node_cache else ())

    def want(self) -> DesiredState:
        """Return the desired addresses and endpoints."""
        return DesiredState(self.addresses(), self.endpoints(), self.adopted())


def union(wants: Sequence[DesiredState]) -> DesiredState:
    """Return the union of several desired states."""
    return DesiredState(
        frozenset[Address]().union(*(want.addresses for want in wants)),
        frozenset[UntrackedEndpoint]().union(*(want.endpoints for want in wants)),
        frozenset[str]().union(*(want.adopted for want in wants)),
    )
