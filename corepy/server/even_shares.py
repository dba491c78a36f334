"""Gives each process of *multisocket* the same share of the queries over UDP.

If another server has sockets at the same address, such as the one before in an update, the kernel's
hash distributes the queries until it has left: a program would choose from its sockets, too, even
while it closes them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from corepy.net.reuseport import members, share_evenly

if TYPE_CHECKING:
    import socket

INTERVAL = 1.0
"""Seconds between two looks for the sockets of other servers."""


class EvenShares:
    """Watches the groups of sockets that other servers share."""

    def __init__(self) -> None:
        self._groups: dict[socket.socket, int] = {}
        self._task: asyncio.Task[None] | None = None

    def apply(self, groups: dict[socket.socket, int]) -> None:
        """Distribute queries within `groups`: a socket of each, and its number of sockets.

        These are all groups of this server. The sockets stay open until the next call, or `stop`.
        """
        self._groups = groups
        for sock in list(groups):
            self._distribute(sock, members(sock))
        if self._groups and self._task is None:
            self._task = asyncio.create_task(self._watch())

    def _distribute(self, sock: socket.socket, present: int) -> None:
        """Distribute queries in the group of `sock` if the sockets `present` are this server's."""
        if self._groups.get(sock) == present:
            share_evenly(sock, present)
            del self._groups[sock]

    async def _watch(self) -> None:
        while self._groups:
            await asyncio.sleep(INTERVAL)
            for sock in list(self._groups):  # the table has all sockets of the host
                self._distribute(sock, await asyncio.to_thread(members, sock))
        self._task = None

    async def stop(self) -> None:
        """Stop watching."""
        self._groups = {}
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
