"""Passes queries to the clients of the command `tail`: live, filtered, and bounded.

A watcher has a filter, and a buffer that its client empties with each poll. A client that polls
too slowly misses events, and one that stops polling is removed; neither delays a query. While there
is a watcher, the samplers select many more queries, and of these each one is compared with the
filters. Both losses are counted: queries that were not selected, and events without room.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.corefile import suggest
from corepy.dns import constants as c
from corepy.dns.address import host_port
from corepy.dns.names import InvalidName, from_text, is_subdomain, to_text
from corepy.net.networks import read_network
from corepy.plugin.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Reply, RequestContext
    from corepy.net.networks import Network

MOST_WATCHERS: Final = 16
BUFFER: Final = 2000
"""Events that a watcher's client may be behind."""

MOST_EVENTS: Final = 500
"""Events in one response."""

LONGEST_WAIT: Final = 10.0
PATIENCE: Final = 15.0
"""Seconds without a poll after which a watcher is removed."""

NO_REPLY: Final = -1


class Sighting(NamedTuple):
    """A query that a sampler has selected, and its reply."""

    name: bytes
    qtype: int
    qclass: int
    rcode: int
    """`NO_REPLY` if there was none."""

    seconds: float
    size: int
    context: RequestContext
    address: object
    """The socket address of the client."""

    reply: Reply | None
    """None for a reply of the packet cache."""

    @property
    def source(self) -> str:
        """The plugin that has made the reply; a reply that names none is that of the first one."""
        if self.reply is None:
            return "packet cache"
        if self.reply.answered_by is None and self.context.route is not None:
            return str(self.context.route.entry.name)
        return str(self.reply.answered_by or "")

    def event(self) -> dict[str, Any]:
        """Return the document."""
        context, reply = self.context, self.reply
        host, port = host_port(self.address)
        return {
            "time": round(time.time(), 6),  # time of day: for the reader
            "server": context.server,
            "protocol": context.protocol,
            "client": host,
            "port": port,
            "name": to_text(self.name),
            "type": c.type_name(self.qtype),
            "class": c.class_name(self.qclass),
            "rcode": None if self.rcode == NO_REPLY else c.rcode_name(self.rcode),
            "seconds": self.seconds,
            "size": self.size,
            "source": self.source,
            "zone": context.zone,
            "error": None if reply is None or reply.error is None else str(reply.error),
            "pid": os.getpid(),
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects queries; a value of None selects all."""

    name: bytes | None = None
    client: Network | None = None
    qtype: int | None = None
    rcode: int | None = None
    slow: float = 0.0

    @classmethod
    def of(cls, argument: Any) -> Filter:
        """Return the filter in a command's argument; raises `CommandError`."""
        if not isinstance(argument, dict) or not argument.keys() <= _READERS.keys():
            raise CommandError(f"a filter is an object with {', '.join(_READERS)}")
        found = {key: _read(key, value) for key, value in argument.items() if value is not None}
        return cls(**{_FIELDS.get(key, key): value for key, value in found.items()})

    def accepts(self, seen: Sighting, client: bytes) -> bool:
        """Return whether the filter selects a query from the packed address `client`."""
        if self.rcode is not None and seen.rcode != self.rcode:
            return False
        if self.qtype is not None and seen.qtype != self.qtype:
            return False
        if seen.seconds < self.slow:
            return False
        if self.name is not None and not is_subdomain(seen.name, self.name):
            return False
        return self.client is None or _is_in(client, self.client)


def _is_in(client: bytes, network: Network) -> bool:
    if len(client) * 8 != network.max_prefixlen:
        return False
    return int.from_bytes(client, "big") & int(network.netmask) == int(network.network_address)


def _read(key: str, value: Any) -> Any:
    kind = (int, float) if key == "slow" else str
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CommandError(f"{key} of a filter cannot be {value!r}")
    try:
        return _READERS[key](value)
    except (ValueError, InvalidName) as error:
        raise CommandError(f"{key} of the filter: {error}") from None


def _rcode(text: str) -> int:
    upper = text.upper()
    if upper in c.RCODES:
        return c.RCODES[upper]
    digits = upper.removeprefix("RCODE")
    if digits.isascii() and digits.isdigit() and int(digits) < 0x1000:
        return int(digits)
    near = suggest(upper, list(c.RCODES))
    raise ValueError(f"unknown rcode {text!r}" + (f": did you mean {near!r}?" if near else ""))


def _slow(value: float) -> float:
    if not 0 <= value < float("inf"):
        raise ValueError(f"{value} is not a number of seconds")
    return float(value)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "name": lambda text: from_text(text).lower(),
    "client": read_network,
    "type": c.type_number,
    "rcode": _rcode,
    "slow": _slow,
}
_FIELDS: Final = {"type": "qtype"}


