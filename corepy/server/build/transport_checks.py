"""Checks that the blocks of a Corefile can be served over the transports of their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.corefile import Diagnostic
from corepy.plugin import SocketCount
from corepy.plugin.errors import describe
from corepy.server.listen import transports
from corepy.server.listen.transports import TransportError

if TYPE_CHECKING:
    from corepy.corefile import ZoneAddress
    from corepy.plugin import BlockConfig
    from corepy.server.listen.endpoint import Listen


class TransportChecker:
    """Finds unserved schemes, unsuitable blocks, and sockets that two transports need.

    Sockets are opened with SO_REUSEPORT. So without this check two transports could both open a
    socket at one address, and the kernel would distribute the connections to both.
    """

    def __init__(self) -> None:
        """Start without sockets."""
        self._unserved: set[str] = set()
        self._claimed: dict[tuple[str, str, int], Listen] = {}

    def check_scheme(self, key: ZoneAddress) -> Diagnostic | None:
        """Return an error if no transport serves the scheme of `key`; called for every key."""
        try:
            transports.get(key.transport)
        except TransportError as error:
            self._unserved.add(key.transport)
            return Diagnostic(str(error), key.token)
        return None

    def check_block(self, key: ZoneAddress, config: BlockConfig) -> Diagnostic | None:
        """Return an error if the transport of `key` cannot serve a block so configured."""
        if key.transport in self._unserved:
            return None
        try:
            problem = transports.get(key.transport).find_problem(config)
        except BaseException as error:  # it may be third-party code, and call sys.exit()
            problem = f"the transport {key.transport}:// failed: {describe(error)}"
        if problem is None:
            return None
        return Diagnostic(f"cannot serve {key}: {problem}", key.token)

    def check_sockets(self, key: ZoneAddress, listen: Listen) -> Diagnostic | None:
        """Return an error if another transport uses a socket that `key` needs at `listen`."""
        if key.transport in self._unserved or not listen.port:
            return None
        for network in transports.get(key.transport).networks:
            other = self._claimed.setdefault((network, listen.host, listen.port), listen)
            if other.transport != listen.transport:
                message = f"cannot serve {key}: {other.label()} uses {network} port {listen.port}"
                return Diagnostic(message, key.token)
        return None

    def sockets(self, listen: Listen, config: BlockConfig) -> int:
        """Return the number of processes that listen at an address of a block."""
        if listen.transport in self._unserved or transports.get(listen.transport).is_shardable:
            return config.get(SocketCount).per_address
        return 1
