"""Passes the messages of all processes of a server to the one that listens for collectors.

With *multisocket* only the leader listens, and each collector gets the messages of all processes: a
follower connects to the leader (`corepy.plugin.ProcessGroup`) and sends its data frames there. The
leader answers with a byte whenever the first collector connects or the last one leaves, so that no
process encodes messages that nobody reads.
"""

from __future__ import annotations

import asyncio
from struct import Struct
from typing import TYPE_CHECKING, Final, cast

from corepy_dnstap.output import FINISH_TIMEOUT, LOG, Output, describe, log_drops
from corepy_dnstap.settings import MESSAGES
from corepy_dnstap.stream import Drops, FrameWriter, MessageQueue

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from corepy.plugin import ProcessGroup
    from corepy_dnstap.settings import Endpoint, Settings

RETRY = 1.0
"""Seconds until a follower tries again to connect to the leader."""

_NEEDED, _NOT_NEEDED = b"\1", b"\0"
_LENGTH: Final = Struct("!I")


def name_of(endpoint: Endpoint) -> str:
    """Return the name at which the leader listens for followers with messages for `endpoint`."""
    return f"dnstap {endpoint}"


class FollowerStream(asyncio.Protocol):
    """The leader's end of the connection of a follower."""

    def __init__(self, put: Callable[[bytes], object], *, needed: bool) -> None:
        """Call `put` with each data frame; `needed` is the first answer."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the follower has sent everything, or has ended."""
        self._put = put
        self._needed = needed
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say whether messages are needed."""
        self._transport = cast("asyncio.Transport", transport)
        self.tell(needed=self._needed)

    def tell(self, *, needed: bool) -> None:
        """Say whether messages are needed from now on."""
        self._needed = needed
        if self._transport is not None:
            self._transport.write(_NEEDED if needed else _NOT_NEEDED)

    def data_received(self, data: bytes) -> None:
        """Pass on the frames that `data` completes."""
        buffer, at = self._buffer, 0
        buffer += data
        size = len(buffer)
        while at + _LENGTH.size <= size:
            end = at + _LENGTH.size + _LENGTH.unpack_from(buffer, at)[0]
            if end > size:
                break
            self._put(bytes(buffer[at:end]))
            at = end
        del buffer[:at]

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake those that wait for the last messages."""
        self._transport = None
        self.closed.set_result(None)


class LeaderStream(FrameWriter):
    """The follower's end of its connection to the leader."""

    def __init__(self, on_ready: Callable[[], object], on_answer: Callable[[bool], object]) -> None:
        """`on_answer` is called with whether messages are needed; `on_ready` as in the base."""
        super().__init__(on_ready)
        self.answered = asyncio.Event()
        """Set by the first answer, and by the end of the connection."""
        self._on_answer = on_answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write from now on."""
        super().connection_made(transport)
        self.is_writable = True

    def data_received(self, data: bytes) -> None:
        """Take the last answer of the leader."""
        self._on_answer(data.endswith(_NEEDED))
        self.answered.set()

    def stop(self) -> None:
        """Close the connection when everything is written."""
        self.is_writable = False
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop messages from now on."""
        self._on_answer(False)
        self.answered.set()
        super().connection_lost(exc)


class RelayOutput(Output):
    """Sends the messages of a follower's handler to the leader, which has the collectors."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._drops = Drops(self.dropped, log_drops)
        self._queue: MessageQueue | None = None
        self._stream: LeaderStream | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """Whether the leader wants messages."""
        if self._stream is None:
            return "not connected to the first process"
        return "sends to the first process" if self.is_taking else "no collectors"

    async def start(self, process_group: ProcessGroup) -> None:
        """Connect to the leader, whose answer is known before the first query."""
        self._queue = MessageQueue(self.settings.queue * MESSAGES, None, self._drops)
        begun = asyncio.Event()
        self._task = asyncio.create_task(self._stay_connected(process_group, begun))
        await begun.wait()

    async def _stay_connected(self, process_group: ProcessGroup, begun: asyncio.Event) -> None:
        while True:
            try:
                stream = await self._connect(await process_group.connect(name_of(self._endpoint)))
            except Exception as error:  # whatever it is: `start` waits for this task
                LOG.error("no messages for %s: %s; tried again", self.label, describe(error))
            else:
                await stream.answered.wait()
                begun.set()
                await asyncio.wait([stream.closed])
                self._forget_stream()
            begun.set()
            await asyncio.sleep(RETRY)

    @property
    def _endpoint(self) -> Endpoint:
        return self.settings.endpoint

    async def _connect(self, sock: socket.socket) -> LeaderStream:
        queue = self._queue
        assert queue is not None
        stream = LeaderStream(queue.flush, self._answered)
        try:
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: stream, sock=sock)
        except BaseException:
            sock.close()
            raise
        queue.stream = self._stream = stream
        return stream

    def _answered(self, needed: bool) -> None:
        self.is_taking = needed

    def _forget_stream(self) -> None:
        self._stream = None
        if self._queue is not None:
            self._queue.stream = None
            self._queue.discard()

    def put(self, frame: bytes) -> None:
        """Send a data frame soon, or drop and count it."""
        assert self._queue is not None
        self._queue.put(frame)

    async def close(self) -> None:
        """Send what waits and disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._queue is not None:
            await self._queue.finish(FINISH_TIMEOUT)
        self.is_taking = False
        self._forget_stream()
        self._drops.show()
