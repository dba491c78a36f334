"""Runs a follower: `python -P -m corepy.server.workers.follower LEADER SHARD LOG-FORMAT`.

The leader (`corepy.server.workers.leader`) starts followers, and sends one all requests and sockets
over one channel. A follower exits when its leader does. It ignores signals that a terminal or a
service manager sends to all processes; the leader handles them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from corepy.corefile import CorefileError
from corepy.loading.registry import find
from corepy.net.channel import Channel, ChannelClosed, Refusal
from corepy.net.descriptors import fill_standard_descriptors, raise_descriptor_limit
from corepy.net.inherited import Inherited, key_of
from corepy.net.sockets import BindError
from corepy.plugin import CommandError, StartupError
from corepy.plugin.log import configure, server_logger
from corepy.plugin.output import WRITER, streams_that_never_wait
from corepy.server.build.builder import build
from corepy.server.commands import run_local
from corepy.server.contain.event_loop import run as run_contained
from corepy.server.gc_tuning import freeze_modules
from corepy.server.listen import transports
from corepy.server.options import EXIT_FAILURE, EXIT_OK
from corepy.server.server import Server
from corepy.server.workers import protocol
from corepy.server.workers.group import ServerProcessGroup
from corepy.server.workers.metrics_report import Reporter
from corepy.server.workers.protocol import (
    CHANNEL_FD,
    ActivatedAddress,
    Activation,
    CheckReply,
    Preparation,
    StopReply,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from corepy.loading.registry import FoundPlugin
    from corepy.net.inherited import Sockets
    from corepy.server.build.generation import Generation
    from corepy.server.listen.endpoint import Listen

_PR_SET_PDEATHSIG: Final = 1
_NOT_FOR_US: Final = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
)


class FollowerProcessGroup(ServerProcessGroup):
    """The process group as a follower sees it."""

    is_leader = False
    channel: Channel
    """The channel to the leader."""

    async def connect(self, name: str) -> socket.socket:
        """Return a connection to the leader's plugin that listens at `name`; raises OSError."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        mine.setblocking(False)
        try:
            with theirs:
                answer = self.channel.begin(protocol.CONNECT, name, [theirs.fileno()])
            await answer
        except (Refusal, ChannelClosed) as error:
            mine.close()
            raise ConnectionRefusedError(str(error)) from error
        except BaseException:
            mine.close()
            raise
        return mine


