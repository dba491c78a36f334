"""The leader's handle on one follower process: starts it, sends it requests, replaces it.

A follower that exits or does not answer loses only the queries that it had received: the leader
holds its sockets, too, and answers at them until the next follower does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from corepy.net.channel import Channel, ChannelClosed, Refusal
from corepy.net.cpu_starvation import cpu_times, is_starved, is_stopped
from corepy.plugin import StartupError
from corepy.plugin.control_client import PATIENCE
from corepy.plugin.log import server_logger
from corepy.server.workers import metrics_report, protocol
from corepy.server.workers.protocol import CHANNEL_FD, ActivatedAddress, Activation, Preparation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corepy.server.listen.endpoint import Endpoint, Listen
    from corepy.server.workers.protocol import CheckReply

INTERVAL: Final = 0.5
"""Seconds between two checks of a follower."""

SILENT_AFTER: Final = 4
"""Intervals that the reply to a check may take.

Counted in intervals, not in seconds: while the leader itself is stopped, with its machine or its
control group, it sends no checks.
"""

STARVED_AFTER: Final = 20
"""The same for a follower that waits for a CPU most of the time (`corepy.net.cpu_starvation`)."""

GATHER_TIMEOUT: Final = 1.5
"""Seconds that a scrape waits for a follower's metrics."""

STEP_TIMEOUT: Final = 10.0
"""Seconds for a step of a change: plugins are imported, hooks are called."""

STOP_TIMEOUT: Final = 8.0
"""Seconds to drain and exit; longer than a server takes for it."""

BACKOFF: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 30.0)
"""Seconds before the next start, by the number of consecutive failures; the last one repeats."""

STABLE_AFTER: Final = 10.0
"""Seconds of service after which the count of failures starts again."""

SHORT_LIFE: Final = 0.1
"""Weight of the failure of a process that did serve, as in `corepy.supervise`."""


class HandleOwner(Protocol):
    """The leader, as its handles use it; see `leader.Leader`."""

    log_format: str
    wanted: Preparation | None

    @property
    def state_descriptor(self) -> int | None:
        """A snapshot of the state for followers that start, None without one."""

    def endpoints_of(self, shard: int, sockets: Mapping[Listen, int]) -> list[Endpoint]:
        """Return the endpoints of a shard that exist if each address has so many `sockets`."""

    def follower_up(self, handle: FollowerHandle) -> None:
        """Leave the sockets to a follower that answers at them now."""

    def follower_down(self, handle: FollowerHandle) -> None:
        """Answer at the sockets of a follower that does not run."""

    async def answer(self, what: str, body: Any, _: list[int]) -> object:
        """Carry out a follower's request."""


