"""Updates the upstreams while the server runs, without a reload.

A file is read again when it changes. If it is missing, unreadable or without name servers, the name
servers read last stay in use, because another program may be writing the file. Unusable upstreams
are checked again: a link-local address is used once its network interface exists, and a host name
that could not be resolved is looked up every few seconds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from corepy.plugin import plugin_logger
from corepy.plugin.reading import file_version
from corepy_forward.resolvconf import read_resolv_conf
from corepy_forward.usable import choose

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from corepy_forward.ownaddress import Place
    from corepy_forward.pool import Pool
    from corepy_forward.settings import Settings
    from corepy_forward.targets import ToAddress

INTERVAL = 1.0
"""Seconds between two checks.

A check is one stat(2) for each file, which detects replaced mounts and links, as inotify would not;
an if_nametoindex for each interface of an upstream; and, if the block listens on all addresses at
the port of an upstream, one bind(2).
"""

LOOK_UP_INTERVAL = 5.0
"""Seconds between two look-ups of the host names that could not be resolved."""

log = plugin_logger("forward")


def changes(settings: Settings) -> bool:
    """Whether the upstreams of a `forward` line may change while the server runs."""
    return any(
        entry.file is not None
        or (entry.hostname is not None and not entry.targets)
        or any(target.scope for target in entry.targets)
        for entry in settings.entries
    )


class Watch:
    """Checks the upstreams of one `forward` line periodically, and applies changes to the pool."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        listening: Sequence[Place],
        known: Iterable[str],
    ) -> None:
        """Start the checks.

        `listening` are the block's own addresses, which are never used as upstreams; `known` are
        the problems that were logged already.
        """
        self._settings = settings
        self._pool = pool
        self._listening = listening
        self._problems = set(known)
        self._faults: dict[Path, str] = {}
        self._look_up: asyncio.Task[None] | None = None
        self._next_look_up = pool.loop.time() + LOOK_UP_INTERVAL
        self._timer: asyncio.TimerHandle = pool.loop.call_later(INTERVAL, self._look)

    def _look(self) -> None:
        self._timer = self._pool.loop.call_later(INTERVAL, self._look)
        for entry in self._settings.entries:
            if entry.file is not None and file_version(entry.file) != entry.version:
                self._read(entry, entry.file)
        self._begin_look_up()
        self._use()

    def _read(self, entry: ToAddress, file: Path) -> None:
        """Read a file that has changed, or may have changed."""
        try:
            contents = read_resolv_conf(file)
            entry.version = contents.version
            if not contents.servers:
                raise ValueError(f"{file} names no usable name servers")
        except ValueError as error:
            if self._faults.get(file) != str(error):
                log.warning("%s: %s; its last name servers stay in use", entry.place, error)
            self._faults[file] = str(error)
            return
        self._faults.pop(file, None)
        entry.targets = [server.target for server in contents.servers]
        entry.places = {server.target: server.place for server in reversed(contents.servers)}
        entry.problems = contents.problems

    def _use(self) -> None:
        """Switch to the usable upstreams; log each problem once while it lasts."""
        choice = choose(self._settings.entries, self._listening)
        log_problems(choice.problems, self._problems)
        self._problems = set(choice.problems)
        pool = self._pool
        if choice.targets != [upstream.target for upstream in pool.upstreams]:
            pool.retarget(choice.targets)
            log.info("upstreams are now %s", " ".join(t.address for t in choice.targets))

    def _begin_look_up(self) -> None:
        """Start a task that looks up the host names that are not resolved yet."""
        missing = [e for e in self._settings.entries if e.hostname is not None and not e.targets]
        now = self._pool.loop.time()
        if missing and self._look_up is None and now >= self._next_look_up:
            self._look_up = self._pool.loop.create_task(self._find(missing))

    async def _find(self, missing: Collection[ToAddress]) -> None:
        from corepy_forward.resolve import look_up

        try:
            await look_up(missing, self._settings.resolvers)
        finally:
            self._next_look_up = self._pool.loop.time() + LOOK_UP_INTERVAL
            self._look_up = None

    def stop(self) -> None:
        """Stop the checks."""
        self._timer.cancel()
        if self._look_up is not None:
            self._look_up.cancel()


def log_problems(problems: Iterable[str], known: Collection[str]) -> None:
    """Log a warning for each problem that is not in `known`."""
    for problem in dict.fromkeys(problems):
        if problem not in known:
            log.warning("%s", problem)
