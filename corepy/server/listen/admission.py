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
    ) -> Denials | None:
        """Return the denied queries of a batch, None if there are none.

        `peer_of` returns the address in a slot.
        """
        denials: Denials | None = None
        for gate in gates:
            over = self._over_limit(gate, clients, now)
            if over:
                denials = {} if denials is None else denials
                self._deny(gate, over, peer_of, denials)
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
            over = self._over_limit(gate, [clients[slot] for slot in asked], now)
            self._deny(gate, [asked[index] for index in over], peer_of, denials)
        return denials

    def of_hit(self, entry: CachedReply, peer: object, now: float) -> Denial | None:
        """Return what the client of one query gets, None if the packet cache may answer it."""
        denials = self.of_batch(entry.gates, (client_number(peer),), lambda _: peer, now)
        return None if denials is None else denials.get(0)

    def _over_limit(self, gate: Gate, clients: Sequence[int], now: float) -> Sequence[int]:
        try:
            return gate.over_limit(clients, now)
        except BaseException as error:  # the gate may be that of a third party
            report_background(error, "a gate failed")
            return ()

    def _deny(
        self,
        gate: Gate,
        slots: Iterable[int],
        peer_of: Callable[[int], object],
        denials: Denials,
    ) -> None:
        """Add what the clients in `slots`, which are over the limit of `gate`, get."""
        try:
            for slot in slots:
                peer = peer_of(slot)
                if slot not in denials and not is_own(host_port(peer)):
                    denial = gate.deny(peer, self._server)
                    if denial is not None:
                        denials[slot] = denial
        except BaseException as error:
            report_background(error, "a gate failed")
