"""Asks the gates of server blocks which datagrams are processed (`corepy.plugin.gates`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corepy.dns.address import host_port
from corepy.net.connection_limit import client_number
from corepy.net.own_connections import is_own
from corepy.plugin import Denial
from corepy.server.contain.failure_report import report_background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from corepy.plugin import Gate
    from corepy.server.listen.packet_cache import CachedReply

Denials = dict[int, Denial]
"""What the clients of denied queries get, by slots of a batch."""


class Admission:
    """Asks gates on behalf of one listener. A gate that raises an exception admits the query."""

    def __init__(self, server: str) -> None:
        """`server` is the name of the listener in metrics."""
        self._server = server

    def of_batch(
        self,
        gates: Iterable[Gate],
        clients: Sequence[int],
        peer_of: Callable[[int], object],
        now: float,
    ) -> Denials:
        """Return the denied queries of a batch; `peer_of` returns the address in a slot."""
        denials: Denials = {}
        for gate in gates:
            self._ask(gate, clients, range(len(clients)), peer_of, now, denials)
        return denials

    def of_hits(
        self,
        entries: Sequence[CachedReply],
        clients: Sequence[int],
        peer_of: Callable[[int], object],
        now: float,
    ) -> Denials:
        """Return the denied queries of a batch that the packet cache could answer."""
        slots: dict[Gate, list[int]] = {}
        for slot, entry in enumerate(entries):
            for gate in entry.gates:
                slots.setdefault(gate, []).append(slot)
        denials: Denials = {}
        for gate, asked in slots.items():
            self._ask(gate, [clients[slot] for slot in asked], asked, peer_of, now, denials)
        return denials

    def of_hit(self, entry: CachedReply, peer: object, now: float) -> Denial | None:
        """Return what the client of one query gets, None if the packet cache may answer it."""
        denials: Denials = {}
        client = client_number(peer)
        for gate in entry.gates:
            self._ask(gate, (client,), (0,), lambda _: peer, now, denials)
        return denials.get(0)

    def _ask(
        self,
        gate: Gate,
        clients: Sequence[int],
        slots: Sequence[int],
        peer_of: Callable[[int], object],
        now: float,
        denials: Denials,
    ) -> None:
        try:
            for index in gate.over_limit(clients, now):
                slot = slots[index]
                peer = peer_of(slot)
                if slot not in denials and not is_own(host_port(peer)):
                    denial = gate.deny(peer, self._server)
                    if denial is not None:
                        denials[slot] = denial
        except BaseException as error:  # the gate may be that of a third party
            report_background(error, "a gate failed")
