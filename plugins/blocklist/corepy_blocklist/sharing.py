"""Shares the table of the leader with the other processes of a server (*multisocket*).

The leader reads the files and passes each table as a descriptor; a follower maps the same memory.
The followers of all generations whose directive has the same files use one publisher.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from corepy_blocklist.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.plugin import ProcessGroup

_MARK: Final = b"T"
_publishers: dict[str, Publisher] = {}


class Publisher:
    """Passes the tables of some files to followers, in the leader."""

    def __init__(self, group: ProcessGroup, name: str) -> None:
        self._group = group
        self._name = name
        self._table: Table | None = None
        self._members: set[object] = set()
        self._followers: set[socket.socket] = set()
        group.listen(name, self._connected)

    @classmethod
    def join(cls, group: ProcessGroup, name: str, member: object) -> Publisher:
        """Return the publisher for `name`, which exists until its last member leaves."""
        publisher = _publishers.get(name)
        if publisher is None:
            publisher = _publishers[name] = cls(group, name)
        publisher._members.add(member)
        return publisher

    def leave(self, member: object) -> None:
        """Remove a member."""
        self._members.discard(member)
        if not self._members and _publishers.get(self._name) is self:
            del _publishers[self._name]
            self._group.stop_listening(self._name, self._connected)
            for sock in tuple(self._followers):
                self._disconnect(sock)

    def publish(self, table: Table) -> None:
        """Pass a table to all followers, and to those that connect later."""
        if table is not self._table:
            self._table = table
            for sock in tuple(self._followers):
                self._send(sock)

    def _connected(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._followers.add(sock)
        # A follower sends nothing: its socket is readable when it has closed its end.
        asyncio.get_running_loop().add_reader(sock, self._disconnect, sock)
        if self._table is not None:
            self._send(sock)

    def _send(self, sock: socket.socket) -> None:
        """Send the table; a follower that cannot take it is disconnected, and reads the files."""
        assert self._table is not None
        try:
            socket.send_fds(sock, [_MARK], [self._table.descriptor])
        except OSError:
            self._disconnect(sock)

    def _disconnect(self, sock: socket.socket) -> None:
        self._followers.discard(sock)
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()


class Subscription:
    """Receives the tables of the leader, in a follower."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, group: ProcessGroup, name: str) -> Subscription:
        """Connect to the publisher `name` of the leader; raises OSError if there is none."""
        sock = await group.connect(name)
        sock.setblocking(False)
        return cls(sock)

    async def receive(self) -> Table:
        """Return the next table; raises OSError if the leader sends none."""
        loop = asyncio.get_running_loop()
        while True:
            with suppress(BlockingIOError):
                mark, descriptors, _, _ = socket.recv_fds(self._sock, 1, 1)
                break
            ready = loop.create_future()
            loop.add_reader(self._sock, _wake, ready)
            try:
                await ready
            finally:
                if self._sock.fileno() >= 0:
                    loop.remove_reader(self._sock)
        if mark != _MARK or len(descriptors) != 1:
            raise ConnectionError("the leader shares no table")
        try:
            return Table(descriptors[0])
        finally:
            os.close(descriptors[0])

    def receive_with(self, take: Callable[[Table], None], ended: Callable[[], None]) -> None:
        """Call `take` for each further table, and `ended` when the leader sends no more."""
        self._task = asyncio.create_task(self._receive_all(take, ended), name="receive block lists")

    async def _receive_all(self, take: Callable[[Table], None], ended: Callable[[], None]) -> None:
        with suppress(OSError, ValueError):
            while True:
                take(await self.receive())
        self._sock.close()
        ended()

    def close(self) -> None:
        """Receive no more."""
        if self._task is not None:
            self._task.cancel()
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)  # the number may be used again
        self._sock.close()


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():  # cancelled in this turn
        ready.set_result(None)
