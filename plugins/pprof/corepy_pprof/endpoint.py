"""The endpoint /debug/pprof/ (CoreDNS: plugin/pprof/pprof.go).

It costs nothing between profiles, except for what the options measure all the time.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from corepy.http import claim
from corepy.net.sockets import BindError
from corepy.plugin import LifecycleContext, hookimpl, plugin_logger
from corepy_pprof.answers import NAMES, Answers
from corepy_pprof.parameters import MAX_SECONDS
from corepy_pprof.shared import Shared, shared

if TYPE_CHECKING:
    from corepy.http import Claim

PATH: Final = "/debug/pprof"
TIMEOUT: Final = MAX_SECONDS + 60.0
"""Seconds for the longest profile, its encoding, and a slow client."""

LOG = plugin_logger("pprof")


class Pprof:
    """Serves the profiles of the server for one server block."""

    def __init__(self, address: str) -> None:
        """Serve at `address` (host:port)."""
        self.address = address
        self.block_rate = 0
        """Nanoseconds; stalls of the event loop that are shorter are sampled. 0: none is."""

        self.heap_frames = 0
        """Frames to record of each allocation from the start on; 0: record none."""

        self._claim: Claim | None = None
        self._shared: Shared | None = None

    @hookimpl(tryfirst=True)  # tryfirst runs last at the start
    async def before_listen(self, context: LifecycleContext) -> None:
        """Bind the address, which nodecache may just have added; the leader does it for all.

        Profiles are for debugging, so a failure does not prevent DNS service.
        """
        if context.process_group.is_leader:
            try:
                self._claim = await claim(self.address)
            except BindError as error:
                LOG.error("%s; there will be no profiles until the next reload", error)
                return
        self._shared = shared()
        self._shared.join(self, self.block_rate, self.heap_frames)
        await self._shared.connect(context.process_group)

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Serve the profiles of all processes."""
        if self._claim is None or self._shared is None:
            return
        answers = Answers(self._shared)
        self._claim.serve(PATH, answers.redirect)
        self._claim.serve(f"{PATH}/", answers.index)
        self._claim.serve(f"{PATH}/cmdline", answers.cmdline)
        self._claim.serve(f"{PATH}/symbol", answers.symbol)
        for name in NAMES:
            answer = partial(answers.measure, name)
            self._claim.serve(f"{PATH}/{name}", answer, timeout=TIMEOUT, needs_client=True)

    @hookimpl
    async def shutdown(self, context: LifecycleContext) -> None:
        """End measurements, unless the new generation goes on with them; release the address."""
        if self._shared is not None:
            await self._shared.leave(self)
        if self._claim is not None:
            await self._claim.close()
