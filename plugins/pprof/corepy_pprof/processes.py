"""Measures the other processes of the server (*multisocket*) together with the first one.

A follower connects to the leader (`corepy.plugin.ProcessGroup`), which serves the HTTP clients. For
each request the leader asks all followers for the same profile, and takes its own meanwhile. One
that cannot be measured is missing in the result, which says so.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corepy.net.channel import Channel, ChannelClosed, Refusal
from corepy.plugin import in_thread
from corepy.plugin.failures import report
from corepy_pprof.cpu import ProfilerUnavailable
from corepy_pprof.measures import HEAP_SECONDS, PROFILE_SECONDS, Part, is_of_one_moment
from corepy_pprof.measuring import BusyError
from corepy_pprof.packing import pack, unpack

if TYPE_CHECKING:
    from corepy.plugin import ProcessGroup
    from corepy_pprof.measures import Measures
    from corepy_pprof.measuring import Measurement
    from corepy_pprof.parameters import Parameters

NAME: Final = "pprof"
END: Final = "end"
"""The request to end the measurement in progress; all others are names of profiles."""

PATIENCE: Final = 30.0
"""Seconds that a follower may take in addition to the measurement, to prepare its answer."""

FLUSH_TIMEOUT: Final = 1.0
"""Seconds that the last answer may take at the end of a follower."""

_peer_of: Final = Struct("3i")


class Found(NamedTuple):
    """What the followers have returned."""

    parts: list[Part]
    problems: list[str]
    """A line for each follower that is missing."""


class Followers:
    """The other processes, as the leader sees them."""

    def __init__(self, process_group: ProcessGroup) -> None:
        """Let followers connect, until `close`."""
        self._process_group = process_group
        self._channels: dict[Channel, int] = {}
        process_group.listen(NAME, self._connected)

    def _connected(self, sock: socket.socket) -> None:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _peer_of.size)

        def lost() -> None:
            self._channels.pop(channel, None)

        channel = Channel(sock, _refuse, lost)
        self._channels[channel] = _peer_of.unpack(credentials)[0]

    @property
    def count(self) -> int:
        """The number of followers that can be measured."""
        return len(self._channels)

    async def take(self, name: str, parameters: Parameters) -> Found:
        """Return the parts of all followers; if this is cancelled, they stop measuring for it."""
        channels = dict(self._channels)
        timeout = (parameters.seconds or max(PROFILE_SECONDS, HEAP_SECONDS)) + PATIENCE
        asked = [each.ask(name, parameters, timeout=timeout) for each in channels]
        try:
            answers = await asyncio.gather(*asked, return_exceptions=True)
        except asyncio.CancelledError:
            if not is_of_one_moment(name, parameters):  # else END would end another request's
                for channel in channels:
                    channel.begin(END)
            raise
        found = Found([], [])
        for process, answer in zip(channels.values(), answers, strict=True):
            if isinstance(answer, BaseException):
                found.problems.append(f"process {process} is missing: {_reason(answer)}")
            else:
                found.parts.append(Part(process, await in_thread(partial(unpack, *answer))))
        missing = self._process_group.size - 1 - len(channels)
        if missing > 0:
            found.problems.append(f"{missing} more processes are missing: they do not run yet")
        return found

    def close(self) -> None:
        """Let no more followers connect, and end the connections."""
        self._process_group.stop_listening(NAME, self._connected)
        for channel in list(self._channels):
            channel.close()


class MeasuredFollower:
    """A follower's end of its connection to the leader."""

    def __init__(self, sock: socket.socket, measures: Measures, measurement: Measurement) -> None:
        """Answer the leader's requests with `measures`."""
        self._measures = measures
        self._measurement = measurement
        self._answering: set[asyncio.Task[Any]] = set()
        self._channel = Channel(sock, self._answer, measurement.end)

    async def _answer(self, name: str, parameters: Any, _: list[int]) -> object:
        if name == END:
            self._measurement.end()
            return None
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        try:
            part = await self._measures.take(name, parameters)
            return await in_thread(lambda: pack(part.content))
        except (BusyError, ProfilerUnavailable) as error:
            raise Refusal(str(error)) from error
        except Exception as error:  # otherwise the leader would wait for an answer
            report(NAME, "task", f"failed to measure {name}", error)
            raise Refusal(f"{type(error).__name__}: {error}") from error

    @property
    def is_open(self) -> bool:
        """Whether the leader can still ask."""
        return self._channel.is_open

    async def close(self) -> None:
        """Send the answers to requests in progress, whose measurement has ended, and disconnect."""
        if self._answering:
            await asyncio.wait(self._answering, timeout=FLUSH_TIMEOUT)
        await self._channel.flushed()
        self._channel.close()


async def _refuse(what: str, _body: Any, _fds: list[int]) -> object:
    """Be the leader's handler: followers ask nothing."""
    raise Refusal(f"unknown request {what!r}")


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, Refusal | ChannelClosed):
        return str(error)
    raise error
