"""Listens for collectors and sends the messages to all that are connected.

A listening socket belongs to its address, as those of `corepy.http`: all outputs with the same
address share it, those of several server blocks and those of two generations. So a reload keeps the
collectors connected. With *multisocket* the leader listens, and the followers pass it their
messages (`relay`).
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from corepy.http.listen_address import resolve
from corepy.net.acceptor import Acceptor
from corepy.net.sockets import Address, open_tcp
from corepy_dnstap.collectors import MOST_HANDSHAKES, Collectors, CollectorStream
from corepy_dnstap.listening_sockets import (
    bind_unix,
    inode_of,
    make_context,
    unlink_own,
)
from corepy_dnstap.output import CONNECT_TIMEOUT, FINISH_TIMEOUT, LOG, Output, describe, log_drops
from corepy_dnstap.relay import FollowerStream, name_of
from corepy_dnstap.settings import MEBIBYTE, MESSAGES
from corepy_dnstap.stream import Drops, MessageQueue

if TYPE_CHECKING:
    import socket

    from corepy.plugin import ProcessGroup
    from corepy_dnstap.listening_sockets import Inode
    from corepy_dnstap.settings import Endpoint, Settings

RETRY = 1.0
"""Seconds until another attempt to listen, such as while another process has the socket."""

CHECK_INTERVAL = 5.0
"""Seconds between two checks whether the file of a Unix socket is still there."""

_listeners: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Endpoint, CollectorListener]] = (
    WeakKeyDictionary()
)


class CollectorListener:
    """One listening socket, and the queue of each connected collector."""

    def __init__(self, endpoint: Endpoint, process_group: ProcessGroup) -> None:
        """Take messages of followers from now on; `open` listens for collectors."""
        self.endpoint = endpoint
        self.outputs: list[ListeningOutput] = []
        """Those that share the socket, the newest last; the newest one's settings apply."""
        self.queues: list[MessageQueue] = []
        self._sock: socket.socket | None = None
        self._acceptor: Acceptor | None = None
        self._collectors = Collectors(str(endpoint))
        self._inode: Inode | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._opening = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._followers: set[FollowerStream] = set()
        self._process_group = process_group
        process_group.listen(name_of(endpoint), self._take_follower)

    @property
    def is_open(self) -> bool:
        """Whether collectors can connect."""
        return self._acceptor is not None

    async def open(self, output: ListeningOutput) -> None:
        """Listen with the settings of `output`; raises OSError or ValueError."""
        async with self._opening:
            settings = output.settings
            tls = settings.tls
            context = None if tls is None else make_context(tls, settings.skip_verify)
            if self._sock is None:
                self._sock = await self._bind()
            if self._acceptor is not None:
                self._acceptor.stop(leave_queue=True)
            sock = self._sock.dup()
            sock.setblocking(False)
            self._acceptor = Acceptor(
                sock,
                lambda: self._accepted(output),
                str(self.endpoint),
                LOG,
                tls=context,
                handshake=None if context is None else CONNECT_TIMEOUT,
                most=MOST_HANDSHAKES,
            )
            self._acceptor.start()

    async def _bind(self) -> socket.socket:
        endpoint = self.endpoint
        if endpoint.scheme != "unix":
            return open_tcp(await resolve(str(Address(endpoint.host, endpoint.port))))
        sock = bind_unix(endpoint.host)
        self._inode = inode_of(endpoint.host)
        if self._watching is None:
            self._watching = asyncio.create_task(self._stay_in_place())
        return sock

    async def _stay_in_place(self) -> None:
        """Listen again whenever the file of the socket was removed: nobody could connect."""
        path, is_failing = self.endpoint.host, False
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            if self._sock is not None and inode_of(path) == self._inode:
                continue
            if self._sock is not None:
                self._sock.close()
                self._sock = None
            try:
                await self.open(self.outputs[-1])
            except Exception as error:  # whatever it is, it is tried again
                if not is_failing:
                    LOG.error("%s was removed: %s; tried again", self.endpoint, describe(error))
                is_failing = True
            else:
                LOG.info("%s was removed; listening there again", self.endpoint)
                is_failing = False

    @property
    def address(self) -> str:
        """The address that collectors connect to, with the port that the kernel has chosen."""
        if self._sock is None or self.endpoint.scheme == "unix":
            return self.endpoint.host
        return str(Address(*self._sock.getsockname()[:2]))

    def _accepted(self, output: ListeningOutput) -> CollectorStream:
        drops = Drops(output.dropped, log_drops)
        queue = MessageQueue(output.settings.queue * MESSAGES, output.sent, drops)
        stream = CollectorStream(queue.flush, self._collectors)
        if self._is_closed:  # the connection was accepted just before
            stream.give_up()
            return stream
        task = asyncio.create_task(self._serve(stream, queue, output))
        self._tasks.add(task)
        task.add_done_callback(partial(self._served, stream))
        return stream

    def _served(self, stream: CollectorStream, task: asyncio.Task[None]) -> None:
        """End the connection, also if the task was cancelled before its first step."""
        self._tasks.discard(task)
        stream.give_up()

    async def _serve(
        self, stream: CollectorStream, queue: MessageQueue, output: ListeningOutput
    ) -> None:
        """Send messages to a collector from its handshake to the end of its connection."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await stream.opened
        except (OSError, ValueError) as error:
            self._collectors.log_refusal(error)
            return
        stream.set_buffer(output.settings.write_buffer * MEBIBYTE)
        queue.stream = stream
        self.queues.append(queue)
        output.connected.value += 1
        self._tell_outputs()
        try:
            await asyncio.wait([stream.closed])
        finally:
            output.connected.value -= 1
            queue.discard()
            self.queues.remove(queue)
            self._tell_outputs()

    def _tell_outputs(self) -> None:
        needed = bool(self.queues)
        for output in self.outputs:
            output.is_taking = needed
        for follower in self._followers:
            follower.tell(needed=needed)

    def put(self, frame: bytes) -> None:
        """Send a data frame soon to all collectors; one whose queue is full does not get it."""
        for queue in self.queues:
            queue.put(frame)

    def _take_follower(self, sock: socket.socket) -> None:
        """Take the messages of a follower, the other end of `sock`."""
        task = asyncio.create_task(self._relay(sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, sock: socket.socket) -> None:
        follower = FollowerStream(self.put, needed=bool(self.queues))
        self._followers.add(follower)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: follower, sock=sock)
            await asyncio.wait([follower.closed])
        finally:
            self._followers.discard(follower)
            follower.abort()

    async def close(self) -> None:
        """Close the socket, and the connections once the collectors have read everything."""
        self._process_group.stop_listening(name_of(self.endpoint), self._take_follower)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        if self._followers:  # they have sent everything before this hook of the leader
            ends = [follower.closed for follower in self._followers]
            await asyncio.wait(ends, timeout=FINISH_TIMEOUT)
        self._is_closed = True
        if self._acceptor is not None:
            self._acceptor.stop(leave_queue=True)
        if self._sock is not None:
            self._sock.close()
            if self.endpoint.scheme == "unix":
                unlink_own(self.endpoint.host, self._inode)
        await asyncio.gather(*(queue.finish(FINISH_TIMEOUT) for queue in self.queues))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


class ListeningOutput(Output):
    """Sends the messages of a handler to the collectors that have connected to an address."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._listener: CollectorListener | None = None
        self._retrying: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """The number of collectors."""
        listener = self._listener
        if listener is None or not listener.is_open:
            return "not listening"
        return f"listening, {len(listener.queues)} connected"

    @property
    def address(self) -> str:
        """The address that collectors connect to."""
        return "" if self._listener is None else self._listener.address

    async def start(self, process_group: ProcessGroup) -> None:
        """Listen, or share the socket of another output with the same address."""
        known = _listeners.setdefault(asyncio.get_running_loop(), {})
        endpoint = self.settings.endpoint
        if endpoint not in known:
            known[endpoint] = CollectorListener(endpoint, process_group)
        listener = self._listener = known[endpoint]
        listener.outputs.append(self)
        self.is_taking = bool(listener.queues)
        await self.open()

    async def open(self) -> None:
        """Listen with the settings of this output; log a failure, and try again later."""
        listener = self._listener
        assert listener is not None
        try:
            await listener.open(self)
        except Exception as error:  # whatever it is, the server starts
            LOG.error("cannot listen at %s: %s; tried again", self.label, describe(error))
            if self._retrying is None:
                self._retrying = asyncio.create_task(self._open_later(listener))

    async def _open_later(self, listener: CollectorListener) -> None:
        while True:
            await asyncio.sleep(RETRY)
            with contextlib.suppress(Exception):  # `open` has logged the first one
                await listener.open(self)
                LOG.info("listening at %s", self.label)
                self._retrying = None
                return

    def put(self, frame: bytes) -> None:
        """Send a data frame soon to all collectors; one whose queue is full does not get it."""
        assert self._listener is not None
        for queue in self._listener.queues:  # not by `CollectorListener.put`, a call less
            queue.put(frame)

    async def close(self) -> None:
        """Stop sending; the last output of an address closes the socket."""
        self.is_taking = False
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.wait([self._retrying])
        listener, self._listener = self._listener, None
        if listener is None:
            return
        was_newest = listener.outputs[-1] is self
        listener.outputs.remove(self)
        if not listener.outputs:
            del _listeners[asyncio.get_running_loop()][listener.endpoint]
            await listener.close()
        elif was_newest:  # a generation that has failed to start
            await listener.outputs[-1].open()
