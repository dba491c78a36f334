"""Listens for collectors and sends the messages to all that are connected.

A listening socket belongs to its address, as those of `corepy.http`: all outputs with the same
address share it, those of several server blocks and those of two generations. So a reload keeps the
collectors connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from corepy.http.listen_address import resolve
from corepy.net.sockets import Address, open_tcp
from corepy.plugin.reading import read_file
from corepy_dnstap.output import CONNECT_TIMEOUT, FINISH_TIMEOUT, LOG, Output, describe, log_drops
from corepy_dnstap.settings import MEBIBYTE, MESSAGES
from corepy_dnstap.stream import Drops, MessageQueue, Stream

if TYPE_CHECKING:
    import ssl

    from corepy_dnstap.settings import Endpoint, Settings, TLSFiles

MOST_COLLECTORS: Final = 32
"""Collectors that are connected to one address; a further one is disconnected."""

RETRY = 1.0
"""Seconds until another attempt to listen, such as while another process has the socket."""

_BACKLOG: Final = 16

_listeners: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Endpoint, CollectorListener]] = (
    WeakKeyDictionary()
)


class CollectorListener:
    """One listening socket, and the queue of each connected collector."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.outputs: list[ListeningOutput] = []
        """Those that share the socket, the newest last; the newest one's settings apply."""
        self.queues: list[MessageQueue] = []
        self._sock: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether collectors can connect."""
        return self._server is not None

    async def open(self, settings: Settings) -> None:
        """Listen with the certificate of `settings`; raises OSError or ValueError."""
        context = None if settings.tls is None else make_context(settings.tls, settings.skip_verify)
        if self._sock is None:
            self._sock = await self._bind()
        if self._server is not None:
            self._server.close()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: self._accepted(settings),
            sock=self._sock.dup(),
            ssl=context,
            ssl_handshake_timeout=None if context is None else CONNECT_TIMEOUT,
            backlog=_BACKLOG,
        )

    async def _bind(self) -> socket.socket:
        endpoint = self.endpoint
        if endpoint.scheme == "unix":
            sock = bind_unix(endpoint.host)
            self._inode = os.stat(endpoint.host).st_ino
            return sock
        return open_tcp(await resolve(str(Address(endpoint.host, endpoint.port))))

    @property
    def address(self) -> str:
        """The address that collectors connect to, with the port that the kernel has chosen."""
        if self._sock is None or self.endpoint.scheme == "unix":
            return self.endpoint.host
        return str(Address(*self._sock.getsockname()[:2]))

    def _accepted(self, settings: Settings) -> Stream:
        sent, drops = self.outputs[-1].sent, Drops(self.outputs[-1].dropped, log_drops)
        queue = MessageQueue(settings.queue * MESSAGES, sent, drops)
        stream = Stream(queue.flush)
        task = asyncio.create_task(self._serve(stream, queue, settings))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return stream

    async def _serve(self, stream: Stream, queue: MessageQueue, settings: Settings) -> None:
        """Send messages to a collector from its handshake to the end of its connection."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if len(self.queues) >= MOST_COLLECTORS:
                    raise OSError(f"{MOST_COLLECTORS} collectors are connected")
                await stream.opened
        except (OSError, ValueError) as error:
            LOG.warning("a collector at %s is refused: %s", self.endpoint, describe(error))
            stream.give_up()
            return
        except asyncio.CancelledError:
            stream.give_up()
            raise
        stream.set_buffer(settings.write_buffer * MEBIBYTE)
        queue.stream = stream
        self.queues.append(queue)
        connected = self.outputs[-1].connected
        connected.value += 1
        self._tell_outputs()
        await asyncio.wait([stream.closed])
        connected.value -= 1
        queue.discard()
        if queue in self.queues:
            self.queues.remove(queue)
        self._tell_outputs()

    def _tell_outputs(self) -> None:
        for output in self.outputs:
            output.is_taking = bool(self.queues)

    async def close(self) -> None:
        """Close the socket, and the connections once the collectors have read everything."""
        if self._server is not None:
            self._server.close()
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

    async def start(self) -> None:
        """Listen, or share the socket of another output with the same address."""
        known = _listeners.setdefault(asyncio.get_running_loop(), {})
        endpoint = self.settings.endpoint
        listener = self._listener = known.setdefault(endpoint, CollectorListener(endpoint))
        listener.outputs.append(self)
        self.is_taking = bool(listener.queues)
        try:
            await listener.open(self.settings)
        except (OSError, ValueError) as error:
            LOG.error("cannot listen at %s: %s; tried again", self.label, describe(error))
            self._retrying = asyncio.create_task(self._open_later(listener))

    async def _open_later(self, listener: CollectorListener) -> None:
        while True:
            await asyncio.sleep(RETRY)
            with contextlib.suppress(OSError, ValueError):
                await listener.open(self.settings)
                LOG.info("listening at %s", self.label)
                return

    def put(self, frame: bytes) -> None:
        """Send a data frame soon to all collectors; one whose queue is full does not get it."""
        assert self._listener is not None
        for queue in self._listener.queues:
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
        listener.outputs.remove(self)
        if not listener.outputs:
            del _listeners[asyncio.get_running_loop()][listener.endpoint]
            await listener.close()


def bind_unix(path: str) -> socket.socket:
    """Return a listening socket at `path`, replacing one that no process listens on any more.

    Raises OSError.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
                raise
            os.unlink(path)
            sock.bind(path)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_abandoned(path: str) -> bool:
    """Return whether `path` is a socket that refuses connections."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED


def unlink_own(path: str, inode: int) -> None:
    """Remove a socket, unless another process has replaced it in the meantime."""
    with contextlib.suppress(OSError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)


def make_context(files: TLSFiles, skip_verify: bool) -> ssl.SSLContext:
    """Return the context of a listener; raises OSError or ValueError for an unusable file.

    With the certificates of authorities, collectors must have a certificate of one of them; with
    `skip_verify` they may also have none (plugin/dnstap/listener.go).
    """
    import ssl

    for path in (files.certificate, files.key, files.authorities):
        if path is not None:
            read_file(path)  # OpenSSL would wait for a FIFO
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key, "")  # else it may ask for a password
    if files.authorities is not None:
        context.load_verify_locations(files.authorities)
        context.verify_mode = ssl.CERT_OPTIONAL if skip_verify else ssl.CERT_REQUIRED
    return context
