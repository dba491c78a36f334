"""Requests and responses between two processes over a socket pair, with file descriptors.

Both sides can send requests: `await channel.ask("what", body, descriptors)` returns the result of
the handler in the other process. Bodies are pickled, so both ends must run the same program and
trust each other: a parent and a child that it started.

On the wire, a message is a header (length of the body, number of the request, kind of message,
number of descriptors) and the body. Descriptors are attached to the first bytes of a message. A
read from a stream socket never continues past bytes that carry descriptors, so they always arrive
before their message is complete.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Handler = Callable[[str, Any, list[int]], Awaitable[object]]

_HEADER: Final = struct.Struct("!IIBH")
_ASK, _ANSWER, _REFUSAL = range(3)
_FDS_AT_A_TIME: Final = 200
"""Descriptors per send; the kernel's limit is 253 (SCM_MAX_FD)."""

_READ_SIZE: Final = 65536
_CONTROL_SIZE: Final = socket.CMSG_SPACE(_FDS_AT_A_TIME * 4)


class ChannelClosed(Exception):
    """The other process ended without a response."""

    def __str__(self) -> str:
        return "the other process has ended"


class Refusal(Exception):
    """The other side refused the request; its handler raised this with the reason."""


class Channel:
    """One end of a socket pair, in the running event loop."""

    def __init__(self, sock: socket.socket, handler: Handler, closed: Callable[[], None]) -> None:
        """Serve requests with `handler(what, body, descriptors)`.

        An exception of `handler` is a refusal to the other side, and one that is not a `Refusal` is
        an error of the task that carries out the request. `closed` is called once when the
        connection is closed.
        """
        sock.setblocking(False)
        self._sock = sock
        self._handler = handler
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._on_readable)
        self._number = 0
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._data = bytearray()
        self._fds: list[int] = []
        self._out: deque[tuple[bytes, list[int]]] = deque()
        self.is_open = True

    def begin(self, what: str, body: object = None, fds: Sequence[int] = ()) -> asyncio.Future[Any]:
        """Send a request; the future gets the response, `Refusal` or `ChannelClosed`.

        Raise OSError if no descriptors are left to duplicate `fds`.
        """
        future = self._loop.create_future()
        future.add_done_callback(_mark_retrieved)
        if not self.is_open:
            future.set_exception(ChannelClosed())
            return future
        mine = _duplicates(fds)
        self._number += 1
        self._asked[self._number] = future
        self._send(_ASK, self._number, (what, body), mine)
        return future

    async def ask(
        self,
        what: str,
        body: object = None,
        fds: Sequence[int] = (),
        *,
        timeout: float | None = None,
    ) -> Any:
        """Return the response; raises `Refusal`, `ChannelClosed` or TimeoutError."""
        future = self.begin(what, body, fds)
        # Not asyncio.timeout: after a blocked event loop, response and timeout are due together.
        await asyncio.wait([future], timeout=timeout)
        if not future.done():
            raise TimeoutError
        return future.result()

    async def flushed(self) -> None:
        """Wait until all messages have been passed to the kernel."""
        while self._out and self.is_open:  # noqa: ASYNC110 - polled once, at the very end
            await asyncio.sleep(0.001)

    def close(self) -> None:
        """Close the socket; pending requests fail with `ChannelClosed`."""
        if not self.is_open:
            return
        self.is_open = False
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for fd in (*self._fds, *(fd for _, fds in self._out for fd in fds)):
            os.close(fd)
        self._fds.clear()
        self._out.clear()
        asked, self._asked = self._asked, {}
        for future in asked.values():
            if not future.done():
                future.set_exception(ChannelClosed())
        self._closed()

    # Sending

    def _send(self, kind: int, number: int, body: object, mine: Sequence[int] = ()) -> None:
        """Send a message with the descriptors `mine`, and close these afterwards."""
        data = pickle.dumps(body)
        message = _HEADER.pack(len(data), number, kind, len(mine)) + data
        # One piece of the message per group of descriptors, then the rest.
        for start in range(0, len(mine), _FDS_AT_A_TIME):
            self._out.append((message[:1], list(mine[start : start + _FDS_AT_A_TIME])))
            message = message[1:]
        self._out.append((message, []))
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                data, fds = self._out[0]
                sent = socket.send_fds(self._sock, [data], fds) if fds else self._sock.send(data)
                for fd in fds:
                    os.close(fd)
                if sent < len(data):
                    self._out[0] = data[sent:], []
                else:
                    self._out.popleft()
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._sock, self._flush)
            return
        except OSError:  # the reader gets the error, too
            return
        self._loop.remove_writer(self._sock)

    # Receiving

    def _on_readable(self) -> None:
        try:
            # socket.recv_fds ignores its flags argument.
            data, control, _, _ = self._sock.recvmsg(
                _READ_SIZE, _CONTROL_SIZE, socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, control = b"", []
        for level, kind, packed in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                whole = len(packed) // 4 * 4
                self._fds += struct.unpack(f"={whole // 4}i", packed[:whole])
        if not data:
            self.close()
            return
        self._data += data
        while self.is_open and self._take_message():
            pass

    def _take_message(self) -> bool:
        """Process the first message in the buffer, if it is complete."""
        if len(self._data) < _HEADER.size:
            return False
        length, number, kind, count = _HEADER.unpack_from(self._data)
        end = _HEADER.size + length
        if len(self._data) < end:
            return False
        body = pickle.loads(self._data[_HEADER.size : end])  # noqa: S301 - from our own program
        del self._data[:end]
        fds, self._fds = self._fds[:count], self._fds[count:]
        if kind == _ASK:
            what, content = body
            task = self._loop.create_task(self._answer(number, what, content, fds))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif (future := self._asked.pop(number, None)) is not None and not future.done():
            if kind == _ANSWER:
                future.set_result(body)
            else:
                future.set_exception(Refusal(body))
        return True

    async def _answer(self, number: int, what: str, body: Any, fds: list[int]) -> None:
        try:
            self._reply(_ANSWER, number, await self._handler(what, body, fds))
        except Refusal as refusal:
            self._reply(_REFUSAL, number, str(refusal))
        except (Exception, asyncio.CancelledError) as error:  # else the other side waits for ever
            self._reply(_REFUSAL, number, f"{type(error).__name__}: {error}")
            raise

    def _reply(self, kind: int, number: int, answer: object) -> None:
        if self.is_open:
            self._send(kind, number, answer)


def _duplicates(fds: Sequence[int]) -> list[int]:
    """Return duplicates of all descriptors; raise OSError without leaking any."""
    mine: list[int] = []
    try:
        mine.extend(map(os.dup, fds))
    except OSError:
        for fd in mine:
            os.close(fd)
        raise
    return mine


def _mark_retrieved(future: asyncio.Future[Any]) -> None:
    """Mark the exception as retrieved: the caller may not wait for the future."""
    if not future.cancelled():
        future.exception()