class FollowerHandle:
    """Keeps one follower process running, and sends it the leader's requests."""

    def __init__(self, leader: HandleOwner, shard: int) -> None:
        """Start a follower in the background for `shard`, which is counted from 1."""
        self.shard = shard
        self.is_up = False
        """Whether the follower answers at its sockets."""
        self.is_ready = False
        self.pid = 0
        """The ID of the running or the last process."""
        self.tried = asyncio.Event()
        """Set once the first start has succeeded or failed."""
        self.preparation: Preparation | None = None
        """The preparation that the follower runs or received last."""
        self._leader = leader
        self._channel: Channel | None = None
        self._gone = asyncio.Event()
        self._is_reaped = True
        self._given: set[Listen] = set()
        self._had: set[Listen] = set()
        self._steps = 0
        self._asked_at: float | None = None
        self._failures = 0.0
        self._task = asyncio.create_task(self._run(), name=f"corepy-follower-{shard}")

    @property
    def silence(self) -> float:
        """Seconds that the reply to the last check has been outstanding."""
        is_waiting = self._asked_at is not None and not self._steps
        return time.monotonic() - self._asked_at if is_waiting and self._asked_at else 0.0

    # Life cycle of the process

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            reason, served = "", False
            try:
                await self._start()
                self.is_up = served = True
                self._leader.follower_up(self)
                self.tried.set()
                reason = await self._monitor()
            except (StartupError, Refusal, ChannelClosed, TimeoutError, OSError) as error:
                reason = f"cannot start: {str(error) or type(error).__name__}"
            except Exception:
                server_logger().exception("process %d of the server", self.shard)
            self.is_up = False
            self._leader.follower_down(self)
            await self._kill_and_reap()
            if served and time.monotonic() - began > STABLE_AFTER:
                self._failures = 0.0
            delay = BACKOFF[min(int(self._failures), len(BACKOFF) - 1)]
            self._failures += SHORT_LIFE if served else 1
            server_logger().error(
                "process %d of the server (%d) %s; restarting it in %g s, until then this process"
                " answers its queries",
                self.shard,
                self.pid,
                reason or "failed",
                delay,
            )
            self.tried.set()
            await asyncio.sleep(delay)

    async def _start(self) -> None:
        """Start a process and apply the wanted preparation; repeat if that changes meanwhile."""
        self._gone.clear()
        self._given = set()
        self.is_ready = False
        self._spawn()
        while self.preparation is not self._leader.wanted:
            self.preparation = self._leader.wanted
            await self.prepare()
            await self.activate()
            await self.finalize()

    def _spawn(self) -> None:
        self.preparation = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                self.pid = os.posix_spawn(
                    sys.executable,
                    [
                        # -P: no modules from the working directory
                        *(sys.executable, "-P", "-m", "corepy.server.workers.follower"),
                        *(str(os.getpid()), str(self.shard), self._leader.log_format),
                    ],
                    os.environ,
                    file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), CHANNEL_FD)],
                    setpgroup=0,  # terminal signals are for the leader only
                )
            except OSError:
                ours.close()
                raise
        self._is_reaped = False
        self._channel = Channel(ours, self._leader.answer, self._gone.set)

    async def _monitor(self) -> str:
        """Check the follower periodically; return its problem once it has one."""
        turns = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._gone.wait()
            if self._gone.is_set():
                return "has ended"
            turns += 1
            try:
                state, _ = await asyncio.gather(
                    self._check_alive(), self._gather_periodically(turns)
                )
                self.is_ready = state.is_ready
            except ChannelClosed:
                return "has ended"
            except TimeoutError:
                if not self._steps:  # steps have a timeout of their own
                    return f"does not answer for {self.silence:.1f} s"

    async def _gather_periodically(self, turn: int) -> None:
        """Gather metrics every other turn; late replies are ignored: `_check_alive` finds hangs."""
        if turn % 2:
            with contextlib.suppress(TimeoutError):
                await self.gather()

    async def _check_alive(self) -> CheckReply:
        """Check that the follower is alive; raises TimeoutError if it does not reply.

        Until the reply the leader answers at its sockets, too: the follower may be busy changing
        its generation, or hang during the change.
        """
        if self._channel is None:
            raise ChannelClosed
        answer = self._channel.begin(protocol.CHECK)
        self._asked_at, before = time.monotonic(), cpu_times(self.pid)
        for turn in range(STARVED_AFTER):
            await asyncio.wait([answer], timeout=INTERVAL)
            if answer.done():
                self._asked_at = None
                state: CheckReply = answer.result()
                self._leader.follower_up(self)
                return state
            self._leader.follower_down(self)
            if turn + 1 >= SILENT_AFTER and not is_starved(before, cpu_times(self.pid)):
                break
        raise TimeoutError

    async def _kill_and_reap(self) -> None:
        """Make sure that the process has exited, and clear its state."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        metrics_report.forget(self)
        self.is_ready = False
        self._asked_at = None
        if not self._is_reaped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            while not self._reap():  # noqa: ASYNC110 - SIGKILL takes effect within moments
                await asyncio.sleep(0.005)

    def _reap(self) -> bool:
        try:
            self._is_reaped = os.waitpid(self.pid, os.WNOHANG)[0] == self.pid
        except ChildProcessError:  # other code waits for all children, and reaped it first
            self._is_reaped = True
        return self._is_reaped

    def replace(self) -> None:
        """Close the channel, so that a new process is started; do nothing without a channel."""
        self.is_up = False
        if self._channel is not None:
            self._channel.close()

    # Requests to the follower

    async def _ask(
        self,
        what: str,
        body: object = None,
        fds: Sequence[int] = (),
        timeout: float = STEP_TIMEOUT,
    ) -> Any:
        if self._channel is None:
            raise ChannelClosed
        answer, end, halted = self._channel.begin(what, body, fds), time.monotonic() + timeout, 0
        while not answer.done():
            if time.monotonic() >= end or halted >= SILENT_AFTER:
                raise TimeoutError
            await asyncio.wait([answer], timeout=min(timeout, INTERVAL))
            halted = halted + 1 if is_stopped(self.pid) else 0
        return answer.result()

    async def prepare(self) -> None:
        """Make the follower build its `preparation`; raises like `Channel.ask`."""
        self._had = self._given
        self._steps += 1
        state = None if self.is_up else self._leader.state_descriptor
        try:
            await self._ask(protocol.PREPARE, self.preparation, [] if state is None else [state])
        finally:
            self._steps -= 1

    async def activate(self) -> None:
        """Make the follower answer with the new generation, at the sockets of its shard."""
        assert self.preparation is not None
        endpoints = self._leader.endpoints_of(self.shard, self.preparation.sockets)
        new = [endpoint for endpoint in endpoints if endpoint.listen not in self._given]
        addresses = [_activated(endpoint, is_new=endpoint in new) for endpoint in endpoints]
        fds = [sock.fileno() for endpoint in new for sock in endpoint.sockets]
        await self._ask(protocol.ACTIVATE, Activation(addresses), fds)
        self._given = {endpoint.listen for endpoint in endpoints}

    async def finalize(self) -> None:
        """Make the follower stop the old generation."""
        await self._ask(protocol.FINALIZE, timeout=STOP_TIMEOUT)

    async def rollback(self, before: Preparation | None) -> None:
        """Make the follower return to the generation before."""
        await self._ask(protocol.ROLLBACK)
        self.preparation = before
        self._given = self._had

    async def gather(self) -> None:
        """Add the follower's metrics to those of this process."""
        found = await self._ask(protocol.REPORT, timeout=GATHER_TIMEOUT)
        if self.is_up:
            metrics_report.add(self, found)

    async def command(self, command: protocol.Command) -> list[dict[str, Any]]:
        """Make the follower's plugins carry out an operator's command; return their results."""
        found: list[dict[str, Any]] = await self._ask(protocol.COMMAND, command, timeout=PATIENCE)
        return found

    async def stop(self, kept: Sequence[Listen]) -> None:
        """Make the follower drain and exit, and start no other.

        It leaves the queues of the addresses `kept` to the next process.
        """
        self._task.cancel()
        await asyncio.wait([self._task])
        if self.is_up:
            try:
                await (
                    self._check_alive()
                )  # so that a hanging one is not waited for until the timeout
                reply = await self._ask(protocol.STOP, kept, timeout=STOP_TIMEOUT)
                metrics_report.add(self, reply.report)
            except (ChannelClosed, Refusal):
                pass
            except TimeoutError:
                server_logger().error("process %d does not end: killing it", self.pid)
        self.is_up = False
        await self._kill_and_reap()


def _activated(endpoint: Endpoint, *, is_new: bool) -> ActivatedAddress:
    return ActivatedAddress(endpoint.listen, endpoint.port, is_new)
