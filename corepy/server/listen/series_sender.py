"""Sends replies that consist of several messages, over the connection of one client.

The messages of a series are made one at a time: the next one when the client's system has accepted
the one before (back-pressure). The series of one connection are sent one after another. In a turn
of the event loop one message is made for all series of the process, since that takes milliseconds:
however many transfers run, a query waits for one message at most (`MessageTurns`).

A series is a `ChainTask`, so draining, time limits and a closed connection treat it like a query
that waits for its reply. The time limit of a query applies to each message, not to the series. The
client has `Timeouts.write` seconds to accept a message, as in CoreDNS.

If a series fails before its first message, the client gets SERVFAIL. If it fails later, the
connection is closed after the messages that were sent, because the client could not tell a later
SERVFAIL from the reply to another query (RFC 5936 section 2.2).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakKeyDictionary

from corepy.dns.constants import SERVFAIL
from corepy.dns.reply_validation import reply_problem
from corepy.dns.series import finish_message
from corepy.plugin import handlers_below
from corepy.server.contain.attribution import Attribution, of_coroutine
from corepy.server.contain.failure_report import (
    InvalidReplyError,
    report_background,
    report_failure,
)
from corepy.server.listen.chain_task import ChainTask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corepy.dns import Reply, Request
    from corepy.plugin import Handler
    from corepy.server.listen.chain_runner import ChainRunner
    from corepy.server.listen.pipeline import QueryPipeline
    from corepy.server.listen.waiting_query import WaitingQuery

_NO_LIMIT: Final = math.inf
_END: Final[Any] = object()


class SeriesConnection(Protocol):
    """What the connection of a client does for its series."""

    runner: ChainRunner

    @property
    def pipeline(self) -> QueryPipeline:
        """The pipeline of the listener."""

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""

    def begin_series(self) -> None:
        """Report each byte that the client's system does not accept at once."""

    async def send(self, wire: bytes) -> None:
        """Send a message, and wait until the client's system has accepted it."""

    def end_series(self, wire: bytes, *, is_broken: bool) -> None:
        """Continue with other queries after sending `wire`, or close if the series is broken."""


