"""Keeps the state of handlers for the next process of this server.

There are two places for snapshots. Files that the handlers name survive a restart of the machine;
they are written every few minutes and at the stop. A file in memory survives a crash of this
process and its upgrade, if a service manager keeps it; it is written every few seconds, and
followers start from it. Each place has a snapshot of all its handlers.

The event loop collects the state in portions; threads do what a disk may delay. In a server of
several processes, the leader does this.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.plugin import in_thread
from corepy.plugin.errors import describe
from corepy.plugin.failures import report
from corepy.plugin.log import server_logger
from corepy.server import state_files, state_memory
from corepy.server.contain.failure_report import report_background
from corepy.server.restoring import PREDECESSOR, Restorer
from corepy.server.schedule import Schedule
from corepy.server.snapshot import (
    SECTION_OVERHEAD,
    Clocks,
    Selection,
    header,
    section_header,
)
from corepy.server.succession import Held, Identities, held_by

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from corepy.net.inherited import Manager
    from corepy.plugin import ProcessGroup
    from corepy.server.build.generation import Generation

INTERVAL: Final = 120.0
"""Seconds between two writes of the files."""

MEMORY_INTERVAL: Final = 10.0
"""Minimum seconds between two writes of the file in memory."""

BYTES_PER_SECOND: Final = 400_000
"""A larger file in memory is written less often, so that this costs less than 2 % of a CPU."""

MEMORY_SIZE: Final = 16 << 20
"""Limit of the file in memory, in bytes."""

STOP_TIMEOUT: Final = 5.0
"""Seconds that the stop of the server waits for the last write."""

LARGEST_STATE: Final = 64 << 20
"""Bytes of the states in a file that are read although the handlers write less now."""


class Snapshots:
    """The snapshots of one server, which outlive its generations."""

    def __init__(
        self, manager: Manager, process_group: ProcessGroup, inherited: int | None = None
    ) -> None:
        """Pass files in memory to `manager`; `inherited` is that of the process before."""
        self._manager = manager
        self._process_group = process_group
        self.descriptor = inherited
        """The last file in memory."""
        self._earlier: int | None = None
        """The file before it, while a manager that is stopped may keep that one."""
        self._generation: Generation | None = None
        self._files = Schedule("writing the state to files", self._write_files)
        self._memory = Schedule("writing the state to memory", self._write_memory)
        self._writing = asyncio.Lock()
        self._discarded = 0
        self._paths: set[Path] = set()
        """The files of all generations: one that is not written any more may be read again."""
        self._problems: dict[object, str] = {}

    # Reading

    def inherit(self, descriptor: int) -> None:
        """Restore the state from this file in memory."""
        self._close_memory()
        self.descriptor = descriptor

    @property
    def is_revoked(self) -> bool:
        """Whether the file in memory was discarded by the process that has written it."""
        return self.descriptor is not None and state_memory.is_revoked(self.descriptor)

    async def restore(self, generation: Generation) -> list[str]:
        """Load the state of a generation that replaces none; return lines for the log.

        A file in memory is newer than any other.
        """
        lines, restorer = [], Restorer(generation)
        if self.descriptor is not None:
            read = partial(state_memory.read, self.descriptor, 2 * MEMORY_SIZE)
            if not await restorer.open(PREDECESSOR, read):
                self._close_memory()
        for path, holders in _by_file(generation).items() if self._process_group.is_leader else ():
            self._paths.add(path)
            wanted = Selection(restorer.identities_of(holders), _size_limit(holders))
            await restorer.open(path, partial(state_files.read, path, wanted))
        for held in held_by(generation):
            outcome = await restorer.restore(held)
            if outcome:
                lines.append(f"{held.title} {outcome}")
        return lines

    # Writing

    def start(self, generation: Generation) -> None:
        """Write the state of `generation` from now on, instead of that of an earlier one."""
        self._generation = generation
        if not self._process_group.is_leader:
            self._close_memory()
            return
        self._paths.update(_by_file(generation))
        if _by_file(generation):
            self._files.start(INTERVAL)
        if held_by(generation) and (self._manager.keeps_sockets or self._process_group.size > 1):
            self._memory.start(MEMORY_INTERVAL)
        if self._discarded:  # perhaps while this process was starting
            for schedule, _ in self._writers():
                schedule.hurry()

    async def provide(self, generation: Generation) -> None:
        """Write a first file in memory, for the followers of `generation`."""
        if self.descriptor is None and held_by(generation):
            await self._write_to_memory(generation)

    def send_again(self) -> None:
        """Pass the file in memory to the manager, which may be a new one."""
        if self.descriptor is not None and self._manager.keep_state(self.descriptor):
            self._close_earlier()

    async def stop(self) -> None:
        """Write the last snapshots."""
        writers = self._writers()
        for schedule, _ in writers:
            await schedule.stop()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                for _, write in writers:
                    await write()
        except TimeoutError:
            server_logger().warning("the state is not kept: the disk takes too long")
        except Exception as error:  # the stop goes on
            report_background(error, "the state is not kept")
        self._close_memory()
        self._generation = None

    async def discard(self) -> None:
        """Remove all snapshots, and write new ones soon.

        Parts of the state were removed, and must not return with the next process.
        """
        self._discarded += 1
        for schedule, _ in self._writers():
            schedule.hurry()
        async with self._writing:
            if self.descriptor is not None:
                # A manager that is stopped keeps a revoked file, until it gets the next one.
                self._manager.release_state()
                self._close_memory(revoked=True)
            for path in self._paths:
                await self._attempt(path, partial(state_files.remove, path))

    def _writers(self) -> list[tuple[Schedule, Callable[[], Awaitable[float]]]]:
        pairs = (self._memory, self._write_memory), (self._files, self._write_files)
        return [pair for pair in pairs if pair[0].runs]

    async def _write_files(self) -> float:
        assert self._generation is not None
        identities = Identities(self._generation)
        async with self._writing:
            for path, holders in _by_file(self._generation).items():
                is_valid = partial(self._is_valid, self._discarded)
                parts = await _collect(identities, holders)
                await self._attempt(path, partial(state_files.write, path, parts, is_valid))
        return INTERVAL

    async def _write_memory(self) -> float:
        assert self._generation is not None
        size = await self._write_to_memory(self._generation)
        return max(MEMORY_INTERVAL, size / BYTES_PER_SECOND)

    async def _write_to_memory(self, generation: Generation) -> int:
        """Write the file in memory; return its size, 0 if there is none."""
        async with self._writing:
            discarded = self._discarded
            parts = await _collect(Identities(generation), held_by(generation), MEMORY_SIZE)
            written = state_files.with_digest(parts)
            found = await self._attempt("memory", partial(state_memory.write, written))
            if found is None:
                return 0
            if not self._is_valid(discarded):
                os.close(found)
                return 0
            before, self.descriptor = self.descriptor, found
            if self._earlier is None:
                self._earlier = before
            elif before is not None:  # the manager has never got it
                os.close(before)
            self.send_again()
            return os.fstat(found).st_size

    def _close_memory(self, *, revoked: bool = False) -> None:
        for descriptor in (self.descriptor, self._earlier) if revoked else ():
            if descriptor is not None:  # a process that has inherited it may be starting
                state_memory.revoke(descriptor)
        self._close_earlier()
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def _close_earlier(self) -> None:
        if self._earlier is not None:
            os.close(self._earlier)
            self._earlier = None

    def _is_valid(self, discarded: int) -> bool:
        """Return whether nothing was discarded since that count."""
        return discarded == self._discarded

    async def _attempt(self, place: object, change: Callable[[], int | None]) -> int | None:
        """Return the result of a change in a thread; log a problem once, and return None."""
        try:
            result: int | None = await in_thread(change)
        except Exception as error:  # such as no memory, or no further thread
            problem = (isinstance(error, OSError) and error.strerror) or describe(error)
            if self._problems.get(place) != problem:
                server_logger().warning("the state cannot be kept in %s: %s", place, problem)
            self._problems[place] = problem
            return None
        self._problems.pop(place, None)
        return result


def _by_file(generation: Generation) -> dict[Path, list[Held]]:
    found: dict[Path, list[Held]] = defaultdict(list)
    for held in held_by(generation):
        if held.handler.state_file is not None:
            found[held.handler.state_file.path].append(held)
    return found


def _most(held: Held) -> int:
    return 0 if held.handler.state_file is None else held.handler.state_file.most


def _size_limit(holders: Sequence[Held]) -> int:
    """Return the limit of the states of these handlers in a file.

    An operator may have lowered the limit of one of them since the file was written.
    """
    return max(LARGEST_STATE, SECTION_OVERHEAD * len(holders) + sum(map(_most, holders)))


async def _collect(
    identities: Identities, holders: Sequence[Held], total: int | None = None
) -> list[bytes]:
    """Return the parts of a snapshot of these handlers.

    Their states have at most `total` bytes together, or those that each allows in its file.
    """
    parts = [header(Clocks.now())]
    for held in holders:
        handler, state = held.handler, list[bytes]()
        most = _most(held) if total is None else max(0, total - sum(map(len, parts)))
        try:
            for portion in handler.dump_state(most):
                state.append(portion)
                await asyncio.sleep(0)
            # Afterwards, because replies with look-ups may have been stored meanwhile.
            identity = identities.of(held, with_lookups=handler.depends_on_lookups)
        except Exception as error:  # plugin code
            report(held.directive, "hook", "dump_state failed", error)
            continue
        if identity is not None:
            parts += [section_header(identity, sum(map(len, state))), *state]
    return parts
