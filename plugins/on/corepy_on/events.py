"""Runs the commands of one server block at the events of the server (caddy: onevent/hook)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from corepy.plugin import hookimpl, in_thread
from corepy_on.command import GRACE, LOG, Command, run, run_in_background

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.plugin import LifecycleContext

LIMIT: Final = 10.0
"""Seconds that a command in the foreground may take."""

LIMITS_OF_ALL: Final = {"startup": 20.0, "shutdown": 10.0}
"""Seconds that the commands in the foreground of an event may take together, in all server blocks.

With `-supervise`, a worker that does not serve after 30 seconds, or has not stopped after 15, is
killed.
"""

_left: WeakKeyDictionary[object, dict[str, float]] = WeakKeyDictionary()
"""The seconds that are left of LIMITS_OF_ALL, by the plugins of a configuration."""


class EventCommands:
    """Runs commands; no failure of theirs is a failure of the server."""

    def __init__(self, commands: Sequence[Command]) -> None:
        """Run `commands` in this order, each at its event."""
        self.commands = commands

    @hookimpl
    async def serving(self, context: LifecycleContext) -> None:
        """Run the commands of *startup*, at a reload as well: the server answers already."""
        await self._run("startup", context)

    @hookimpl
    async def stopping(self, context: LifecycleContext) -> None:
        """Run the commands of *shutdown*, at the end of the process only: it still answers."""
        if context.final:
            await self._run("shutdown", context)

    async def _run(self, event: str, context: LifecycleContext) -> None:
        left = _left.setdefault(context.plugins, dict(LIMITS_OF_ALL))
        for command in self.commands:
            if command.event != event:
                continue
            if command.in_background:
                LOG.info("%s: running in the background: %s", event, command)
                await _call(command, partial(run_in_background, command), 0)
            elif left[event] > 0:
                LOG.info("%s: running: %s", event, command)
                left[event] -= await _run_for(command, min(LIMIT, left[event]))
            else:
                message = "%s: not run, because the commands before it took %g s: %s"
                LOG.error(message, event, LIMITS_OF_ALL[event], command)


async def _run_for(command: Command, limit: float) -> float:
    """Run `command` in the foreground for at most `limit` seconds; return how long it took."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await _call(command, partial(run, command, limit), limit)
    return clock() - began


async def _call(command: Command, function: Callable[[], None], limit: float) -> None:
    """Call a function of `command`; do not wait for a program that cannot even be ended."""
    try:
        async with asyncio.timeout(limit + 3 * GRACE):
            await in_thread(function)
    except TimeoutError:
        LOG.error("%s: %s cannot be ended; the server goes on", command.event, command)
    except (OSError, RuntimeError) as error:  # such as when the system has no further thread
        reason = getattr(error, "strerror", None) or error
        LOG.error("%s: cannot run %s: %s", command.event, command, reason)
