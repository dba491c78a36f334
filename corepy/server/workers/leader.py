"""Leads the processes of a server whose Corefile has *multisocket*.

The process that was started is the leader. For each listen address of a block with *multisocket* N
it opens and holds N pairs of sockets. The leader answers at the first pair. Each of the others
belongs to a shard, and each shard has a follower: a process that runs the same generation at the
sockets of its shard. Rules:

* Every shard is served at all times: the leader answers while its follower does not run.
* A change of the generation takes the same steps in all processes (`Server`). If a follower refuses
  a step, the whole server refuses the change. A follower that crashes, hangs or was not running is
  restarted with the outcome.
* A follower that cannot be started is logged as an error and retried. Meanwhile the server is not
  ready, but queries are answered.
* No follower outlives the leader: the kernel kills followers when the leader exits.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Final

from corepy.net.channel import ChannelClosed, Refusal
from corepy.plugin import CommandError, StartupError
from corepy.plugin.log import server_logger
from corepy.server.contain.failure_report import report_background
from corepy.server.workers import protocol
from corepy.server.workers.group import ServerProcessGroup
from corepy.server.workers.handle import FollowerHandle
from corepy.server.workers.protocol import Preparation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from corepy.server.build.generation import Generation
    from corepy.server.listen.endpoint import Endpoint, Listen
    from corepy.server.workers.group import Endpoints

LATE_AFTER: Final = 1.0
"""Seconds without a reply after which a follower is reported; it is replaced a second later."""

START_WAIT: Final = 10.0
"""Seconds that a change waits for new followers; the others continue without the late ones."""


class Leader(ServerProcessGroup):
    """Starts the followers, and drives them through changes of the generation."""

    shares_sockets = True

    def __init__(self, log_format: str, reload: Callable[[str], Awaitable[bool]]) -> None:
        """`log_format` is a flag for the followers; `reload` is called on their request."""
        self.log_format = log_format
        self.wanted: Preparation | None = None
        """The preparation for followers that start now."""
        self._reload = reload
        self._handles: dict[int, FollowerHandle] = {}
        self._server: Endpoints
        self._next: Preparation
        self._before: Preparation | None = None
        self._asked: dict[FollowerHandle, int] = {}
        self._listening: dict[str, Callable[[socket.socket], object]] = {}

    # State for plugins

    @property
    def followers(self) -> Sequence[int]:
        """The process IDs of the followers that answer."""
        return [handle.pid for handle in self._handles.values() if handle.is_up]

    @property
    def is_ready(self) -> bool:
        """Whether all followers run and their plugins are ready."""
        return all(handle.is_up and handle.is_ready for handle in self._handles.values())

    def problems(self) -> list[str]:
        """Return a line for each follower that holds sockets and does not reply."""
        return [
            f"process {handle.shard} ({handle.pid}): no answer for {handle.silence:.1f} s"
            for handle in self._handles.values()
            if handle.is_up and handle.silence > LATE_AFTER
        ]

    async def gather(self) -> None:
        """Add the current metrics of the followers to those of this process."""
        up = [handle.gather() for handle in self._handles.values() if handle.is_up]
        await asyncio.gather(*up, return_exceptions=True)

    # Called by plugins

    def listen(self, name: str, connected: Callable[[socket.socket], object]) -> None:
        """Pass the sockets of followers that connect to `name` to `connected`."""
        if name in self._listening:
            raise ValueError(f"the name {name!r} is in use")
        self._listening[name] = connected

    def stop_listening(self, name: str, connected: Callable[[socket.socket], object]) -> None:
        """Refuse further connections to `name`, unless another function gets them."""
        if self._listening.get(name) == connected:  # methods are equal, not identical
            del self._listening[name]

    # Called by the server

    def open_to(self, server: Endpoints) -> None:
        """Store the server; called before any other method."""
        self._server = server

    def has(self, shard: int) -> bool:
        """Return whether a follower answers at the sockets of this shard."""
        handle = self._handles.get(shard)
        return handle is not None and handle.is_up

    def expect(self, generation: Generation) -> None:
        """Store the generation of the next steps."""
        assert generation.plan is not None
        size = max(generation.sockets.values(), default=1)
        self._next = Preparation(generation.plan, size, generation.sockets)
        self._before = self.wanted
        self._asked = {}
        self.size = size

    async def prepare(self) -> None:
        """Make every follower build the generation; raises `StartupError` if one refuses."""
        staying = [
            handle for handle in self._handles.values() if handle.shard < self.size and handle.is_up
        ]
        for handle in staying:
            handle.preparation = self._next
            self._asked[handle] = handle.pid
        await self._all(staying, FollowerHandle.prepare)

    async def activate(self) -> None:
        """Make every follower answer with the generation, and start those that are missing.

        Raises `StartupError` if one refuses.
        """
        self.wanted = self._next
        asked = self._still_there()
        for handle in self._handles.values():
            if handle.is_up and handle.shard < self.size and handle not in asked:
                handle.replace()  # it started during `prepare` of the others
        await self._all(asked, FollowerHandle.activate)
        new = [
            self._handles.setdefault(shard, FollowerHandle(self, shard))
            for shard in range(1, self.size)
            if shard not in self._handles
        ]
        late = asyncio.gather(*(handle.tried.wait() for handle in new))
        try:
            async with asyncio.timeout(START_WAIT):
                await late
        except TimeoutError:
            server_logger().warning("not all %d processes have started yet", self.size)

    async def finalize(self) -> None:
        """Make every follower stop the old generation; stop the followers no longer needed."""
        leaving = [self._handles[shard] for shard in self._handles if shard >= self.size]
        staying = self._still_there()
        ends = [self._end(handle) for handle in leaving]
        await asyncio.gather(self._all(staying, FollowerHandle.finalize, must=False), *ends)

    async def rollback(self) -> None:
        """Return every follower to the generation before the last `prepare`."""
        self.wanted = self._before
        self.size = self._before.size if self._before else 1
        for handle in [handle for handle in self._handles.values() if handle.shard >= self.size]:
            await self._end(handle)
        asked = self._still_there()
        for handle in self._handles.values():
            if handle.preparation is self._next and handle not in asked:
                handle.replace()
        await self._all(asked, lambda handle: handle.rollback(self._before), must=False)

    async def stop(self) -> None:
        """Make every follower drain and exit."""
        handles = list(self._handles.values())
        await asyncio.gather(*(self._end(handle) for handle in handles))
        self.wanted = None
        self.size = 1

    def _still_there(self) -> list[FollowerHandle]:
        """Return the handles whose process received `prepare` and still runs."""
        return [handle for handle, pid in self._asked.items() if handle.is_up and handle.pid == pid]

    async def command(self, name: str, argument: Any) -> list[dict[str, Any]]:
        """Return the results of the followers' plugins; skip followers that exit meanwhile."""
        command = protocol.Command(name, argument)
        up = [handle.command(command) for handle in self._handles.values() if handle.is_up]
        results: list[dict[str, Any]] = []
        for outcome in await asyncio.gather(*up, return_exceptions=True):
            if isinstance(outcome, Refusal):
                raise CommandError(str(outcome))
            if isinstance(outcome, list):
                results += outcome
            elif not isinstance(outcome, ChannelClosed | TimeoutError):
                raise outcome
        return results

    async def _end(self, handle: FollowerHandle) -> None:
        # Another process uses the kept sockets, now or later: their queues must not be drained.
        kept = [
            endpoint.listen
            for (_, shard), endpoint in self._server.shared.items()
            if shard == handle.shard and endpoint.kept
        ]
        await handle.stop(kept)
        del self._handles[handle.shard]

    async def _all(
        self,
        handles: Sequence[FollowerHandle],
        step: Callable[[FollowerHandle], Awaitable[None]],
        *,
        must: bool = True,
    ) -> None:
        """Make `handles` take a step; replace those that do not reply.

        Raises `StartupError` if one refuses and the step `must` succeed; otherwise that one is
        replaced.
        """
        outcomes = await asyncio.gather(*map(step, handles), return_exceptions=True)
        refusals = []
        for handle, outcome in zip(handles, outcomes, strict=True):
            if isinstance(outcome, ChannelClosed | TimeoutError):
                handle.replace()
            elif isinstance(outcome, Refusal | OSError):  # such as EMFILE
                if must:
                    refusals.append(f"process {handle.shard}: {outcome}")
                else:
                    handle.replace()
            elif outcome is not None:
                raise outcome
        if refusals:
            raise StartupError("; ".join(refusals))

    # Called by handles

    def endpoints_of(self, shard: int, sockets: Mapping[Listen, int]) -> list[Endpoint]:
        """Return the endpoints of a shard that exist if each address has so many `sockets`.

        Until a change is settled, the server also has the endpoints from before.
        """
        return [
            endpoint
            for (listen, there), endpoint in self._server.shared.items()
            if there == shard < sockets.get(listen, 0)
        ]

    @property
    def state_descriptor(self) -> int | None:
        """A snapshot of the state for followers that start, None without one."""
        return self._server.state_descriptor

    def follower_up(self, handle: FollowerHandle) -> None:
        """Leave the sockets to a follower that answers at them now."""
        self._server.hand_back_shard(handle.shard)

    def follower_down(self, handle: FollowerHandle) -> None:
        """Answer at the sockets of a follower that does not run."""
        self._server.take_over_shard(handle.shard)

    async def answer(self, what: str, body: Any, fds: list[int]) -> object:
        """Carry out a follower's request."""
        if what == protocol.CONNECT:
            self._pass_on(body, socket.socket(fileno=fds[0]))
            return None
        if what != protocol.RELOAD:
            raise Refusal(f"unknown request {what!r}")
        return await self._reload(str(body))

    def _pass_on(self, name: str, sock: socket.socket) -> None:
        """Pass the connection of a follower to the plugin that listens; raises `Refusal`."""
        connected = self._listening.get(name)
        if connected is None:
            sock.close()
            raise Refusal(f"nothing listens at {name!r}")
        sock.setblocking(False)
        try:
            connected(sock)
        except Exception as error:  # plugin code must not end the task that answers the follower
            sock.close()
            report_background(error, f"the connection of a process to {name!r} has failed")
            raise Refusal(f"{name!r} has failed") from error