class MessageTurns:
    """Lets one message be made in each turn of an event loop, in the order of the requests."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False  # in this turn

    async def wait(self) -> None:
        """Wait for a turn in which no other message is made."""
        if self._is_taken:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._take()

    def _take(self) -> None:
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._is_taken = False
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # a series that was cancelled does not make a message
                turn.set_result(None)
                self._take()
                return


_turns: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, MessageTurns]] = WeakKeyDictionary()


def _turns_of(loop: asyncio.AbstractEventLoop) -> MessageTurns:
    if loop not in _turns:
        _turns[loop] = MessageTurns()
    return _turns[loop]


class SeriesSender:
    """Sends the series of one connection."""

    def __init__(self, connection: SeriesConnection) -> None:
        """Send over `connection`."""
        self._connection = connection
        self._turn = asyncio.Lock()

    def start(self, request: Request, reply: Reply) -> None:
        """Send the series of `reply` after those that were started before."""
        task = SeriesTask(request, reply, self._connection, self._turn)
        self._connection.runner.add(task)


class SeriesTask(ChainTask):
    """Sends one series; pending until all its messages are sent.

    `request` is a copy whose `received` is the time at which the message now being made was begun.
    It is infinite while the client is waited for.
    """

    __slots__ = ("_asked", "_connection", "_is_whole", "_iterator", "_reply", "_turn", "_turns")

    def __init__(
        self, asked: Request, reply: Reply, connection: SeriesConnection, turn: asyncio.Lock
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop)
        self._turns = _turns_of(loop)
        self._asked, self._reply, self._connection, self._turn = asked, reply, connection, turn
        self._is_whole = False
        self._iterator: Any = None
        self.request = asked.with_flags(0)
        self.request.received = _NO_LIMIT
        self._handler = _maker_of(asked, reply)
        self._chain = self._run()
        self._deliver = self._end

    @property
    def outcome(self) -> str:
        """What the client gets if the series fails now, for the log."""
        assert self._reply.series is not None
        return "closed the connection" if self._reply.series.count else super().outcome

    def expire(self) -> Attribution:
        """Cancel a series whose next message takes too long; see `ChainTask.expire`."""
        found = of_coroutine(self._iterator)
        expired = super().expire()
        if found.plugin:
            return found
        return Attribution(self._handler.name, expired.where, self._handler)

    def _abandon(self) -> None:
        """Cancel the generator once more, which closing the coroutine would not reach.

        Before CPython 3.13, `close` of a coroutine that awaits an asynchronous generator leaves the
        generator as it is.
        """
        self.step(asyncio.CancelledError())
        super()._abandon()

    async def _run(self) -> Reply:
        """Send all messages; return the last one, or SERVFAIL."""
        async with self._turn:
            try:
                return await self._send_all()
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except BaseException as error:  # plugin code may raise SystemExit
                return report_failure(self._asked, error, self._handler, self.outcome)

    async def _send_all(self) -> Reply:
        series, connection = self._reply.series, self._connection
        assert series is not None
        self._check_open()
        self._iterator, step = _stepper(series.take())
        last: Reply | None = None
        connection.begin_series()
        try:
            while (message := await self._next(step)) is not _END:
                wire = self._finish(message)
                self._check_open()
                series.count += 1
                series.size += len(wire)
                await connection.send(wire)
                last = message
        except GeneratorExit:  # abandoned: nothing can be awaited any more
            self._iterator = None
            raise
        finally:
            self.request.received = monotonic()
            await _close(self._iterator)
            self.request.received = _NO_LIMIT
        if last is None:
            raise InvalidReplyError("returned a series without a message", self._handler)
        self._is_whole = True
        return last

    def _check_open(self) -> None:
        """Cancel the series if nothing more can be sent."""
        if self._connection.is_closing:
            self._cancelled += 1
            raise asyncio.CancelledError

    async def _next(self, step: Callable[[], Awaitable[Any]]) -> Any:
        """Return the next message within the time limit of a query."""
        await self._turns.wait()
        self._check_open()
        self.request.received = monotonic()
        message = await step()
        self.request.received = _NO_LIMIT
        return message

    def _finish(self, message: Any) -> bytes:
        problem = reply_problem(self._asked, message)
        if problem is None and (message.is_dropped or message.series is not None):
            problem = "made a message that is dropped or a series itself"
        if problem is not None:
            raise InvalidReplyError(f"in a series: {problem}", self._handler)
        return finish_message(self._asked, message)

    def _end(self, query: WaitingQuery, reply: Reply) -> None:
        """Pass the outcome to all observers, then continue with the connection."""
        self._connection.runner.remove(self)
        self._iterator = None
        series = self._reply.series
        assert series is not None
        if not self._is_whole and self._cancelled and not self.has_timed_out:
            sent = f"after {series.count} messages of the reply"
            reply = self._asked.error(SERVFAIL, f"the connection was closed {sent}")
        reply.answered_by = self._reply.answered_by
        if series.count:
            reply.series = series
        for callback in series.end():
            try:
                callback(reply)
            except BaseException as error:  # plugin code may raise SystemExit
                report_background(error, "a callback for the end of a series failed")
        wire = self._connection.pipeline.complete(self._asked, reply)
        if series.count:
            self._connection.end_series(b"", is_broken=not self._is_whole)
        else:
            self._connection.end_series(wire, is_broken=False)


def _maker_of(request: Request, reply: Reply) -> Handler:
    """Return the handler that made a reply; a reply without a name is that of the first one."""
    route = request.context.route
    name = reply.answered_by or route.entry.name
    chain: Handler = route.chain
    found = [it for it in (chain, *handlers_below(chain)) if it.name == name]
    return found[0] if found else chain


def _stepper(messages: Any) -> tuple[Any, Callable[[], Awaitable[Any]]]:
    """Return the iterator of the messages, and a function that returns the next one or `_END`."""
    if hasattr(messages, "__aiter__"):
        iterator = aiter(messages)

        async def step() -> Any:
            return await anext(iterator, _END)

    else:
        iterator = iter(messages)

        async def step() -> Any:
            return next(iterator, _END)

    return iterator, step


async def _close(iterator: Any) -> None:
    """Close a generator, or any other iterator that can be closed."""
    if hasattr(iterator, "aclose"):
        await iterator.aclose()
    elif hasattr(iterator, "close"):
        iterator.close()
