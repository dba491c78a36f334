"""Passes the objects of the leader to the other processes of a server (*multisocket*).

The leader watches the API, and sends the lines of `item_lines` to each follower: all objects first,
then the changes. To a follower that reads slowly it sends only the last state of each object. One
that does not read at all is disconnected before too many removed objects wait for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corepy.http.json_stream import JSONLines
from corepy_kubernetes.api_store import PORTION, Applier, ChangeQueue
from corepy_kubernetes.api_turns import Turns
from corepy_kubernetes.item_lines import decode, encode

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from corepy_kubernetes.api_store import Store
    from corepy_kubernetes.item_lines import Put, Removed, Synced
    from corepy_kubernetes.objects import Serials

MOST_REMOVED: Final = 10_000
"""Changes that wait for a follower, besides one for each object; beyond, it is disconnected."""

_READ_SIZE: Final = 65536


class FollowerLink(asyncio.Protocol):
    """The leader's end of the connection to one follower; a receiver of the store."""

    def __init__(
        self,
        store: Store,
        serials: Callable[[], Serials | None],
        closed: Callable[[FollowerLink], object],
    ) -> None:
        """Send the objects of a store, and `serials` when they have changed."""
        self._store = store
        self._serials = serials
        self._closed = closed
        self._queue = ChangeQueue(store)
        self._sent: Serials | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._is_paused = False
        self._is_scheduled = False

    async def open(self, sock: socket.socket) -> None:
        """Begin to send over this socket."""
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        await loop.connect_accepted_socket(lambda: self, sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with all objects."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._store.receivers.append(self)
        self._schedule()

    def change(self, change: Put | Removed | Synced) -> None:
        """Send a change soon, unless the follower has not read for so long that it hangs."""
        self._queue.add(change)
        if len(self._queue) > len(self._store) + MOST_REMOVED:
            self.close()
        else:
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled and not self._is_paused:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._is_scheduled = False
        if self._transport is None or self._is_paused:
            return
        lines = list(map(encode, self._queue.take(PORTION)))
        if self._queue:
            self._schedule()
        elif (serials := self._serials()) is not None and serials != self._sent:
            self._sent = serials
            lines.append(encode(serials))
        self._transport.write(b"".join(lines))

    def pause_writing(self) -> None:
        """Wait until the follower has read."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._is_paused = False
        self._schedule()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the follower."""
        self._transport = None
        self._store.receivers.remove(self)
        self._closed(self)

    def close(self) -> None:
        """Disconnect the follower."""
        if self._transport is not None:
            self._transport.abort()


async def receive(sock: socket.socket, store: Store, serials: Callable[[Serials], object]) -> None:
    """Apply what the leader sends to the store of a follower, until the connection ends.

    `serials` is called with those of the leader. Raises OSError, and ValueError if the leader sends
    anything else.
    """
    reader, writer = await asyncio.open_connection(sock=sock)
    applier, lines, turns = Applier(store), JSONLines(), Turns()
    try:
        while data := await reader.read(_READ_SIZE):
            for words in lines.feed(data):
                applier.apply(decode(words))
                await turns.take()
            if applier.serials is not None:
                serials(applier.serials)
                applier.serials = None
    finally:
        writer.transport.abort()