@dataclass(slots=True, eq=False)
class Watcher:
    """One client of the command, and the events that it has not read."""

    filter: Filter
    argument: Any
    """The filter as the client sent it."""

    polled: float
    """Time of the last poll, on the clock of the event loop."""

    events: deque[dict[str, Any]] = field(default_factory=deque)
    seen: int = 0
    """Queries since the last poll, selected or not."""

    not_selected: int = 0
    dropped: int = 0
    """Events since the last poll for which the buffer had no room."""

    arrival: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self) -> dict[str, Any]:
        """Return the document of a poll."""
        events = [self.events.popleft() for _ in range(min(len(self.events), MOST_EVENTS))]
        found = {
            "events": events,
            "left_out": {"sampled": self.not_selected, "buffer": self.dropped},
            "seen": self.seen,
        }
        self.seen = self.not_selected = self.dropped = 0
        if not self.events:
            self.arrival.clear()
        return found


class Watchers:
    """The watchers of one process."""

    def __init__(self, on_change: Callable[[bool], None]) -> None:
        """`on_change` is called with whether there is a watcher when that changes."""
        self.active: dict[str, Watcher] = {}
        self._on_change = on_change

    def show(self, seen: Sighting, client: bytes, weight: int) -> None:
        """Offer a query from the packed address `client` that stands for `weight` queries."""
        event = None
        for watcher in self.active.values():
            watcher.seen += weight
            watcher.not_selected += weight - 1
            if not watcher.filter.accepts(seen, client):
                continue
            if len(watcher.events) >= BUFFER:
                watcher.dropped += 1
                continue
            event = event or seen.event()
            watcher.events.append(event)
            watcher.arrival.set()

    def add(self, name: str, argument: Any) -> None:
        """Add a watcher with the filter `argument`; raises `CommandError`."""
        selected = Filter.of(argument)
        if len(self.active) >= MOST_WATCHERS:
            raise CommandError(f"{MOST_WATCHERS} clients watch the queries already")
        self.active[name] = Watcher(selected, argument, asyncio.get_running_loop().time())
        if len(self.active) == 1:
            self._on_change(True)

    def remove(self, name: str) -> None:
        """Remove a watcher, if it exists."""
        watcher = self.active.pop(name, None)
        if watcher is not None:
            watcher.arrival.set()
            if not self.active:
                self._on_change(False)

    async def poll(self, name: str, wait: float) -> dict[str, Any]:
        """Return the events of a watcher, after `wait` seconds at most."""
        loop = asyncio.get_running_loop()
        watcher = self.active[name]
        watcher.polled = loop.time() + wait
        try:
            async with asyncio.timeout(wait):
                await watcher.arrival.wait()
        except TimeoutError:
            pass
        watcher.polled = loop.time()
        return watcher.take()

    def tick(self) -> None:
        """Remove the watchers that are not polled any more; to be called every few seconds."""
        now = asyncio.get_running_loop().time()
        for name, watcher in list(self.active.items()):
            if now - watcher.polled > PATIENCE:
                self.remove(name)
