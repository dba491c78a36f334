"""The policies for the order of a section's records."""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Callable, Sequence
from struct import unpack
from typing import Any, NamedTuple

from corepy.dns import constants as c
from corepy_loadbalance.records import ADDRESSES, Record


class Sorted(NamedTuple):
    """The records of a section by kind."""

    aliases: list[Record]
    addresses: list[Record]
    exchanges: list[Record]
    rest: list[Record]


def by_kind(records: Sequence[Record]) -> Sorted:
    """Group records by kind; within a kind the order does not change."""
    kinds = Sorted([], [], [], [])
    for record in records:
        if record.rtype in ADDRESSES:
            kinds.addresses.append(record)
        elif record.rtype == c.TYPE_CNAME:
            kinds.aliases.append(record)
        elif record.rtype == c.TYPE_MX:
            kinds.exchanges.append(record)
        else:
            kinds.rest.append(record)
    return kinds


def round_robin(records: Sequence[Record]) -> list[Record]:
    """Put aliases first, and shuffle addresses and mail exchanges, each among themselves."""
    kinds = by_kind(records)
    shuffle(kinds.addresses)
    shuffle(kinds.exchanges)
    return [*kinds.aliases, *kinds.rest, *kinds.addresses, *kinds.exchanges]


def shuffle(records: list[Any]) -> None:
    """Shuffle in place; the probabilities of orders differ by less than 1 in 10,000."""
    count = len(records)
    if count < 2:
        return
    numbers = unpack(f"={count}I", os.urandom(4 * count))
    for place in range(count - 1):
        other = place + numbers[place] % (count - place)
        records[place], records[other] = records[other], records[place]


def weighted(records: Sequence[Record], weight: Callable[[bytes, bytes], int]) -> Sequence[Record]:
    """Put aliases first, and a random address, chosen by weight, before the other addresses.

    `weight` returns the weight of an address, by owner and rdata.
    """
    kinds = by_kind(records)
    addresses = kinds.addresses
    if not addresses:
        return records
    weights = [weight(record.owner, record.rdata) for record in addresses]
    number = secrets.randbelow(sum(weights))
    top = 0
    while number >= weights[top]:
        number -= weights[top]
        top += 1
    addresses[0], addresses[top] = addresses[top], addresses[0]
    return [*kinds.aliases, *kinds.rest, *addresses, *kinds.exchanges]


class Preference:
    """Puts addresses in some networks before the others, in the order of the networks."""

    def __init__(self, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> None:
        self.networks = tuple(networks)
        self._networks = [
            (each.max_prefixlen // 8, int(each.netmask), int(each.network_address))
            for each in networks
        ]

    def order(self, records: Sequence[Record]) -> list[Record]:
        """Put aliases first, then addresses, the preferred ones on top."""
        kinds = by_kind(records)
        kinds.addresses.sort(key=self._rank)
        return [*kinds.aliases, *kinds.addresses, *kinds.exchanges, *kinds.rest]

    def _rank(self, record: Record) -> int:
        rdata = record.rdata
        address = int.from_bytes(rdata, "big")
        for rank, (size, mask, network) in enumerate(self._networks):
            if len(rdata) == size and address & mask == network:
                return rank
        return len(self._networks)
