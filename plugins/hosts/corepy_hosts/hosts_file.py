"""The hosts file of one directive, which is loaded at the start and after each change."""

from __future__ import annotations

import contextlib
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.plugin import FileData, LifecycleContext, hookimpl, in_thread, plugin_logger
from corepy_hosts import metrics
from corepy_hosts.parsing import HostsParser, Unusable
from corepy_hosts.table import Differences, HostTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from corepy.plugin import ZoneMatcher

INTERVAL: Final = 1.0
"""Maximum seconds between two checks of the file, each of which costs a stat(2) in a thread."""

SHORTEST: Final = 0.05
"""Minimum seconds between two checks: more of them would take the CPU from the queries."""

SETTLE: Final = 0.2
"""Seconds for which a changed file must be unchanged before it is loaded."""

LARGEST: Final = 64 * 1024 * 1024
"""Maximum size of a file in bytes: a few million lines."""

_log = plugin_logger("hosts")


class HostsFile(FileData[HostTable]):
    """The table of a file and of the lines in the Corefile, which are added to it."""

    def __init__(
        self,
        path: Path,
        inline: Sequence[bytes],
        zones: ZoneMatcher,
        *,
        with_reverse: bool,
        interval: float,
    ) -> None:
        """Check `path` every `interval` seconds, from SHORTEST to INTERVAL; never again for 0.

        A file that cannot be read leaves the table as it is, at first that of `inline`.
        """
        self._inline = inline
        self._zones = zones
        self._with_reverse = with_reverse
        self._served = self._table(b"")
        self._served_digest = b""
        super().__init__(
            path,
            self._read,
            self._served,
            interval=interval and min(max(interval, SHORTEST), INTERVAL),
            settle=SETTLE,
            required=False,
            what="hosts file",
            most=LARGEST,
            log=_log,
        )

    def loaded(self) -> None:
        """Report lines that cannot be used."""
        if self.value.problem:
            _log.warning("%s: %s", self.path, self.value.problem)

    async def changed(self, context: LifecycleContext) -> None:
        """Remove replies with names and addresses that have changed from all caches."""
        before, self._served = self._served, self.value
        differences = await in_thread(partial(_compare, before, self._served))
        if differences.names or differences.addresses:  # otherwise only comments have changed
            await context.forget_names(differences.affect)
        self._served_digest = self.digest

    @property
    def inputs(self) -> bytes | None:
        """A digest of the content; None while caches may contain replies from the one before."""
        return self.digest if self.digest == self._served_digest else None

    def _read(self, content: bytes) -> HostTable:
        table = self._table(content)
        with contextlib.suppress(OSError):  # removed since it was read
            table.modified = os.stat(self.path).st_mtime
        return table

    def _table(self, content: bytes) -> HostTable:
        parser = HostsParser(self._zones, with_reverse=self._with_reverse)
        parser.read(content)
        for line in self._inline:
            with contextlib.suppress(Unusable):  # setup has reported it
                parser.add_line(line)
        return parser.table

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Load the file, and show it in the metrics."""
        metrics.show(self)
        await super().before_listen(context)
        self._served = self.value
        self._served_digest = self.digest

    @hookimpl
    def shutdown(self, context: LifecycleContext) -> None:
        """Stop checking, free the table, and remove the file from the metrics."""
        super().shutdown(context)
        metrics.hide(self)
        _free(self.value)


def _compare(before: HostTable, after: HostTable) -> Differences:
    """Return the differences of two tables, and free the first."""
    differences = before.differences(after)
    before.free()
    return differences


def _free(table: HostTable) -> None:
    """Free a large table in a thread, since the event loop would take milliseconds for it."""
    threading.Thread(target=table.free, name="hosts-free", daemon=True).start()
