"""`Listener`: what a server does with one listening socket, whatever the transport.

Each transport (`corepy.server.listen.transport`) has a subclass for each of its sockets. The server
calls only the methods here. A listener reads queries from its socket, passes each to its
`pipeline`, and sends the reply.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from corepy.dns import RequestContext
from corepy.net.sockets import address_of, family_of
from corepy.plugin import Timeouts
from corepy.server.listen.pipeline import QueryPipeline
from corepy.server.traffic.traffic import Traffic

if TYPE_CHECKING:
    import socket

    from corepy.net.datagrams import Datagrams
    from corepy.plugin import ListenerConfig
    from corepy.server.listen.packet_cache import MemoryPool
    from corepy.server.listen.router import Router
    from corepy.server.listen.waiting_query import WaitingQuery


LONGEST_IDLE: Final = 65535
"""The longest idle timeout that a reply can state, in tenths of a second (RFC 7828 section 3.1)."""


class ListenerContext(NamedTuple):
    """What a listener gets from the server besides its socket."""

    label: str
    """The address of the server in requests, logs and metrics, such as "dns://:53"."""

    batch: Datagrams
    """Receives and sends datagrams in batches; shared by all listeners of the process."""

    memory_pool: MemoryPool
    """The memory of the packet caches; shared by all listeners of the process."""

    wildcard: bool
    """Whether the socket is bound to all addresses of the host."""

    traffic: Traffic | None = None
    """Counts the queries of the process; None for a listener on its own."""


class Listener(abc.ABC):
    """Answers the queries at one listening socket."""

    network: ClassVar[str]
    """The protocol of the socket: "udp" or "tcp"."""

    protocol: ClassVar[str]
    """The protocol of the queries in requests: "udp", "tcp", "tls" and so on.

    Replies are truncated to the client's size only for "udp".
    """

    takes_series: ClassVar[bool] = False
    """Whether the listener sends replies that consist of several messages.

    Its `ChainRunner` then delivers them as replies whose `series` is not None
    (`corepy.server.listen.series_sender`).
    """

    is_checkable: ClassVar[bool] = False
    """Whether `check` is implemented. Other listeners are left out of the self-check."""

    pads_replies: ClassVar[bool] = False
    """Whether replies to queries with padding are padded (`RequestContext.pads_replies`)."""

    states_idle_timeout: ClassVar[bool] = False
    """Whether replies state the idle timeout to clients that ask for it (RFC 7828)."""

    asks_gates: ClassVar[bool] = False
    """Whether the listener asks the gates of its router before it calls `pipeline.begin`."""

    def __init__(self, sock: socket.socket, context: ListenerContext) -> None:
        """Answer at the non-blocking `sock` after `swap` and `start`."""
        self.sock = sock
        unrouted = RequestContext(
            self.protocol,
            self.network,
            context.label,
            family=family_of(address_of(sock).host),
            takes_series=self.takes_series,
            pads_replies=self.pads_replies,
        )
        self.traffic = context.traffic or Traffic()
        self.pipeline = QueryPipeline(
            unrouted, context.memory_pool, self.traffic, asks_gates=self.asks_gates
        )

    @property
    def label(self) -> str:
        """The address of the server in logs and metrics."""
        return self.pipeline.label

    def swap(self, router: Router, config: ListenerConfig) -> None:
        """Use `router` and `config` from the next query on; called before `start`."""
        if self.states_idle_timeout:
            self.pipeline.idle_timeout = min(round(config.get(Timeouts).idle * 10), LONGEST_IDLE)
        self.pipeline.swap(router, config)

    def forget(self) -> None:
        """Empty the packet cache."""
        self.pipeline.packets.clear()

    @abc.abstractmethod
    def start(self) -> None:
        """Start answering, also after `pause`."""

    @abc.abstractmethod
    def pause(self) -> None:
        """Read no new queries or connections; another process reads the socket from now on."""

    @abc.abstractmethod
    def waiting(self) -> set[WaitingQuery]:
        """Return the queries that have no answer yet."""

    @abc.abstractmethod
    def stop(self, *, leave_queue: bool = False) -> None:
        """Answer what is in the queue of the socket, and read nothing new.

        With `leave_queue` the queue is left to the process that continues with the socket.
        """

    @property
    def is_drained(self) -> bool:
        """Whether a stopped listener can be closed without cutting off a client."""
        return True

    @abc.abstractmethod
    def close(self) -> None:
        """Cancel the pending queries, send the replies that are ready, and close the socket."""

    def abort(self) -> None:  # noqa: B027 only connections outlive `close`
        """Close at once what `close` left open for clients that have not read their replies."""

    def status(self) -> dict[str, Any]:
        """Return the state of the listener for an operator, as plain data: numbers are added up.

        A server may have several listeners with the same address and protocol, one per process.
        """
        return {
            "server": self.label,
            "protocol": self.protocol,
            "connections": None,
            "waiting": len(self.waiting()),
            "packet_cache_entries": len(self.pipeline.packets.entries),
        }

    async def check(self, address: tuple[str | int, ...]) -> bool:
        """Send a query to this listener at `address`, as a client; return whether it answers.

        May raise OSError. The caller sets a timeout. Connections are marked by
        `corepy.net.own_connections`.
        """
        raise NotImplementedError
