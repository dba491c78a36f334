"""Asks the gates of server blocks which datagrams are processed (`corepy.plugin.gates`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns.address import host_port
from corepy.net.connection_limit import client_number
from corepy.net.own_connections import is_own, may_be_own
from corepy.plugin import Denial
from corepy.server.contain.failure_report import report_background
from corepy.server.listen.status_query import is_probe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corepy.net.datagrams import Datagrams
    from corepy.plugin import Gate
    from corepy.server.listen.packet_cache import CachedReply

Denials = dict[int, Denial]
"""What the clients of denied queries get, by slots of a batch."""


class Admission:
    """Asks gates on behalf of one listener.

    A gate that raises an exception admits the query. The probes of the supervisor and the queries
    of the self-check are never denied: without a reply, a worker is taken for dead.
    """

    def __init__(self, server: str) -> None:
        """`server` is the name of the listener in metrics."""
        self._server = server

    def of_batch(
        self, gates: Iterable[Gate], batch: Datagrams, count: int, now: float
    ) -> Denials | None:
        """Return the denied queries of a batch of `count` datagrams, None if there are none."""
        clients = batch.clients(count)
        denials: Denials | None = None
        for gate in gates:
            over = self._over_limit(gate, clients, now)
            if over:
                denials = {} if denials is None else denials
                for slot in over:
                    if not is_probe(batch.payload(slot)):
                        self._deny(gate, slot, batch.address(slot), denials)
        return denials

    def of_hits(
        self, entries: Sequence[CachedReply], batch: Datagrams, now: float
    ) -> Denials | None:
        """Return the denied queries of a batch that the packet cache could answer."""
        slots: dict[Gate, list[int]] = {}
        for slot, entry in enumerate(entries):
            for gate in entry.gates:
                slots.setdefault(gate, []).append(slot)
        if not slots:
            return None
        clients = batch.clients(len(entries))
        denials: Denials = {}
        for gate, asked in slots.items():
            for index in self._over_limit(gate, [clients[slot] for slot in asked], now):
                self._deny(gate, asked[index], batch.address(asked[index]), denials)
        return denials

    def of_hit(self, entry: CachedReply, peer: object, now: float) -> Denial | None:
        """Return what the client of one query gets, None if the packet cache may answer it."""
        denials: Denials = {}
        for gate in entry.gates:
            if self._over_limit(gate, (client_number(peer),), now):
                self._deny(gate, 0, peer, denials)
        return denials.get(0)

    def _over_limit(self, gate: Gate, clients: Sequence[int], now: float) -> Sequence[int]:
        try:
            return gate.over_limit(clients, now)
        except BaseException as error:  # the gate may be that of a third party
            report_background(error, "a gate failed")
            return ()

    def _deny(self, gate: Gate, slot: int, peer: object, denials: Denials) -> None:
        """Add what the client in a slot gets, which is over the limit of `gate`."""
        if slot in denials or (may_be_own() and is_own(host_port(peer))):
            return
        try:
            denial = gate.deny(peer, self._server)
        except BaseException as error:
            report_background(error, "a gate failed")
            return
        if denial is not None:
            denials[slot] = denial


def are_all_dropped(denials: Denials, count: int) -> bool:
    """Return whether no query of a batch of `count` datagrams gets a reply, as in a flood."""
    return len(denials) == count and all(it is Denial.DROP for it in denials.values())
