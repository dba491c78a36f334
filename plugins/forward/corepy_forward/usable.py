"""Selects the configured upstreams that this machine can currently use.

An unusable upstream does not affect the others: it is skipped, with a reason, until it is usable.
Two conditions change while a server runs: network interfaces, which link-local addresses need,
appear and disappear, and an address may become this server's own.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

from corepy_forward.ownaddress import own_among, skipped_own
from corepy_forward.targets import without_repeats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corepy_forward.ownaddress import Place
    from corepy_forward.targets import Target, ToAddress


class Choice(NamedTuple):
    """The upstreams to use, and the reasons why others are skipped."""

    targets: list[Target]
    problems: list[str]


def choose(entries: Iterable[ToAddress], own: Sequence[Place]) -> Choice:
    """Return the currently usable upstreams; `own` are the addresses that the block listens on.

    If none of an entry's upstreams is usable, those used last stay in use.
    """
    chosen: list[Target] = []
    problems: list[str] = []
    for entry in entries:
        problems += entry.problems
        usable = list(_usable(entry, own, problems))
        if usable:
            entry.last = usable
        elif entry.last and entry.targets:
            problems.append(f"{entry.text}: its last name servers stay in use")
        chosen += entry.last
    return Choice(without_repeats(chosen), problems)


def _usable(entry: ToAddress, own: Sequence[Place], problems: list[str]) -> Iterator[Target]:
    for target in entry.targets:
        place = entry.places.get(target, entry.place)
        try:
            found = target._replace(interface=interface_index(target.scope))
        except ValueError as error:
            problems.append(f"{place}: {target.address} is skipped until it can be used: {error}")
            continue
        if (entry.file or entry.hostname) and own_among([found], own):
            problems.append(skipped_own(found, place))
            continue
        yield found


def interface_index(zone: str) -> int:
    """Return the index of the network interface whose name or number is `zone`; 0 for "".

    Raises `ValueError` if this machine has no such interface.
    """
    if not zone:
        return 0
    try:
        if zone.isascii() and zone.isdigit():
            index = int(zone)
            socket.if_indextoname(index)
            return index
        return socket.if_nametoindex(zone)
    except (OSError, OverflowError, ValueError):
        raise ValueError(f"there is no network interface {zone!r}") from None
