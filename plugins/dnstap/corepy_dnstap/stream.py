"""`Stream`: a connection to a collector, and `MessageQueue`: what waits to be written to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from corepy_dnstap.frames import (
    ACCEPT,
    CONTENT_TYPE,
    FINISH,
    READY,
    START,
    STOP,
    ControlReader,
    FrameError,
    control,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.plugin.metrics import Value

FLUSH_INTERVAL = 0.1
"""Seconds until messages are written that are not enough for a batch.

A system call for each message would cost more than the message; CoreDNS waits for a second.
"""

BATCH: Final = 256
BATCH_BYTES: Final = 256 * 1024
"""Messages that are written at once, and bytes after which no further one is added."""

MEAN_SIZE: Final = 512
"""Bytes that the messages in a queue may have on average; a full one has up to 64 KiB.

Otherwise clients with long queries could make the server use the memory of the whole pod.
"""

DROP_LOG_INTERVAL = 10.0
"""Seconds from the first dropped message to the log line with their number, as in CoreDNS."""

CLOSED: Final = "it closed the connection"
"""The reason of an end without an error."""

_HIGH_WATER: Final = 256 * 1024
"""Bytes that the transport may keep before messages wait in the queue, where they are bounded."""


class FrameWriter(asyncio.Protocol):
    """A connection over which a `MessageQueue` sends data frames."""

    def __init__(self, on_ready: Callable[[], object]) -> None:
        """`on_ready` is called when messages can be written, after a pause, and at the end."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection has ended."""
        self.is_writable = False
        self._on_ready = on_ready
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport, and limit the bytes that it keeps."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_HIGH_WATER)

    def write(self, frames: bytes) -> None:
        """Write data frames; only while `is_writable`."""
        assert self._transport is not None
        self._transport.write(frames)

    def pause_writing(self) -> None:
        """Let messages wait in the queue."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """Write those that wait."""
        if self._transport is not None:
            self.is_writable = True
            self._on_ready()

    def stop(self) -> None:
        """Tell the other end that no more messages follow."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close the connection at once."""
        self.is_writable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake those that wait for the connection."""
        self._transport, self.is_writable = None, False
        if not self.closed.done():
            self.closed.set_result(None)
        self._on_ready()


class Stream(FrameWriter):
    """A connection to a collector; it performs the handshake."""

    def __init__(self, on_ready: Callable[[], object]) -> None:
        super().__init__(on_ready)
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the handshake is complete, or with the reason of its failure."""
        self._reader = ControlReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        super().connection_made(transport)
        assert self._transport is not None
        if self.opened.done():  # given up before
            self._transport.abort()
            return
        self._transport.write(control(READY, CONTENT_TYPE))

    def data_received(self, data: bytes) -> None:
        """Continue the handshake, or end the connection when the collector has finished."""
        try:
            for kind, content_types in self._reader.feed(data):
                self._take(kind, content_types)
        except FrameError as error:
            self._fail(error)

    def _take(self, kind: int, content_types: list[bytes]) -> None:
        if kind == FINISH:
            self.abort()
        elif kind != ACCEPT or self.opened.done():
            raise FrameError(f"it sent a control frame of the unexpected type {kind}")
        elif CONTENT_TYPE not in content_types:
            raise FrameError(f"it does not accept the content type {CONTENT_TYPE.decode()}")
        elif self._transport is not None:
            self._transport.write(control(START, CONTENT_TYPE))
            self.opened.set_result(None)
            self.is_writable = True
            self._on_ready()

    def _fail(self, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
        self.abort()

    def set_buffer(self, size: int) -> None:
        """Set the size of the kernel's buffer for a TCP connection, in bytes."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def resume_writing(self) -> None:
        """Write the messages that wait, but not before the handshake is complete."""
        if self.opened.done():
            super().resume_writing()

    def stop(self) -> None:
        """Tell the collector that no more messages follow; it answers that it has read them all."""
        if self._transport is not None:
            self.is_writable = False
            self._transport.write(control(STOP))

    def give_up(self) -> None:
        """Close a connection whose handshake nothing waits for any more."""
        if not self.opened.cancel() and not self.opened.cancelled():
            self.opened.exception()  # otherwise the loop would log it
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake those that wait for the handshake, or for the end."""
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionResetError(CLOSED))
        super().connection_lost(exc)


class Drops:
    """Counts the messages that an endpoint has lost, and logs their number now and then."""

    def __init__(self, counter: Value, log: Callable[[int], object]) -> None:
        """`log` gets the number of messages since the last line."""
        self._counter = counter
        self._log = log
        self._unlogged = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, messages: int) -> None:
        """Count `messages`."""
        self._counter.value += messages
        self._unlogged += messages
        if self._timer is None and messages:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(DROP_LOG_INTERVAL, self.show)

    def show(self) -> None:
        """Log the number now, if there are any."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lost, self._unlogged = self._unlogged, 0
        if lost:
            self._log(lost)


class MessageQueue:
    """The messages for one collector: at most `most`, and `MEAN_SIZE` bytes for each of these.

    Further ones are dropped.
    """

    def __init__(self, most: int, sent: Value | None, drops: Drops) -> None:
        """`sent` counts the messages that are written; None for those that another one counts."""
        self.stream: FrameWriter | None = None
        """The connection to write to; without one, messages wait."""
        self._most = most
        self._most_bytes = most * MEAN_SIZE
        self._bytes = 0
        self._sent = sent
        self._drops = drops
        self._frames: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._settled: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """Return the number of messages that wait."""
        return len(self._frames)

    def put(self, frame: bytes) -> None:
        """Add a data frame; it is written soon, together with others."""
        frames, size = self._frames, self._bytes + len(frame)
        if len(frames) >= self._most or size > self._most_bytes:
            self._drops.add(1)
            return
        frames.append(frame)
        self._bytes = size
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_INTERVAL, self.flush)
        elif len(frames) == BATCH:
            self.flush()

    def flush(self) -> None:
        """Write the messages that the connection accepts now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        frames, stream = self._frames, self.stream
        while frames and stream is not None and stream.is_writable:
            batch = self._next_batch()
            stream.write(b"".join(batch))
            if self._sent is not None:
                self._sent.value += len(batch)
        if self._settled is not None and (not frames or stream is None or stream.closed.done()):
            if not self._settled.done():  # `finish` has waited long enough
                self._settled.set_result(None)
            self._settled = None

    def _next_batch(self) -> list[bytes]:
        frames, size = self._frames, 0
        batch: list[bytes] = []
        while frames and len(batch) < BATCH and size < BATCH_BYTES:
            batch.append(frames.popleft())
            size += len(batch[-1])
        self._bytes -= size
        return batch

    def discard(self) -> None:
        """Drop the messages that wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drops.add(len(self._frames))
        self._frames.clear()
        self._bytes = 0

    async def finish(self, seconds: float) -> None:
        """Write what waits, and close the connection when the other end has read it.

        After `seconds` the connection is closed regardless, and what is left is dropped.
        """
        stream = self.stream
        if stream is not None and not stream.closed.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._finish(stream)
            stream.abort()
        self.discard()

    async def _finish(self, stream: FrameWriter) -> None:
        settled = self._settled = self._loop.create_future()
        self.flush()
        await settled
        stream.stop()
        await asyncio.wait([stream.closed])
