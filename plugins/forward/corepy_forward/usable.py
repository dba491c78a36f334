"""Which of the configured upstreams this machine can ask at the moment.

An upstream that cannot be asked costs the others nothing: it is left out, with a reason, until it
can be. Two things change while a server runs: network interfaces come and go (a link-local address
is reached through one), and an address may become this server's own.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

from corepy_forward.ownaddress import own_among, skipped_own
from corepy_forward.targets import without_repeats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from corepy_forward.ownaddress import Place
    from corepy_forward.targets import Entry, Target


class Choice(NamedTuple):
    """The upstreams to use, and why others are left out."""

    targets: list[Target]
    problems: list[str]


def choose(entries: Iterable[Entry], own: Sequence[Place]) -> Choice:
    """Return the upstreams that can be asked now; `own` are the addresses that the block listens
    on.

    Where none of an entry's upstreams can be used, those that it had before stay in use.
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


def _usable(entry: Entry, own: Sequence[Place], problems: list[str]) -> Iterator[Target]:
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
    """Return the index of the network interface that `zone` names, or is the number of, and 0 for
    no zone; raises `ValueError` if this machine has no such interface.
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
