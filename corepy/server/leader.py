"""Leads the processes of a server whose Corefile has *multisocket*.

The process that was started is the leader. For each listen address of a block with *multisocket* N
it opens and holds N pairs of sockets. The leader answers at the first pair. Each of the others
belongs to a *place*, and each place has a follower: a process that runs the same generation at the
sockets of its place. Rules:

* Every place is served at all times: the leader answers while its follower does not run.
* A change of the generation takes the same steps in all processes (`Server`). If a follower refuses
  a step, the whole server refuses the change. A follower that crashes, hangs or was not running is
  restarted with the outcome.
* A follower that cannot be started is logged as an error and retried. Meanwhile the server is not
  ready, but queries are answered.
* No follower outlives the leader: the kernel kills followers when the leader exits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from corepy.net.channel import ChannelClosed, Refusal
from corepy.plugin import CommandError, StartupError
from corepy.plugin.log import server_logger
from corepy.server import orders
from corepy.server.crew import ServerCrew
from corepy.server.orders import Preparation
from corepy.server.slot import Slot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from corepy.server.crew import Endpoints
    from corepy.server.endpoint import Endpoint, Listen
    from corepy.server.generation import Generation

LATE_AFTER: Final = 1.0
"""Seconds without a reply after which a follower is reported; it is replaced a second later."""

START_WAIT: Final = 10.0
"""Seconds that a change waits for new followers; the others continue without the late ones."""


class Leader(ServerCrew):
    """Starts the followers, and drives them through changes of the generation."""

    shares_sockets = True

    def __init__(self, log_format: str, reload: Callable[[str], Awaitable[bool]]) -> None:
        """`log_format` is a flag for the followers; `reload` is called on their request."""
        self.log_format = log_format
        self.wanted: Preparation | None = None
        """The preparation for followers that start now."""
        self._reload = reload
        self._slots: dict[int, Slot] = {}
        self._server: Endpoints
        self._next: Preparation
        self._before: Preparation | None = None
        self._asked: dict[Slot, int] = {}

    # State for plugins

    @property
    def followers(self) -> Sequence[int]:
        """The process IDs of the followers that answer."""
        return [slot.pid for slot in self._slots.values() if slot.is_up]

    @property
    def is_ready(self) -> bool:
        """Whether all followers run and their plugins are ready."""
        return all(slot.is_up and slot.is_ready for slot in self._slots.values())

    def problems(self) -> list[str]:
        """Return a line for each follower that holds sockets and does not reply."""
        return [
            f"process {slot.place} ({slot.pid}): no answer for {slot.silence:.1f} s"
            for slot in self._slots.values()
            if slot.is_up and slot.silence > LATE_AFTER
        ]

    async def gather(self) -> None:
        """Add the current metrics of the followers to those of this process."""
        up = [slot.gather() for slot in self._slots.values() if slot.is_up]
        await asyncio.gather(*up, return_exceptions=True)

    # Called by the server

    def open_to(self, server: Endpoints) -> None:
        """Store the server; called before any other method."""
        self._server = server

    def has(self, place: int) -> bool:
        """Return whether a follower answers at the sockets of this place."""
        slot = self._slots.get(place)
        return slot is not None and slot.is_up

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
        staying = [slot for slot in self._slots.values() if slot.place < self.size and slot.is_up]
        for slot in staying:
            slot.preparation = self._next
            self._asked[slot] = slot.pid
        await self._all(staying, Slot.prepare)

    async def switch(self) -> None:
        """Make every follower answer with the generation, and start those that are missing.

        Raises `StartupError` if one refuses.
        """
        self.wanted = self._next
        asked = self._still_there()
        for slot in self._slots.values():
            if slot.is_up and slot.place < self.size and slot not in asked:
                slot.replace()  # it started during `prepare` of the others
        await self._all(asked, Slot.switch)
        new = [
            self._slots.setdefault(place, Slot(self, place))
            for place in range(1, self.size)
            if place not in self._slots
        ]
        late = asyncio.gather(*(slot.tried.wait() for slot in new))
        try:
            async with asyncio.timeout(START_WAIT):
                await late
        except TimeoutError:
            server_logger().warning("not all %d processes have started yet", self.size)

    async def settle(self) -> None:
        """Make every follower stop the old generation; stop the followers no longer needed."""
        leaving = [self._slots[place] for place in self._slots if place >= self.size]
        staying = self._still_there()
        ends = [self._end(slot) for slot in leaving]
        await asyncio.gather(self._all(staying, Slot.settle, must=False), *ends)

    async def undo(self) -> None:
        """Return every follower to the generation before the last `prepare`."""
        self.wanted = self._before
        self.size = self._before.size if self._before else 1
        for slot in [slot for slot in self._slots.values() if slot.place >= self.size]:
            await self._end(slot)
        asked = self._still_there()
        for slot in self._slots.values():
            if slot.preparation is self._next and slot not in asked:
                slot.replace()
        await self._all(asked, lambda slot: slot.undo(self._before), must=False)

    async def stop(self) -> None:
        """Make every follower drain and exit."""
        slots = list(self._slots.values())
        await asyncio.gather(*(self._end(slot) for slot in slots))
        self.wanted = None
        self.size = 1

    def _still_there(self) -> list[Slot]:
        """Return the slots whose process received `prepare` and still runs."""
        return [slot for slot, pid in self._asked.items() if slot.is_up and slot.pid == pid]

    async def command(self, name: str, argument: Any) -> list[dict[str, Any]]:
        """Return the results of the followers' plugins; skip followers that exit meanwhile."""
        command = orders.Command(name, argument)
        up = [slot.command(command) for slot in self._slots.values() if slot.is_up]
        results: list[dict[str, Any]] = []
        for outcome in await asyncio.gather(*up, return_exceptions=True):
            if isinstance(outcome, Refusal):
                raise CommandError(str(outcome))
            if isinstance(outcome, list):
                results += outcome
            elif not isinstance(outcome, ChannelClosed | TimeoutError):
                raise outcome
        return results

    async def _end(self, slot: Slot) -> None:
        # Another process uses the kept sockets, now or later: their queues must not be drained.
        kept = [
            endpoint.listen
            for (_, place), endpoint in self._server.shared.items()
            if place == slot.place and endpoint.kept
        ]
        await slot.stop(kept)
        del self._slots[slot.place]

    async def _all(
        self, slots: Sequence[Slot], step: Callable[[Slot], Awaitable[None]], *, must: bool = True
    ) -> None:
        """Make `slots` take a step; replace those that do not reply.

        Raises `StartupError` if one refuses and the step `must` succeed; otherwise that one is
        replaced.
        """
        outcomes = await asyncio.gather(*map(step, slots), return_exceptions=True)
        refusals = []
        for slot, outcome in zip(slots, outcomes, strict=True):
            if isinstance(outcome, ChannelClosed | TimeoutError):
                slot.replace()
            elif isinstance(outcome, Refusal | OSError):  # such as EMFILE
                if must:
                    refusals.append(f"process {slot.place}: {outcome}")
                else:
                    slot.replace()
            elif outcome is not None:
                raise outcome
        if refusals:
            raise StartupError("; ".join(refusals))

    # Called by slots

    def endpoints_of(self, place: int, sockets: Mapping[Listen, int]) -> list[Endpoint]:
        """Return the endpoints of a place that exist if each address has so many `sockets`.

        Until a change is settled, the server also has the endpoints from before.
        """
        return [
            endpoint
            for (listen, there), endpoint in self._server.shared.items()
            if there == place < sockets.get(listen, 0)
        ]

    def has_come(self, slot: Slot) -> None:
        """Leave the sockets to a follower that answers at them now."""
        self._server.step_aside(slot.place)

    def has_gone(self, slot: Slot) -> None:
        """Answer at the sockets of a follower that does not run."""
        self._server.stand_in(slot.place)

    async def answer(self, what: str, body: Any, _: list[int]) -> object:
        """Carry out a follower's request."""
        if what != orders.RELOAD:
            raise Refusal(f"the leader does not know {what!r}")
        return await self._reload(str(body))