class Follower:
    """The follower's side of the channel; carries out the leader's requests."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._process_group = FollowerProcessGroup()
        self._server = Server(self._ask_to_reload, process_group=self._process_group)
        self._reporter = Reporter()
        self._found: dict[str, FoundPlugin] = {}
        self._next: Generation
        self._is_changing = False
        self._ended = asyncio.Event()
        self._handlers: dict[str, Callable[[Any, list[int]], Awaitable[object]]] = {
            protocol.PREPARE: self._prepare,
            protocol.ACTIVATE: self._activate,
            protocol.FINALIZE: self._finalize,
            protocol.ROLLBACK: self._rollback,
            protocol.CHECK: self._check,
            protocol.REPORT: self._report,
            protocol.COMMAND: self._command,
            protocol.STOP: self._stop,
        }
        sock = socket.socket(fileno=CHANNEL_FD)
        self._channel = Channel(sock, self._dispatch, self._orphaned)
        self._process_group.channel = self._channel

    async def run(self) -> None:
        """Carry out requests until the one to stop."""
        await self._ended.wait()
        await self._channel.flushed()

    async def _dispatch(self, what: str, body: Any, fds: list[int]) -> object:
        try:
            return await self._handlers[what](body, fds)
        except Refusal:
            raise
        except (CorefileError, StartupError, BindError, CommandError) as error:
            raise Refusal(str(error)) from error
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit of a third party's code must not end the task
            server_logger().exception("process %d: %s failed", self._shard, what)
            raise Refusal(f"{type(error).__name__}: {error}") from error

    async def _prepare(self, body: Preparation, fds: list[int]) -> None:
        for state in fds:
            self._server.inherit_state(state)
        plan, first = body.plan, not self._found
        if not plan.corefile.directives <= self._found.keys():
            self._found = find()
        self._process_group.size = body.size
        self._next = build(
            plan.corefile,
            plan.default_port,
            self._found,
            hosts=plan.hosts,
            rules=plan.rules,
            on_imported=freeze_modules if first else None,
        )
        self._is_changing = True
        await self._server.prepare(self._next)

    async def _activate(self, body: Activation, fds: list[int]) -> None:
        routers = self._next.routers
        self._next.routers = {address.listen: routers[address.listen] for address in body.addresses}
        given = deque(socket.socket(fileno=fd) for fd in fds)
        try:
            for address in body.addresses:
                if address.is_new:
                    self._adopt(address, given)
                elif address.listen not in self._server.endpoints:
                    raise Refusal(f"received no sockets for {address.listen.label(address.port)}")
        finally:
            for sock in given:  # those of addresses after one that failed
                sock.close()
        await self._server.activate()

    def _adopt(self, address: ActivatedAddress, given: deque[socket.socket]) -> None:
        """Listen at the first of the `given` sockets, and remove these."""
        sockets: Sockets = {}
        for _ in transports.get(address.listen.transport).networks:
            sock = given.popleft()
            sock.setblocking(False)
            key = key_of(sock, self._shard, address.listen.transport)
            sockets[key] = Inherited(sock, lent=False)
        endpoint = self._server.new_endpoint(address.listen, sockets, address.port, self._shard)
        self._server.adopt(endpoint)

    async def _finalize(self, _body: object, _: list[int]) -> None:
        if self._server.is_state_revoked:  # such as by a purge, which has not reached this process
            raise Refusal("the state that it has started from was discarded")
        self._is_changing = False
        await self._server.finalize()
        gc.collect()  # collects the old generation

    async def _rollback(self, _body: object, _: list[int]) -> None:
        if self._is_changing:
            self._is_changing = False
            await self._server.rollback()

    async def _check(self, _body: object, _: list[int]) -> CheckReply:
        generation = self._server.generation
        try:
            return CheckReply(generation is not None and all(generation.plugins.hook.ready()))
        except Exception:  # *ready* in the leader calls the same hook and logs the exception
            return CheckReply(is_ready=False)

    async def _report(self, _body: object, _: list[int]) -> object:
        return self._reporter.report()

    async def _command(self, body: protocol.Command, _: list[int]) -> object:
        return await run_local(self._server, *body)

    async def _stop(self, kept: Sequence[Listen], _: list[int]) -> StopReply:
        await self._server.stop(hand_over=kept)
        # The reply must precede the end of the channel, which means that the process exited.
        asyncio.get_running_loop().call_soon(self._ended.set)
        return StopReply(self._reporter.report())

    async def _ask_to_reload(self, reason: str) -> bool:
        try:
            return bool(await self._channel.ask(protocol.RELOAD, reason))
        except (Refusal, ChannelClosed):
            return False

    def _orphaned(self) -> None:
        """Exit when the leader has exited; PR_SET_PDEATHSIG does not work on all systems."""
        if not self._ended.is_set():
            WRITER.flush()
            os._exit(EXIT_FAILURE)


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Run a follower until the request to stop; return the exit code."""
    fill_standard_descriptors()
    leader, shard, log_format = arguments
    for number in _NOT_FOR_US:
        signal.signal(number, signal.SIG_IGN)
    # SIGKILL, because a follower that hangs would keep its share of the queries.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(leader):
        return EXIT_FAILURE
    os.set_inheritable(CHANNEL_FD, False)
    raise_descriptor_limit()
    configure(json=log_format == "json")
    with streams_that_never_wait(), contextlib.suppress(KeyboardInterrupt):
        run_contained(_follow(int(shard)))
    return EXIT_OK


async def _follow(shard: int) -> None:
    await Follower(shard).run()


if __name__ == "__main__":
    sys.exit(main())
