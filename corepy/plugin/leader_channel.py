"""`LeaderChannel`: the channel from a follower to the leader of a server with several processes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from corepy.net.backoff import Backoff
from corepy.net.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy.plugin.process_group import ProcessGroup

FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 2.0
"""Seconds until a follower connects again; the delay doubles with each failure.

A connection that ends earlier than the longest delay counts as one: the leader closes it if the
follower cannot take what it gets, and would send everything anew many times a second.
"""


class LeaderChannel:
    """The channel of a follower to a name at which the leader listens, renewed after each end."""

    def __init__(
        self,
        group: ProcessGroup,
        name: str,
        handler: Callable[[str, Any, list[int]], Awaitable[object]],
        *,
        opened: Callable[[Channel], object],
        task: str,
    ) -> None:
        """Stay connected with `name` until `close`, in a task with the name `task`.

        `opened` is called with each new channel, which has received nothing yet. `handler` serves
        the leader's requests (see `corepy.net.channel.Channel`).
        """
        self._group = group
        self._name = name
        self._handler = handler
        self._opened = opened
        self._channel: Channel | None = None
        self._task = asyncio.create_task(self._stay_connected(), name=task)

    def begin(self, what: str, body: object = None) -> None:
        """Send a request if the channel is open; `opened` has to repeat it for the next channel."""
        if self._channel is not None and self._channel.is_open:
            self._channel.begin(what, body)

    def close(self) -> None:
        """Disconnect, and do not connect again."""
        self._task.cancel()
        if self._channel is not None:
            self._channel.close()

    async def _stay_connected(self) -> None:
        backoff, closed = Backoff(FIRST_DELAY, LONGEST_DELAY), asyncio.Event()
        now = asyncio.get_running_loop().time
        while True:
            with suppress(OSError):
                sock = await self._group.connect(self._name)
                closed.clear()
                self._channel = Channel(sock, self._handler, closed.set)
                self._opened(self._channel)
                began = now()
                await closed.wait()
                if now() - began >= LONGEST_DELAY:
                    backoff.reset()  # not for one that ends as soon as it has begun
            await asyncio.sleep(backoff.next_delay())
