"""The processes of a server whose Corefile has *multisocket*, led by the one that was started.

Each address that a block with *multisocket* N listens on has N pairs of sockets, all opened and
held by the leader. The first is its own; each of the others belongs to a *place*, and each place
has a follower, a process that runs the same generation at the sockets of its place. Rules:

* A place is never without somebody who answers: while its follower is not there, the leader does.
* A change of the generation goes the same steps everywhere (`Server`). A follower that refuses one
  makes the whole server refuse; one that dies, hangs or was not there is started anew with the
  outcome.
* A follower that cannot be started is an error in the log, tried again and again, and keeps the
  server from being ready; queries do not suffer.
* Nothing outlives the leader: followers are killed by the kernel when it ends.
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
"""Seconds without an answer after which a process is a problem; it is given up a second later."""

START_WAIT: Final = 10.0
"""Seconds that a change waits for new processes; the others go on without those that are late."""


class Leader(ServerCrew):
    """See the module."""

    shares_sockets = True

    def __init__(self, log_format: str, reload: Callable[[str], Awaitable[bool]]) -> None:
        """`log_format` is a flag of the command; `reload` is what a follower may ask for."""
        self.log_format = log_format
        self.wanted: Preparation | None = None
        """What processes that start now are to run."""
        self._reload = reload
        self._slots: dict[int, Slot] = {}
        self._server: Endpoints
        self._next: Preparation
        self._before: Preparation | None = None
        self._asked: dict[Slot, int] = {}

    # What plugins may know

    @property
    def followers(self) -> Sequence[int]:
        """The IDs of the processes that answer beside this one."""
        return [slot.pid for slot in self._slots.values() if slot.is_up]

    @property
    def is_ready(self) -> bool:
        """Whether all processes are there, and their plugins are ready."""
        return all(slot.is_up and slot.is_ready for slot in self._slots.values())

    def problems(self) -> list[str]:
        """Return a line for each process that holds sockets and does not answer."""
        return [
            f"process {slot.place} ({slot.pid}): no answer for {slot.silence:.1f} s"
            for slot in self._slots.values()
            if slot.is_up and slot.silence > LATE_AFTER
        ]

    async def gather(self) -> None:
        """Bring the metrics up to date with what the other processes have counted."""
        up = [slot.gather() for slot in self._slots.values() if slot.is_up]
        await asyncio.gather(*up, return_exceptions=True)

    # What the server asks

    def open_to(self, server: Endpoints) -> None:
        """Get to know the server, before anything else."""
        self._server = server

    def has(self, place: int) -> bool:
        """Return whether a follower answers at the sockets of this place."""
        slot = self._slots.get(place)
        return slot is not None and slot.is_up

    def expect(self, generation: Generation) -> None:
        """Take note of what the next steps are for."""
        assert generation.plan is not None
        size = max(generation.sockets.values(), default=1)
        self._next = Preparation(generation.plan, size, generation.sockets)
        self._before = self.wanted
        self._asked = {}
        self.size = size

    async def prepare(self) -> None:
        """Let every process build it; raises `StartupError` if one refuses."""
        staying = [slot for slot in self._slots.values() if slot.place < self.size and slot.is_up]
        for slot in staying:
            slot.preparation = self._next
            self._asked[slot] = slot.pid
        await self._all(staying, Slot.prepare)

    async def switch(self) -> None:
        """Let every process answer by it, and start those that are missing; raises `StartupError`
        if one refuses.
        """
        self.wanted = self._next
        asked = self._still_there()
        for slot in self._slots.values():
            if slot.is_up and slot.place < self.size and slot not in asked:
                slot.replace()  # it came while the others were asked
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
        """Let every process end what was before; those that nobody needs any more end whole."""
        leaving = [self._slots[place] for place in self._slots if place >= self.size]
        staying = self._still_there()
        ends = [self._end(slot) for slot in leaving]
        await asyncio.gather(self._all(staying, Slot.settle, must=False), *ends)

    async def undo(self) -> None:
        """Go back to what was before the last `prepare`."""
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
        """Let every process drain and end."""
        slots = list(self._slots.values())
        await asyncio.gather(*(self._end(slot) for slot in slots))
        self.wanted = None
        self.size = 1

    def _still_there(self) -> list[Slot]:
        """Return the slots whose process was asked to prepare and is the same now."""
        return [slot for slot, pid in self._asked.items() if slot.is_up and slot.pid == pid]

    async def command(self, name: str, argument: Any) -> list[dict[str, Any]]:
        """Return what the plugins of the followers answer; one that goes meanwhile is left out."""
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
        # Others go on with what is kept, or already do: for them it must not be drained.
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
        """Let `slots` take a step; those that fail to answer are replaced. Raises `StartupError`
        for one that refuses, if it `must` not.
        """
        outcomes = await asyncio.gather(*map(step, slots), return_exceptions=True)
        refusals = []
        for slot, outcome in zip(slots, outcomes, strict=True):
            if isinstance(outcome, ChannelClosed | TimeoutError):
                slot.replace()
            elif isinstance(outcome, Refusal | OSError):  # such as no descriptors left
                if must:
                    refusals.append(f"process {slot.place}: {outcome}")
                else:
                    slot.replace()
            elif outcome is not None:
                raise outcome
        if refusals:
            raise StartupError("; ".join(refusals))

    # What slots ask

    def endpoints_of(self, place: int, sockets: Mapping[Listen, int]) -> list[Endpoint]:
        """Return the sockets of a place that are needed where each address has so many `sockets`.

        Until a change is settled there are those of before as well.
        """
        return [
            endpoint
            for (listen, there), endpoint in self._server.shared.items()
            if there == place < sockets.get(listen, 0)
        ]

    def has_come(self, slot: Slot) -> None:
        """Leave the sockets to a process that answers at them now."""
        self._server.step_aside(slot.place)

    def has_gone(self, slot: Slot) -> None:
        """Answer in place of a process."""
        self._server.stand_in(slot.place)

    async def answer(self, what: str, body: Any, _: list[int]) -> object:
        """Do what a follower asks for."""
        if what != orders.RELOAD:
            raise Refusal(f"the leader does not know {what!r}")
        return await self._reload(str(body))
