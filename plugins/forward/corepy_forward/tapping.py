"""Passes the messages to and from upstreams to the taps of the server block, such as *dnstap*.

A block without taps uses none of these classes: they replace the ones of a pool that are passed by,
so the usual way of a query contains no check for taps. Each message is tapped that is sent for a
client's query, also a repeated one, and each reply that is accepted. Health checks are not tapped,
as in CoreDNS (plugin/forward/dnstap.go).
"""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING, Any, ClassVar, Final

from corepy.plugin.failures import report
from corepy.plugin.protocols import TapKind, TappedMessage
from corepy_forward.exchange import Exchange
from corepy_forward.limits import Places
from corepy_forward.observing import PROTOCOLS
from corepy_forward.pool import Pool
from corepy_forward.streams import Stream, StreamPool
from corepy_forward.udp import UDPPool
from corepy_forward.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corepy.dns import Request
    from corepy.plugin.protocols import MessageTap
    from corepy_forward.attempt import Attempt
    from corepy_forward.settings import Settings
    from corepy_forward.targets import Target

_NO_IDENT: Final = b"\0\0"


class TappedPlaces(Places):
    """The places of waiting queries; remembers the last query, the one that is asked now."""

    __slots__ = ("asking",)

    def take(self, request: Request) -> bool:
        """Take a place for `request`; return whether the limits permit it."""
        self.asking = request
        return super().take(request)


class TappedExchange(Exchange):
    """An exchange that knows the query for which it was started."""

    __slots__ = ("request",)

    def __init__(
        self, pool: TappedPool, question: bytes, body: bytes, for_tcp: bool, now: float
    ) -> None:
        super().__init__(pool, question, body, for_tcp, now)
        places = pool.places
        assert isinstance(places, TappedPlaces)
        self.request: Request = places.asking


class TappedUpstream(Upstream):
    """An upstream whose messages are tapped."""

    taps: Sequence[MessageTap] = ()

    def _open_udp(self) -> None:
        target, settings = self.target, self.settings
        self._udp = _TappedUDPPool(
            self, target.sockaddr, target.family, settings.source_address, settings.expire
        )

    def _open_streams(self) -> StreamPool:
        return _TappedStreamPool(self, self._stream_type())

    def arrived(self, attempt: Attempt, wire: bytes, now: float) -> None:
        """Tap a reply before the clients get it."""
        received = _wall_clock(now)
        self._tap(TapKind.FORWARDER_RESPONSE, attempt, wire, received, _wall_clock(attempt.sent))
        super().arrived(attempt, wire, now)

    def tap_query(self, attempt: Attempt) -> None:
        """Tap a query that has been sent."""
        ident = attempt.ident if len(attempt.ident) == 2 else _NO_IDENT  # HTTPS numbers streams
        now = time()  # time of day: part of the tapped message
        self._tap(TapKind.FORWARDER_QUERY, attempt, ident + attempt.body, now)

    def _tap(
        self,
        kind: TapKind,
        attempt: Attempt,
        wire: bytes,
        at: float,
        asked: float | None = None,
    ) -> None:
        exchange = attempt.owner
        if not isinstance(exchange, TappedExchange):
            return  # a health check
        address = self.target.connect_host, self.target.port
        protocol = PROTOCOLS[attempt.proto]
        message = TappedMessage(kind, wire, address, protocol, at, _local(attempt), asked)
        for tap in self.taps:
            try:
                tap.tap_message(exchange.request, message)
            except Exception as error:  # another plugin's code: the query continues untapped
                name = getattr(tap, "name", type(tap).__name__)
                report(name, "exception", "failed to tap a message", error)


class _TappedUDPPool(UDPPool):
    def send(self, attempt: Attempt) -> None:
        super().send(attempt)
        attempt.upstream.tap_query(attempt)  # type: ignore[attr-defined]  # a TappedUpstream


class _TappedStreamPool(StreamPool):
    def send(self, attempt: Attempt) -> None:
        super().send(attempt)
        stream: Any = attempt.link
        if stream is not None and stream.pending.get(attempt.ident) is attempt:
            attempt.upstream.tap_query(attempt)


class TappedPool(Pool):
    """A pool whose messages are tapped."""

    exchange_type: ClassVar[type[Exchange]] = TappedExchange
    upstream_type: ClassVar[type[Upstream]] = TappedUpstream

    def __init__(
        self, settings: Settings, targets: Sequence[Target], taps: Sequence[MessageTap]
    ) -> None:
        """Take the settings, the targets, and the handlers that tap the messages."""
        self._taps = taps
        super().__init__(settings, targets)
        self.places = TappedPlaces(self.places.most)

    def attribute(self, request: Request) -> None:
        """Report the messages of the next exchange as those for `request`."""
        places = self.places
        assert isinstance(places, TappedPlaces)
        places.asking = request

    def _open(self, target: Target) -> Upstream:
        upstream = super()._open(target)
        assert isinstance(upstream, TappedUpstream)
        upstream.taps = self._taps
        return upstream


def _wall_clock(moment: float) -> float:
    """Return the seconds since the epoch of a monotonic time."""
    # time of day: the collector compares it with that of others
    return time() - (monotonic() - moment)


def _local(attempt: Attempt) -> tuple[str, int] | None:
    """Return the address of this server's socket; None before it is connected."""
    link: Any = attempt.link
    if isinstance(link, Stream):
        return link.local_name
    host, port, *_ = link.sock.getsockname()
    return host, port
