"""The handler that detects its own forwarded queries when they return.

Follows CoreDNS's plugin/loop/loop.go, with another method. CoreDNS queries itself over UDP and
counts how often the query arrives. Here a probe goes to the handler below, so only a loop can bring
it to this handler, and one arrival is proof. Shared or stored replies of the handlers above (cache)
or below (identical queries in flight, forward) cannot hide it.

A loop that appears later makes queries wait, because each waits for itself. So a probe is sent if
queries have waited too long and none was answered meanwhile, or if one has failed without a reply.
If the probe returns, the waiting queries are sent again with a mark, and later ones are marked on
their way down. Queries after a failure are also marked, regardless of the probe. The mark is an
EDNS option with a random value of this handler, because a block may forward to another block of
this process. No query is marked in normal operation, because marking costs time for every query and
disables fast paths of upstreams.

In a server of several processes only one probes. A returning query reaches any of the processes.
The others handle it as an ordinary query and forward it again, until it reaches the process that
knows it, or one in which an identical query waits. So several probes are sent, and one of them is
enough.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, ClassVar, Final

from corepy.dns.constants import SERVFAIL
from corepy.dns.edns import EDE_OTHER, ede, option
from corepy.plugin import Cacheability, Handler, StartupError, hookimpl, plugin_logger
from corepy_loop import metrics
from corepy_loop.probe import Probes
from corepy_loop.waiting import SLOW, Waiting

if TYPE_CHECKING:
    from corepy.dns import Reply, Request
    from corepy.plugin import LifecycleContext

OPTION_VISITED: Final = 65_313
"""Option code in the local range (RFC 6891 section 9); its data are the eight bytes of the mark."""

START_WAIT: Final = 1.0
"""Maximum seconds that the start waits for all probes together; queries are answered meanwhile.

A loop returns a probe as fast as messages are forwarded; a slower probe means that an upstream is
unreachable.
"""

PROBE_FOR: Final = 30.0
"""Seconds after the start during which an unanswered probe is repeated (setup.go)."""

PROBE_PAUSE: Final = 1.0
PROBES_OF_MANY: Final = 8
"""Probes at a time in a server of several processes.

With 8 processes, 2 of 100 starts need a second attempt.
"""

PROBE_AGAIN: Final = 30.0
"""Minimum seconds between two probes of a running server, after silence or failures."""

SUSPECT_FOR: Final = 60.0
"""Seconds after a failure or loop during which queries are marked."""

QUIET: Final = 60.0
"""Seconds between two log lines about the same loop."""

_EDE: Final = ede(EDE_OTHER, "forwarding loop: this server has forwarded the query before")
_ADVICE: Final = "see https://coredns.io/plugins/loop#troubleshooting"

log = plugin_logger("loop")


class Loop(Handler):
    """One *loop* directive. Its cacheability is SAFE because it depends only on the query's bytes.

    Its own replies are never cached, because the mark is an EDNS option and each probe is sent
    once.
    """

    name: ClassVar[str] = "loop"
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(self, zone: str) -> None:
        """`zone` is the zone of the probes' names."""
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
        self._seen = 0.0  # time of the last returning query
        self._next_probe = 0.0
        self._probes_at_a_time = 1
        self._quiet_until = 0.0

    async def serve_dns(self, request: Request) -> Reply:
        """Query the next handler, or answer SERVFAIL to a returning query."""
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
            self._waiting.is_stalled = False
        return reply

    def _marked(self, request: Request) -> Request:
        edns = request.edns
        return request.derive(options=self._mark if edns is None else edns.options + self._mark)

    def _failed(self, request: Request, reply: Reply) -> None:
        """Report a detected loop to the client, or probe for one."""
        now = time.monotonic()
        if self._seen and self._seen >= request.received and _EDE not in reply.options:
            reply.options = _EDE + reply.options
        # A late SERVFAIL from an upstream counts: the upstream may have waited for this server.
        if reply.error is not None or now - request.received >= SLOW:
            self._suspect_until = now + SUSPECT_FOR
            self._probe_if_due()

    def _came_back(self, request: Request) -> Reply:
        server = request.context.server
        metrics.DETECTED.labels(server, self._zone).inc()
        now = self._seen = time.monotonic()
        self._suspect_until = now + SUSPECT_FOR
        self._found = (
            f"Loop ({':'.join(map(str, request.remote))} -> {server}) detected for zone"
            f' "{self._zone}", {_ADVICE}. Query: "{request.type} {request.name}"'
        )
        if self._starting:
            self._replied()
        else:
            self._waiting.recall()
            self._log_loop(now)
        reply = request.error(SERVFAIL)
        reply.options = _EDE
        return reply

    def _log_loop(self, now: float) -> None:
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            log.error("%s; such queries are answered SERVFAIL", self._found)

    # -- at the start

    @hookimpl
    async def serving(self, context: LifecycleContext) -> None:
        """Probe, for all blocks at the same time; raises StartupError if there is a loop."""
        if not context.process_group.is_leader:
            self._note_server(context)
            return
        if self._first_reply is not None:
            return  # the first block has started all probes
        loops = [it for it in context.plugins.get_plugins() if isinstance(it, Loop)]
        await asyncio.wait([it.begin(context) for it in loops], timeout=START_WAIT)
        for it in loops:
            it.end_of_start(context)

    def _note_server(self, context: LifecycleContext) -> None:
        self._server = context.addresses[0] if context.addresses else ""
        metrics.DETECTED.labels(self._server, self._zone)

    def begin(self, context: LifecycleContext) -> asyncio.Future[None]:
        """Start to probe; the future is done after the first reply or a detected loop."""
        self._note_server(context)
        self._probes_at_a_time = 1 if context.process_group.size == 1 else PROBES_OF_MANY
        self._starting = True
        self._first_reply = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._probe_at_start(), name="corepy-loop")
        return self._first_reply

    def end_of_start(self, context: LifecycleContext) -> None:
        """Treat later loops as loops of a running server; raises StartupError if one was found."""
        self._starting = False
        if not self._found:
            return
        # Only the first start fails; on a reload the old configuration continues.
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

    # -- in operation

    def _probe_if_due(self) -> None:
        now = time.monotonic()
        if now >= self._next_probe and self._task is None:
            self._next_probe = now + PROBE_AGAIN
            self._task = asyncio.create_task(self._probe_again(), name="corepy-loop")

    async def _probe_again(self) -> None:
        """Probe for the cause of waiting or failed queries; also finds loops that drop the mark."""
        try:
            await self._probe()
        finally:
            self._task = None

    async def _probe(self) -> bool:
        """Return whether a probe was answered."""
        return any(await asyncio.gather(*(self._ask() for _ in range(self._probes_at_a_time))))

    async def _ask(self) -> bool:
        """Send one probe; return whether it was answered."""
        try:
            reply = await self.next.serve_dns(self._probes.new_probe(self._server))
        except Exception as error:
            log.warning("the probe failed: %s: %s", type(error).__name__, error)
            return False
        return reply.rcode != SERVFAIL

    @hookimpl
    def shutdown(self) -> None:
        """Stop probing."""
        self._waiting.close()
        if self._task is not None:
            self._task.cancel()
