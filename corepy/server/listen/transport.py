"""`Transport`: how the queries of a scheme in the Corefile reach the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corepy.corefile.zones import DEFAULT_SCHEME
from corepy.plugin import Timeouts, TSIGKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.plugin import BlockConfig, ListenerConfig, ListenerSetting
    from corepy.server.listen.query_listener import Listener


def _no_problem(_config: BlockConfig) -> str | None:
    return None


def _no_listener_problem(_config: ListenerConfig) -> str | None:
    return None


@dataclass(frozen=True)
class Transport:
    """One way to serve DNS: a scheme, and a listener for each socket of an address."""

    scheme: str
    """The scheme of keys in the Corefile, such as "tls"; also in labels and names of sockets."""

    default_port: int | None
    """The port of keys without one; None for the port option of the command."""

    listeners: tuple[type[Listener], ...]
    """A listener class for each socket of an address, at most one for UDP and one for TCP.

    All sockets of an address have the same port. They are opened in this order.
    """

    is_shardable: bool = True
    """Whether several processes can serve one address, each with sockets of its own.

    False for a protocol whose packets must reach the process that has the connection: such an
    address has one socket even with *multisocket*.
    """

    find_problem: Callable[[BlockConfig], str | None] = _no_problem
    """Returns why a block cannot be served over this transport, such as a missing certificate.

    It is called when the plugins of the block have been set up.
    """

    settings: tuple[type[ListenerSetting], ...] = (Timeouts, TSIGKeys)
    """The settings that the listeners use.

    Conflicts between blocks at one listener are reported for these only.
    """

    find_listener_problem: Callable[[ListenerConfig], str | None] = _no_listener_problem
    """Returns why an address cannot be served with the merged settings of all its blocks."""

    @property
    def networks(self) -> tuple[str, ...]:
        """The protocols of the sockets of an address, "udp" or "tcp" each."""
        return tuple(listener.network for listener in self.listeners)

    @property
    def prefix(self) -> str:
        """The prefix of zones in the banner (core/dnsserver/onstartup.go: startUpZones)."""
        return "" if self.scheme == DEFAULT_SCHEME else f"{self.scheme}://"

    def protocol(self, network: str) -> str:
        """Return the protocol of queries that arrive at the socket for `network`, "udp" or "tcp".

        For a transport without such a socket, it is that of its first one.
        """
        return self._listener(network).protocol

    def takes_series(self, network: str) -> bool:
        """Return whether replies over the socket for `network` may consist of several messages."""
        return self._listener(network).takes_series

    def _listener(self, network: str) -> type[Listener]:
        listeners = {listener.network: listener for listener in self.listeners}
        return listeners.get(network, self.listeners[0])
