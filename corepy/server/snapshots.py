"""Keeps the state of handlers for the next process of this server, in the files that they name.

The state is written every few minutes and at the stop, and read at the start. The event loop
collects it in portions; a thread does all that a disk may delay. In a server of several processes,
the leader does this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.plugin import in_thread
from corepy.plugin.errors import describe
from corepy.plugin.failures import report
from corepy.plugin.log import server_logger
from corepy.server import state_files
from corepy.server.snapshot import (
    OVERHEAD,
    SECTION_OVERHEAD,
    Clocks,
    InvalidSnapshot,
    header,
    section_header,
)
from corepy.server.succession import Held, Identities, held_by

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from corepy.server.build.generation import Generation
    from corepy.server.snapshot import Section, Snapshot

INTERVAL: Final = 120.0
"""Seconds between two writes of the files."""

SETTLE: Final = 1.0
"""Seconds from a removal of state to the next write: several removals often follow each other."""

STOP_TIMEOUT: Final = 5.0
"""Seconds that the stop of the server waits for the last write."""

_SECTIONS: Final = 4096
"""The number of sections that a file may have although this server has fewer handlers."""


class Snapshots:
    """The snapshots of one server, which outlive its generations."""

    def __init__(self) -> None:
        self._generation: Generation | None = None
        self._task: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._writing = asyncio.Lock()
        self._discarded = 0
        self._problems: dict[Path, str] = {}

    async def restore(self, generation: Generation) -> list[str]:
        """Load the state of a generation that replaces none; return lines for the log."""
        lines, identities = [], Identities(generation)
        for path, holders in _by_file(generation).items():
            snapshot, elapsed, outcome = None, 0.0, f"starts empty: there is no file {path}"
            try:
                snapshot = await in_thread(partial(state_files.read, path, _size_limit(holders)))
                if snapshot is not None:
                    elapsed = Clocks.now().seconds_since(snapshot.clocks)
            except InvalidSnapshot as problem:
                server_logger().warning("the file %s is ignored: %s", path, problem)
                snapshot, outcome = None, f"starts empty: {path} is ignored"
            for held in holders:
                if snapshot is not None:
                    loaded = await _load(identities, held, snapshot, elapsed)
                    outcome = _outcome(loaded, path)
                lines.append(f"{held.title} {outcome}")
        return lines

    def start(self, generation: Generation) -> None:
        """Write the state of `generation` from now on, instead of that of an earlier one."""
        self._generation = generation
        if self._task is None and _by_file(generation):
            self._task = asyncio.create_task(self._run(), name="corepy-snapshots")

    async def stop(self) -> None:
        """Write the last snapshots."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._write()
        except TimeoutError:
            server_logger().warning("the state is not kept: the disk takes too long")

    async def discard(self) -> None:
        """Remove all snapshots, and write new ones soon.

        Parts of the state were removed, and must not return with the next process.
        """
        if self._generation is None:
            return
        self._discarded += 1
        async with self._writing:
            for path in _by_file(self._generation):
                await self._attempt(path, partial(state_files.remove, path))
        self._due.set()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._due.wait()
            if self._due.is_set():
                await asyncio.sleep(SETTLE)
            self._due.clear()
            await self._write()

    async def _write(self) -> None:
        assert self._generation is not None
        identities = Identities(self._generation)
        async with self._writing:
            for path, holders in _by_file(self._generation).items():
                is_valid = partial(self._is_valid, self._discarded)
                parts = await _collect(identities, holders)
                await self._attempt(path, partial(state_files.write, path, parts, is_valid))

    def _is_valid(self, discarded: int) -> bool:
        """Return whether nothing was discarded since that count."""
        return discarded == self._discarded

    async def _attempt(self, path: Path, change: Callable[[], None]) -> None:
        """Change a file in a thread; log a problem once."""
        try:
            await in_thread(change)
        except OSError as error:
            problem = error.strerror or describe(error)
            if self._problems.get(path) != problem:
                server_logger().warning("the state cannot be kept in %s: %s", path, problem)
            self._problems[path] = problem
        else:
            self._problems.pop(path, None)


def _by_file(generation: Generation) -> dict[Path, list[Held]]:
    found: dict[Path, list[Held]] = defaultdict(list)
    for held in held_by(generation):
        if held.handler.state_file is not None:
            found[held.handler.state_file.path].append(held)
    return found


def _most(held: Held) -> int:
    return 0 if held.handler.state_file is None else held.handler.state_file.most


def _size_limit(holders: Sequence[Held]) -> int:
    """Return the size of the largest file that these handlers write."""
    return OVERHEAD + SECTION_OVERHEAD * (len(holders) + _SECTIONS) + sum(map(_most, holders))


async def _collect(identities: Identities, holders: Sequence[Held]) -> list[bytes]:
    """Return the parts of a snapshot of these handlers."""
    parts = [header(Clocks.now())]
    for held in holders:
        handler, state = held.handler, list[bytes]()
        try:
            for portion in handler.dump_state(_most(held)):
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


async def _load(
    identities: Identities, held: Held, snapshot: Snapshot, elapsed: float
) -> str | None:
    """Load the state of a handler; return its description, None if it is not in the snapshot."""
    section = _section_of(identities, held, snapshot.sections)
    if section is None:
        return None
    try:
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
    wanted = [identities.of(held, with_lookups=each) for each in (False, True)]
    for index, section in enumerate(sections):
        if section.identity in wanted:
            return sections.pop(index)
    return None


def _outcome(loaded: str | None, path: Path) -> str:
    if loaded is None:
        return f"starts empty: {path} has no state of the same chain"
    return f"continues with {loaded} from {path}"
