"""Runs the commands of one server block at the events of the server (caddy: onevent/hook)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.plugin import hookimpl, in_thread
from corepy_on.command import GRACE, LOG, Command, run, run_in_background

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corepy.plugin import LifecycleContext

LIMIT: Final = 10.0
"""Seconds that a command in the foreground may take."""

LIMIT_OF_ALL: Final = 45.0
"""Seconds that the commands of one event and one server block may take together.

The server grants a hook 60 seconds. A start or a reload whose hook takes longer is undone.
"""


class EventCommands:
    """Runs commands; no failure of theirs is a failure of the server."""

    def __init__(self, commands: Sequence[Command]) -> None:
        """Run `commands` in this order, each at its event."""
        self.commands = commands

    @hookimpl
    async def serving(self) -> None:
        """Run the commands of *startup*, at a reload as well: the server answers already."""
        await self._run("startup")

    @hookimpl
    async def stopping(self, context: LifecycleContext) -> None:
        """Run the commands of *shutdown*, at the end of the process only: it still answers."""
        if context.final:
            await self._run("shutdown")

    async def _run(self, event: str) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + LIMIT_OF_ALL
        for command in self.commands:
            if command.event != event:
                continue
            left = min(LIMIT, end - clock())
            if left <= 0:
                message = "%s: not run, because the commands before it took %g s: %s"
                LOG.error(message, event, LIMIT_OF_ALL, command)
            elif command.in_background:
                LOG.info("%s: running in the background: %s", event, command)
                await _call(command, partial(run_in_background, command), left)
            else:
                LOG.info("%s: running: %s", event, command)
                await _call(command, partial(run, command, left), left)


async def _call(command: Command, function: Callable[[], None], limit: float) -> None:
    """Call a function of `command`; do not wait for a program that cannot even be ended."""
    try:
        await asyncio.wait_for(in_thread(function), limit + 3 * GRACE)
    except TimeoutError:
        LOG.error("%s: %s cannot be ended; the server goes on", command.event, command)
    except RuntimeError as error:  # the system refuses a thread
        LOG.error("%s: cannot run %s: %s", command.event, command, error)
