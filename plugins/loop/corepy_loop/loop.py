"""The handler: sees what it has sent down coming back.

After CoreDNS's plugin/loop/loop.go, with another way of looking. CoreDNS asks itself over UDP and
counts how often the question comes by. Here the question is put to the handler below, so nobody
else but a loop can bring it to this one: seeing it once is enough, and no answer that is shared or
kept above (cache) or below (identical questions in flight, forward) hides it.

A loop that appears later makes queries wait, since each waits for itself. So when some have waited
for long and none was answered meanwhile, or when one has failed for want of an answer, a probe is
sent. When it comes back, those that wait are asked again with a mark, and the next ones are marked
on their way down; so are those after a failure, whatever the probe. The mark is an EDNS option with
a random value that belongs to this handler alone: a block may well forward to another block of this
process. Nothing is marked while all is well: it would cost every query time, and upstreams their
fast paths.

Where the server is several processes, one of them probes. What comes back comes to any of them, and
to the others it is a query as any; they send it round again, until it comes to the one that knows
it, or to one that waits for it already. So there are several probes, of which one is enough.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.constants import SERVFAIL
from corepy.dns.edns import EDE_OTHER, ede, option
from corepy.plugin import Handler, Purity, StartupError, hookimpl, plugin_logger
from corepy_loop import metrics
from corepy_loop.probe import Probes
from corepy_loop.waiting import SLOW, Waiting

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.plugin import LifecycleContext

OPTION_VISITED: Final = 65_313
"""From the range for local use (RFC 6891 section 9); its data are the mark's eight bytes."""

START_WAIT: Final = 1.0
"""Seconds that a start waits at most for all probes together, while queries are answered already. A
loop comes round as fast as messages are forwarded; what takes longer is an upstream that is down.
"""

PROBE_FOR: Final = 30.0
"""Seconds after the start for which a probe that had no good answer is repeated (setup.go)."""

PROBE_PAUSE: Final = 1.0
PROBES_OF_MANY: Final = 8
"""Probes at a time where the server is several processes: with 8 of them, 2 starts of 100 need a
second try.
"""

PROBE_AGAIN: Final = 30.0
"""Seconds between two probes of a running server, which are due to silence or failures."""

SUSPECT_FOR: Final = 60.0
"""Seconds after a failure, or a loop, for which queries are marked."""

QUIET: Final = 60.0
"""Seconds between two lines in the log about the same loop."""

_EDE: Final = ede(EDE_OTHER, "forwarding loop: this server has forwarded the query before")
_ADVICE: Final = "see https://coredns.io/plugins/loop#troubleshooting"

log = plugin_logger("loop")


