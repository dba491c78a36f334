"""Runs beside the server: follows the template and the ConfigMap, and writes the Corefile.

Once a second it reads the few files that the Corefile is made of. A change is loaded through the
server's reload, whether the template contains *reload* or not, and the file of `-conf` is written
after the server has accepted it. So that file always has the last good Corefile.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.commands.run_server import check_generated, quit_at_once
from corepy.plugin import in_thread, plugin_logger
from corepy.plugin.writing import PUBLIC, replace_file
from corepy_nodecache import metrics
from corepy_nodecache.lifecycle import remove_everything

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy.commands.run_server import GeneratedCorefile
    from corepy_nodecache.node_cache.corefile_maker import CorefileMaker, Snapshot

POLL: Final = 1.0
"""Seconds between two looks at the files."""

FIRST_RETRY, LAST_RETRY = 5.0, 300.0
"""Seconds until a failed reload is repeated: the first delay, doubled up to the last."""

QUIT_TIMEOUT: Final = 5.0
"""Seconds that SIGQUIT may take to remove rules and interface."""

REMEDY: Final = "the next start adopts them, `corepy nodecache teardown` removes them"

REASON: Final = "The template or the ConfigMap changed"

log = plugin_logger("nodecache")


class Sync:
    """Keeps server and file up to date with the template and the ConfigMap."""

    def __init__(self, maker: CorefileMaker, poll: float = POLL) -> None:
        """Make Corefiles with `maker`, and look for changes every `poll` seconds."""
        self._maker = maker
        self._poll = poll
        self._running: GeneratedCorefile | None = None
        self._settled: Snapshot | None = None
        self._suspect: Snapshot | None = None
        self._retry_at = float("inf")
        self._failures = 0
        self._write_problem = ""
        self._quitting: asyncio.Task[None] | None = None

    async def run(self, reload: Callable[[str], Awaitable[bool]]) -> None:
        """Follow the changes until cancelled; `reload` is the server's."""
        # In CoreDNS, SIGQUIT runs the functions of OnProcessExit, such as node-cache's teardown.
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, self._quit)
        if self._maker.pinned is None:
            await self._accept(self._maker.offered)
        while True:
            try:
                await self._check(reload)
            except Exception:  # a bug here must not end the updates
                log.exception("checking template and ConfigMap failed")
            await asyncio.sleep(self._poll)

    async def _check(self, reload: Callable[[str], Awaitable[bool]]) -> None:
        snapshot = await in_thread(self._maker.look)  # a disk that hangs must not stop queries
        if snapshot == self._settled and time.monotonic() < self._retry_at:
            return
        candidate = self._maker.candidate(snapshot)
        if candidate.problems and snapshot not in (self._suspect, self._settled):
            self._suspect = snapshot  # perhaps half written: look again before complaining
            return
        self._maker.report(candidate.problems)
        if snapshot != self._settled:
            self._failures = 0
        self._settled, self._retry_at = snapshot, float("inf")
        if candidate.corefile is None:
            return
        if self._running is not None and candidate.corefile.text == self._running.text:
            return
        if self._failures and check_generated(candidate.corefile, self._maker.options.port):
            self._schedule_retry()  # as broken as before, which the log has already
        else:
            await self._load(candidate.corefile, reload)

    async def _load(
        self, made: GeneratedCorefile, reload: Callable[[str], Awaitable[bool]]
    ) -> None:
        """Let the server load the new Corefile; on failure it keeps the old one.

        Until then, a reload by a signal gets the same Corefile, so that the one that is written is
        the one in use.
        """
        before, self._maker.pinned = self._maker.pinned, made
        is_loaded = False
        try:
            is_loaded = await reload(REASON)
        finally:
            self._maker.pinned = None if is_loaded else before
        if is_loaded:
            self._failures = 0
            await self._accept(made)
            return
        metrics.setup_errors.labels("configmap").inc()
        delay = self._schedule_retry()
        log.error("the new Corefile is tried again in %gs, or after a change", delay)

    def _schedule_retry(self) -> float:
        """Repeat the failed reload later; return the delay in seconds."""
        delay = min(FIRST_RETRY * float(1 << min(self._failures, 16)), LAST_RETRY)
        self._failures += 1
        self._retry_at = time.monotonic() + delay
        return delay

    async def _accept(self, made: GeneratedCorefile | None) -> None:
        """Remember the running Corefile and write it to its file."""
        self._running = made
        if made is None or _is_same_file(self._maker.template, made.name):
            return
        problem = await in_thread(lambda: _written(made))
        if problem and problem != self._write_problem:
            metrics.setup_errors.labels("configmap").inc()
            log.warning("cannot write %s: %s; the server runs without it", made.name, problem)
        self._write_problem = problem

    def _quit(self) -> None:
        if self._quitting is None:  # a second signal would leave addresses that nobody serves
            self._quitting = asyncio.create_task(self._tear_down())

    async def _tear_down(self) -> None:
        """Remove rules and interface, unless -skipteardown, and end the process."""
        log.info("SIGQUIT: Quitting process immediately")
        try:
            if not self._maker.options.skip_teardown:
                async with asyncio.timeout(QUIT_TIMEOUT):
                    await remove_everything()
        except TimeoutError:
            log.error("rules and interface are still there after %g s: %s", QUIT_TIMEOUT, REMEDY)
        except Exception:  # a bug here must not keep the process
            log.exception("rules and interface may still be there: %s", REMEDY)
        finally:
            quit_at_once(self._maker.options.pidfile or None)


def _is_same_file(one: str, other: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return False


def _written(made: GeneratedCorefile) -> str:
    """Replace the file by the new text at once; return the problem, or ""."""
    path = os.path.realpath(made.name)
    text = made.text.encode("utf-8", "surrogateescape")
    try:
        if not _needs_write(path, text):
            return ""
        try:
            replace_file(Path(path), [text], mode=PUBLIC)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            with open(path, "wb") as file:  # a mount point, such as a single file of a volume
                file.write(text)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _needs_write(path: str, text: bytes) -> bool:
    """Return whether the content differs; raises `OSError` for anything but a regular file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        with open(path, "rb") as file:
            return file.read() != text
    except FileNotFoundError:
        return True
