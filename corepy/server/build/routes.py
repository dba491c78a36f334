"""Makes the routes of the server blocks: for each listen address, the blocks of each zone.

The packet cache is turned on or off here, for each block and each address.
"""

from __future__ import annotations

import ipaddress
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from corepy.corefile import Diagnostic
from corepy.dns import names
from corepy.net.sockets import WILDCARDS, family_of
from corepy.plugin import (
    BlockFilters,
    Cacheability,
    GatingHandler,
    ListenHosts,
    MetadataCollector,
    ProxyPolicy,
    QueryTimeout,
)
from corepy.server.listen.endpoint import Listen
from corepy.server.listen.router import Router, ZoneRoute

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from corepy.corefile import ServerBlock, ZoneAddress
    from corepy.plugin import BlockConfig, Gate, Handler, ObservingHandler


def cacheability_at(host: str, declared: Cacheability) -> Cacheability:
    """Return UNSAFE or SAFE for a cacheability that depends on the socket, else the same one.

    `host` is the address of the socket, "" for all addresses.
    """
    if declared is Cacheability.DEPENDS_ON_FAMILY:
        return Cacheability.SAFE if family_of(host) else Cacheability.UNSAFE
    if declared is Cacheability.DEPENDS_ON_LOCAL_ADDRESS:
        return Cacheability.UNSAFE if host in WILDCARDS else Cacheability.SAFE
    return declared


def packet_cache_obstacle(handlers: Sequence[Handler], host: str) -> str | None:
    """Return why the packet cache must not store replies of a chain; None if it may.

    The reason is the name of a handler that is UNSAFE at `host` above one that SETS_DEADLINE, or ""
    for a chain without the latter.
    """
    unsafe: str | None = None
    reason: str | None = ""
    for handler in handlers:
        if cacheability_at(host, handler.cacheability) is Cacheability.UNSAFE:
            unsafe = unsafe or handler.name
        elif handler.cacheability is Cacheability.SETS_DEADLINE:
            if unsafe is not None:
                return unsafe
            reason = None
    return reason


def gates_of(handlers: Sequence[Handler]) -> tuple[Gate, ...]:
    """Return the gates that may be asked before a query is parsed, in chain order.

    A handler below one that is UNSAFE is left out: the latter may decide who the client is.
    """
    gates: list[Gate] = []
    for handler in handlers:
        if isinstance(handler, GatingHandler):
            gates.append(handler.gate)
        elif handler.cacheability is Cacheability.UNSAFE:
            break
    return tuple(gates)


def count_safe_filters(filters: BlockFilters, host: str) -> int:
    """Return the number of filters before the first one that is UNSAFE at `host`."""
    safe = itertools.takewhile(
        lambda it: cacheability_at(host, it.cacheability) is not Cacheability.UNSAFE,
        filters.filters,
    )
    return len(list(safe))


def normal_host(host: str) -> str:
    """Return an address in canonical form, so that two spellings mean one socket."""
    address, percent, zone = host.partition("%")
    return f"{ipaddress.ip_address(address)}{percent}{zone}" if host else ""


def relayed(config: BlockConfig) -> Iterator[Listen]:
    """Yield the addresses of a block where PROXY headers may state the client."""
    if config.get(ProxyPolicy).uses_headers:
        for key in config.keys:
            for host in config.get(ListenHosts).hosts:
                yield Listen(key.transport, normal_host(host), key.port)


def position_of(block: ServerBlock) -> str:
    """Return the position of a block in the configuration, such as "Corefile:3"."""
    first = block.keys[0]
    return f"{first.file}:{first.line}"


class RouteTable:
    """The routes of all server blocks, by listen address and zone, in the order of the Corefile."""

    def __init__(self, relayed: Container[Listen] = ()) -> None:
        """Start without routes; at the addresses `relayed`, a proxy may state any client."""
        self._relayed = relayed
        self._zones: dict[Listen, dict[bytes, list[ZoneRoute]]] = {}

    def add(self, listen: Listen, key: ZoneAddress, block: RoutedBlock) -> Diagnostic | None:
        """Add a block for the zone of `key`; return a warning if no query can reach it."""
        zones = self._zones.setdefault(listen, {})
        blocks = zones.setdefault(names.from_text(key.zone), [])
        final = next((it for it in blocks if not it.filters.filters), None)
        blocks.append(block.route(key.zone, "" if listen in self._relayed else listen.host))
        if final is None:
            return None
        return Diagnostic(
            f"no query reaches this block for {key.zone}: the one at {final.position} answers all",
            key.token,
            "a block without a filter is the last of its zone; move it below this one",
            "warning",
        )

    def routers(
        self,
        any_class: set[Listen],
        dropped: Callable[..., object] | None,
        echoed_options: frozenset[int],
    ) -> dict[Listen, Router]:
        """Return a router for each address, one with filters only where a block has one."""
        return {
            listen: _router(
                zones,
                any_class=listen in any_class,
                dropped=dropped,
                echoed_options=echoed_options,
            )
            for listen, zones in self._zones.items()
        }


def _router(zones: dict[bytes, list[ZoneRoute]], **options: Any) -> Router:
    if any(route.filters.filters for blocks in zones.values() for route in blocks):
        from corepy.server.listen.filtering_router import FilteringRouter

        return FilteringRouter(zones, **options)
    return Router({wire: blocks[0] for wire, blocks in zones.items()}, **options)


class RoutedBlock:
    """A server block whose chain is complete, from which its routes are made."""

    def __init__(
        self,
        parsed: ServerBlock,
        config: BlockConfig,
        handlers: Sequence[Handler],
        entry: tuple[Handler | None, tuple[ObservingHandler, ...]],
    ) -> None:
        """`handlers` are linked; `entry` is the first one that queries enter, and those above."""
        self._handlers = handlers
        self._route = ZoneRoute(
            "",
            handlers[0] if handlers else None,
            entry=entry[0],
            observing_handlers=entry[1],
            position=position_of(parsed),
            directives=tuple(parsed.directives),
            has_hit_listeners=any(handler.listens_to_hits for handler in handlers),
            gates=gates_of(handlers),
            has_hit_gates=any(handler.gates_hits for handler in handlers),
            time_limit=config.get(QueryTimeout).seconds,
            filters=config.get(BlockFilters),
            question_filter_count=config.get(BlockFilters).question_filter_count,
            collect_metadata=config.get(MetadataCollector).collect,
            depends_on_client=any(handler.denies_clients for handler in handlers),
        )

    def route(self, zone: str, host: str) -> ZoneRoute:
        """Return the route for one zone of the block at the listen address `host`.

        It is "" for all addresses, and where the clients may be of both families.
        """
        return replace(
            self._route,
            zone=zone,
            obstacle=packet_cache_obstacle(self._handlers, host),
            safe_filter_count=count_safe_filters(self._route.filters, host),
        )