class Loop(Handler):
    """One *loop* directive. It looks at the query's bytes only: what it answers itself is never
    kept, since the mark is an EDNS option and the probe is asked once.
    """

    name: ClassVar[str] = "loop"
    purity = Purity.PURE

    def __init__(self, zone: str) -> None:
        """`zone` is where names are probed."""
        self._zone = zone
        self._mark = option(OPTION_VISITED, secrets.token_bytes(8))
        self._probes = Probes(zone)
        self._waiting = Waiting(self._probe_if_due)
        self._server = ""
        self._task: asyncio.Task[None] | None = None
        self._first_reply: asyncio.Future[None] | None = None
        self._starting = False
        self._found = ""
        self._suspect_until = 0.0
        self._seen = 0.0  # when something came back last
        self._next_probe = 0.0
        self._probes_at_a_time = 1
        self._quiet_until = 0.0

    async def serve_dns(self, request: Request) -> Reply:
        """Ask the next handler, or answer SERVFAIL to what has been here before."""
        edns = request.edns
        if (edns is not None and self._mark in edns.options) or request in self._probes:
            return self._came_back(request)
        if self._suspect_until > request.received:
            reply = await self.next.serve_dns(self._marked(request))
        else:
            task = self._waiting.enter(request.received)
            try:
                reply = await self.next.serve_dns(request)
            except asyncio.CancelledError:
                if not self._waiting.is_recalled(task):
                    raise
                reply = await self.next.serve_dns(self._marked(request))
            finally:
                self._waiting.leave(task)
        if reply.rcode == SERVFAIL:
            self._failed(request, reply)
        else:
            self._waiting.is_silent = False
        return reply

    def _marked(self, request: Request) -> Request:
        edns = request.edns
        return request.derive(options=self._mark if edns is None else edns.options + self._mark)

    def _failed(self, request: Request, reply: Reply) -> None:
        """Say to the client that it was a loop, or look whether it is one."""
        now = time.monotonic()
        if self._seen and self._seen >= request.received and _EDE not in reply.options:
            reply.options = _EDE + reply.options
        # An upstream's SERVFAIL counts if it is late: it may have waited for us.
        if reply.error is not None or now - request.received >= SLOW:
            self._suspect_until = now + SUSPECT_FOR
            self._probe_if_due()

    def _came_back(self, request: Request) -> Reply:
        metrics.DETECTED.labels(request.server, self._zone).inc()
        now = self._seen = time.monotonic()
        self._suspect_until = now + SUSPECT_FOR
        self._found = (
            f"Loop ({':'.join(map(str, request.remote))} -> {request.server}) detected for zone"
            f' "{self._zone}", {_ADVICE}. Query: "{request.type} {request.name}"'
        )
        if self._starting:
            self._replied()
        else:
            self._waiting.recall()
            self._say(now)
        reply = request.error(SERVFAIL)
        reply.options = _EDE
        return reply

    def _say(self, now: float) -> None:
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            log.error("%s; such queries are answered SERVFAIL", self._found)

    # -- at the start

    @hookimpl
    async def serving(self, context: LifecycleContext) -> None:
        """Probe, all blocks at the same time; raises StartupError if there is a loop."""
        if not context.crew.leads:
            self._note_server(context)
            return
        if self._first_reply is not None:
            return  # the first of the blocks has seen to all
        loops = [it for it in context.plugins.get_plugins() if isinstance(it, Loop)]
        await asyncio.wait([it.begin(context) for it in loops], timeout=START_WAIT)
        for it in loops:
            it.end_of_start(context)

    def _note_server(self, context: LifecycleContext) -> None:
        self._server = context.addresses[0] if context.addresses else ""
        metrics.DETECTED.labels(self._server, self._zone)

    def begin(self, context: LifecycleContext) -> asyncio.Future[None]:
        """Start to probe; return what is done when an answer has come or a loop was found."""
        self._note_server(context)
        self._probes_at_a_time = 1 if context.crew.size == 1 else PROBES_OF_MANY
        self._starting = True
        self._first_reply = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._probe_at_start(), name="corepy-loop")
        return self._first_reply

    def end_of_start(self, context: LifecycleContext) -> None:
        """Take loops for those of a running server from now on; raises StartupError if one was
        found before.
        """
        self._starting = False
        if not self._found:
            return
        # Only a first start is fatal: on a reload the old configuration goes on.
        (log.error if context.replaces else log.critical)("%s", self._found)
        raise StartupError(f'there is a forwarding loop for zone "{self._zone}"')

    def _replied(self) -> None:
        if self._first_reply is not None and not self._first_reply.done():
            self._first_reply.set_result(None)

    async def _probe_at_start(self) -> None:
        deadline = time.monotonic() + PROBE_FOR
        try:
            while time.monotonic() < deadline and not self._found:
                answered = await self._probe()
                self._replied()
                if answered:
                    break
                await asyncio.sleep(PROBE_PAUSE)
        finally:
            self._replied()
            self._task = None

    # -- later

    def _probe_if_due(self) -> None:
        now = time.monotonic()
        if now >= self._next_probe and self._task is None:
            self._next_probe = now + PROBE_AGAIN
            self._task = asyncio.create_task(self._probe_again(), name="corepy-loop")

    async def _probe_again(self) -> None:
        """Find out whether a loop is why queries wait or fail, one that loses the mark, too."""
        try:
            await self._probe()
        finally:
            self._task = None

    async def _probe(self) -> bool:
        """Return whether there was an answer to a probe."""
        return any(await asyncio.gather(*(self._ask() for _ in range(self._probes_at_a_time))))

    async def _ask(self) -> bool:
        """Send one probe; return whether there was an answer to it."""
        try:
            reply = await self.next.serve_dns(self._probes.draw(self._server))
        except Exception as error:
            log.warning("the probe failed: %s: %s", type(error).__name__, error)
            return False
        return reply.rcode != SERVFAIL

    @hookimpl
    def shutdown(self) -> None:
        """Probe no more."""
        self._waiting.close()
        if self._task is not None:
            self._task.cancel()
