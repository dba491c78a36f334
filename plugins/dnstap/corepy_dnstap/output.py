"""`Output`: where a handler's messages go. `Connection` sends them to a collector.

Messages are dropped at once, without being encoded, as long as no collector is connected. Only
while a connection is being established do they wait for it, so that a start loses none.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from corepy.plugin import in_thread, plugin_logger
from corepy_dnstap import metrics
from corepy_dnstap.settings import MEBIBYTE, MESSAGES
from corepy_dnstap.stream import CLOSED, Drops, MessageQueue, Stream

if TYPE_CHECKING:
    import ssl

    from corepy.plugin import ProcessGroup
    from corepy_dnstap.settings import Settings

LOG: Final = plugin_logger("dnstap")

CONNECT_TIMEOUT = 4.0
"""Seconds for a connection and its handshake, as in CoreDNS."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds until another attempt; doubled after each failure. CoreDNS: always 10."""

FINISH_TIMEOUT = 1.0
"""Seconds at the end for the collector to read the last messages."""

USER_TIMEOUT: Final = 10_000
"""Milliseconds that sent data may stay unacknowledged before the kernel ends a connection."""


class Output:
    """Where messages go; the base class of `Connection` and of the listening output."""

    is_taking = False
    """Whether a message would be sent, or wait for a connection. If not, it need not be encoded."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.label = str(settings.endpoint)
        self.sent = metrics.SENT.labels(self.label)
        self.dropped = metrics.DROPPED.labels(self.label)
        self.connected = metrics.CONNECTED.labels(self.label)

    @property
    def state(self) -> str:
        """What an operator should know."""
        raise NotImplementedError

    async def start(self, process_group: ProcessGroup) -> None:
        """Start to connect, or to listen; it never fails, but logs a problem and tries again."""
        raise NotImplementedError

    def put(self, frame: bytes) -> None:
        """Send a data frame soon, or drop and count it; it never waits."""
        raise NotImplementedError

    def skip(self, messages: int) -> None:
        """Count messages that were not encoded because of `is_taking`."""

    async def close(self) -> None:
        """Send what waits and close the connections; `start` may not have been called."""
        raise NotImplementedError


class Connection(Output):
    """A connection to one collector, which is established again whenever it is lost."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._queue: MessageQueue | None = None
        self._drops = Drops(self.dropped, log_drops)
        self._task: asyncio.Task[None] | None = None
        self._connecting: asyncio.Task[Stream] | None = None
        self._context: ssl.SSLContext | None = None
        self._is_failing = False

    @property
    def state(self) -> str:
        """Whether the collector is connected."""
        stream = self._queue.stream if self._queue is not None else None
        return "not connected" if stream is None else "connected"

    async def start(self, process_group: ProcessGroup) -> None:
        """Connect in the background; each process has a connection."""
        self._queue = MessageQueue(self.settings.queue * MESSAGES, self.sent, self._drops)
        self.is_taking = True
        self._task = asyncio.create_task(self._stay_connected(self._queue))

    def put(self, frame: bytes) -> None:
        """Send a data frame soon, or drop and count it."""
        assert self._queue is not None
        self._queue.put(frame)

    def skip(self, messages: int) -> None:
        """Count messages without a collector."""
        self._drops.add(messages)

    async def close(self) -> None:
        """Send what waits and close the connection."""
        self.is_taking = False
        if self._queue is not None and self._connecting is not None:
            await self._await_connection(self._queue, self._connecting)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._queue is not None:
            await self._queue.finish(FINISH_TIMEOUT)
            self._forget_stream(self._queue)
        self._drops.show()

    async def _await_connection(
        self, queue: MessageQueue, connecting: asyncio.Task[Stream]
    ) -> None:
        """Let the current attempt succeed or fail if messages wait for it, such as at a reload."""
        if len(queue) and not connecting.done():
            await asyncio.wait([connecting], timeout=FINISH_TIMEOUT)
        if connecting.done() and not connecting.cancelled():
            connecting.exception()  # otherwise the loop would log it

    def _forget_stream(self, queue: MessageQueue) -> None:
        if queue.stream is not None:
            queue.stream = None
            self.connected.value -= 1

    async def _stay_connected(self, queue: MessageQueue) -> None:
        pause, loop = FIRST_PAUSE, asyncio.get_running_loop()
        while True:
            begun = loop.time()
            self.is_taking = True
            try:
                self._connecting = asyncio.create_task(self._connect(queue))
                stream = await self._connecting
            except Exception as error:  # whatever it is, such as no thread for a look-up
                self._failed(describe(error))
            else:
                await self._use(stream, queue)
                self._failed(CLOSED)
            self.is_taking = False
            queue.discard()
            # A collector that accepts connections and closes them must not be asked all the time.
            pause = FIRST_PAUSE if loop.time() - begun > LONGEST_PAUSE else pause
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _use(self, stream: Stream, queue: MessageQueue) -> None:
        """Write to a connection until it ends."""
        if self._is_failing:
            LOG.info("connected to %s", self.label)
            self._is_failing = False
        await asyncio.wait([stream.closed])
        self._forget_stream(queue)

    def _failed(self, reason: str) -> None:
        """Log a problem, once until the next success."""
        if not self._is_failing:
            self._is_failing = True
            LOG.error("no connection to %s: %s; messages are dropped", self.label, reason)

    async def _connect(self, queue: MessageQueue) -> Stream:
        """Return the connection of `queue` after its handshake; raises OSError or ValueError."""
        stream, endpoint = Stream(queue.flush), self.settings.endpoint
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if endpoint.scheme == "unix":
                    loop = asyncio.get_running_loop()
                    await loop.create_unix_connection(lambda: stream, endpoint.host)
                else:
                    await self._connect_tcp(stream, endpoint.host, endpoint.port)
                await stream.opened
        except BaseException:
            stream.give_up()
            raise
        self.connected.value += 1
        queue.stream = stream
        queue.flush()
        return stream

    async def _connect_tcp(self, stream: Stream, host: str, port: int) -> None:
        problem = OSError("no address found")
        for family, *_, sockaddr in await _look_up(host, port):
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                await self._connect_socket(sock, sockaddr, host, stream)
            except OSError as error:
                sock.close()
                problem = error
            except BaseException:
                sock.close()
                raise
            else:
                return
        raise problem

    async def _connect_socket(
        self, sock: socket.socket, sockaddr: tuple[object, ...], host: str, stream: Stream
    ) -> None:
        loop, is_secure = asyncio.get_running_loop(), self.settings.endpoint.scheme == "tls"
        size = self.settings.write_buffer * MEBIBYTE
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
        if is_secure and self._context is None:
            self._context = await in_thread(self._make_context)
        await loop.sock_connect(sock, sockaddr)
        await loop.create_connection(
            lambda: stream,
            sock=sock,
            ssl=self._context,
            server_hostname=host if is_secure else None,
        )

    def _make_context(self) -> ssl.SSLContext:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.settings.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context.load_default_certs()
        return context


async def _look_up(host: str, port: int) -> list[Any]:
    """Return the addresses of a host; raises OSError."""
    try:
        numeric = socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=numeric)
    except socket.gaierror:
        # A name is looked up by the system, perhaps through this server, which must go on.
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found: list[Any] = await in_thread(look_up)
        return found


def describe(error: BaseException) -> str:
    """Return the reason of a failure, for the log."""
    if isinstance(error, TimeoutError) and not error.args:
        return "timeout"
    reason = getattr(error, "verify_message", "") or getattr(error, "strerror", "")
    return reason or str(error) or type(error).__name__


def log_drops(messages: int) -> None:
    """Log a number of dropped messages, in the words of CoreDNS."""
    LOG.warning("Dropped dnstap messages: %d", messages)
