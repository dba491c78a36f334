"""Loads the state of handlers from the snapshots of an earlier process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corepy.plugin import in_thread
from corepy.plugin.errors import describe
from corepy.plugin.failures import report
from corepy.plugin.log import server_logger
from corepy.server.snapshot import Clocks, InvalidSnapshot
from corepy.server.succession import Identities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corepy.server.build.generation import Generation
    from corepy.server.snapshot import Section, Snapshot
    from corepy.server.succession import Held

PREDECESSOR: Final = "the process before"
"""The place of the snapshot in memory, for messages."""


class Restorer:
    """Loads the state of handlers from several snapshots, of which the first ones come first."""

    def __init__(self, generation: Generation) -> None:
        self._identities = Identities(generation)
        self._opened: dict[object, Snapshot] = {}
        self._missing: dict[object, str] = {}

    async def open(self, place: object, read: Callable[[], Snapshot | None]) -> bool:
        """Read a snapshot, in a thread, and return whether there is one.

        Logs a warning if it is not valid.
        """
        try:
            snapshot: Snapshot | None = await in_thread(read)
            if snapshot is None:
                self._missing[place] = f"{place} does not exist"
            else:
                Clocks.now().seconds_since(snapshot.clocks)  # raises InvalidSnapshot
                self._opened[place] = snapshot
        except Exception as problem:  # none may prevent the start
            reason = problem if isinstance(problem, InvalidSnapshot) else describe(problem)
            server_logger().warning("the state of %s is ignored: %s", place, reason)
            self._missing[place] = f"{place} is ignored"
        return place in self._opened

    def identities_of(self, holders: Iterable[Held]) -> set[bytes]:
        """Return the identities of the sections that these handlers can load."""
        return {it for held in holders for it in _wanted(self._identities, held)}

    async def restore(self, held: Held) -> str:
        """Load the state of a handler; return the outcome, "" if no snapshot is for it."""
        file = held.handler.state_file
        places = [PREDECESSOR] if file is None else [PREDECESSOR, file.path]
        outcome = ""
        for place in places:
            if place in self._missing:
                outcome = f"starts empty: {self._missing[place]}"
            elif place in self._opened:
                loaded = await _load(self._identities, held, self._opened[place])
                if loaded is not None:
                    return f"continues with {loaded} from {place}"
                outcome = f"starts empty: {place} has no state of the same chain"
        return outcome


async def _load(identities: Identities, held: Held, snapshot: Snapshot) -> str | None:
    """Load the state of a handler; return its description, None if it is not in the snapshot."""
    section = _section_of(identities, held, snapshot.sections)
    if section is None:
        return None
    try:
        if section.state is None:
            raise ValueError("it is too large")
        elapsed = Clocks.now().seconds_since(snapshot.clocks)
        loading = held.handler.load_state(section.state, elapsed)
        while True:
            try:
                next(loading)
            except StopIteration as end:
                return str(end.value)
            await asyncio.sleep(0)
    except ValueError as problem:
        server_logger().warning("%s: its state is ignored: %s", held.title, problem)
    except Exception as error:  # plugin code
        report(held.directive, "hook", "load_state failed", error)
    return None


def _section_of(identities: Identities, held: Held, sections: list[Section]) -> Section | None:
    """Remove the section for a handler from `sections`, and return it."""
    wanted = _wanted(identities, held)
    for index, section in enumerate(sections):
        if section.identity in wanted:
            return sections.pop(index)
    return None


def _wanted(identities: Identities, held: Held) -> list[bytes]:
    """Return the identities of the sections that are for a handler."""
    found = (identities.of(held, with_lookups=each) for each in (False, True))
    return [it for it in found if it is not None]
