"""The handler: its place in the chain, its hooks and its coroutines.

This module is not compiled (docs/design.md); `clients` has the work of most queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from corepy.dns import Reply
from corepy.dns.constants import NOERROR
from corepy.plugin import (
    Cacheability,
    ExplainedHandler,
    FastHandler,
    StartupError,
    hookimpl,
)
from corepy.plugin.memory_limit import cgroup_limit
from corepy.plugin.protocols import AttemptObserver, MessageTap
from corepy_forward.clients import Clients
from corepy_forward.limits import LIMIT
from corepy_forward.pool import Pool
from corepy_forward.resolve import look_up
from corepy_forward.targets import without_repeats
from corepy_forward.usable import Watch, changes, choose, log_problems, own_addresses, own_among

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from corepy.dns import Request
    from corepy.plugin import BlockConfig, Handler, LifecycleContext
    from corepy.plugin.handler import Answer
    from corepy_forward.discovery import Discovery
    from corepy_forward.settings import Settings
    from corepy_forward.targets import Target
    from corepy_forward.upstream import Upstream
    from corepy_forward.usable import OwnAddress


class Forward(FastHandler, ExplainedHandler):
    """Forwards the queries that match one `forward` line of a Corefile."""

    name: ClassVar[str] = "forward"
    cacheability = Cacheability.SAFE
    any_class: ClassVar[bool] = True

    def __init__(
        self, settings: Settings, config: BlockConfig, with_metadata: bool = False
    ) -> None:
        """Take the settings of the line and the configuration of its server block.

        `with_metadata`: store the upstream that answered in each query, as `forward/upstream`.
        """
        self.settings = settings
        self._config = config
        self.pool: Pool | None = None
        self.is_last = True
        """Whether the line is the last one of its block.

        `next` does not show it, because other handlers may be between two lines.
        """

        self._watch: Watch | None = None
        self._discovery: Discovery | None = None
        self._taps: Sequence[MessageTap] = ()
        self.with_metadata = with_metadata
        self._problems: list[str] = []
        self._clients = Clients(settings)

    @property
    def inputs(self) -> bytes | None:
        """The upstreams in use: those of a host name or a file may differ although it does not."""
        if self.pool is None:
            return None
        used = [upstream.target for upstream in self.pool.upstreams]
        if self._discovery is not None:
            used = list(self._discovery.configured)
        return repr(sorted({(it.transport, it.address, it.server_name) for it in used})).encode()

    def begin_dns(self, request: Request) -> Answer:
        """Return a refusal, or start or join an exchange and return its pending reply.

        The reply is an upstream's; SERVFAIL without one, or if too many queries wait.
        """
        return self._clients.begin(self, request)

    def open_static(self) -> Pool:
        """Return a new pool of the upstreams that are known without resolving host names."""
        return self._open(self.static_targets())

    async def whole(self, pool: Pool, request: Request, answer: Answer) -> Reply:
        """Ask again if a client over TCP got a truncated reply of an exchange for UDP clients."""
        reply = answer if isinstance(answer, Reply) else await answer
        if not reply.tc:
            return reply
        answer = self._clients.ask(pool, request, self.with_metadata, whole=True)
        return answer if isinstance(answer, Reply) else await answer

    async def look_further(self, request: Request, answer: Answer) -> Reply:
        """Return the reply, or that of the next line if the settings want it."""
        reply = answer if isinstance(answer, Reply) else await answer
        return await self.next.serve_dns(request) if self._wants_next(reply) else reply

    def explain_state(self, request: Request, reply: Reply | None = None) -> dict[str, str | int]:
        """Return the upstreams that the query may be sent to, for `corepy explain`."""
        if not self.queries_upstream(request):
            return {"state": "the name is outside its zones"}
        if self.pool is None:
            known = [target.address for target in self.static_targets()]
        else:
            known = [_shown(upstream) for upstream in self.pool.upstreams]
        return {"upstreams": ", ".join(known) or "none known yet"}

    def copy_for_trace(self, below: Handler) -> Self:
        """Return a copy that records the upstream that answered, as metadata of the query."""
        traced = super().copy_for_trace(below)
        traced.with_metadata = True
        return traced

    def queries_upstream(self, request: Request) -> bool:
        """Return whether the query matches the zone and exceptions of this line."""
        return self._clients.match(request)

    def _wants_next(self, reply: Reply) -> bool:
        """Whether the next `forward` line of this block is to answer instead."""
        if self.is_last:
            return False
        if reply.rcode in self.settings.next_rcodes:
            return True
        return self.settings.next_on_nodata and reply.rcode == NOERROR and not reply.ancount

    def static_targets(self) -> list[Target]:
        """Return the upstreams that are known without resolving host names."""
        return without_repeats(t for entry in self.settings.entries for t in entry.targets)

    def _open(self, targets: list[Target]) -> Pool:
        if self._taps:
            from corepy_forward.tapping import TappedPool

            self.pool = TappedPool(self.settings, targets, self._taps)
        else:
            self.pool = Pool(self.settings, targets)
        self.pool.is_observed = bool(self._clients.observers)
        return self.pool

    @hookimpl
    async def rehearse(self, context: LifecycleContext) -> None:
        """Prepare as at a start, unless the context is offline."""
        if not context.offline:
            await self.before_listen(context)

    @hookimpl
    async def before_listen(self, context: LifecycleContext) -> None:
        """Resolve host names and reject own addresses as upstreams; raises StartupError."""
        LIMIT.configure(cgroup_limit())
        self._taps = self._config.handlers.of_kind(MessageTap)
        self._clients.observers = self._config.handlers.of_kind(AttemptObserver)
        known = [problem for entry in self.settings.entries for problem in entry.problems]
        problems: list[str] = []
        if any(entry.hostname for entry in self.settings.entries):
            problems = await look_up(self.settings.entries, self.settings.resolvers)
        own = own_addresses(self._config, context.addresses)
        self._refuse_own(own)
        choice = choose(self.settings.entries, own)
        self._problems = [*problems, *choice.problems]
        if not choice.targets:
            raise StartupError("; ".join(self._problems) or "no valid upstream addresses found")
        if context.process_group.is_leader:
            log_problems(self._problems, known)
        self._open(choice.targets)

    def _refuse_own(self, addresses: Sequence[OwnAddress]) -> None:
        """Raise StartupError if a TO is this server; for lines of files, `choose` skips them."""
        named = [t for entry in self.settings.entries if not entry.file for t in entry.targets]
        own = own_among(named, addresses)
        if own is not None:
            raise StartupError(
                f"upstream {own.address} is an address that this server listens on for"
                f" {self._config.keys[0].zone}; queries would loop"
            )

    @hookimpl
    def serving(self, context: LifecycleContext) -> None:
        """Start to probe the upstreams, and to watch their files, interfaces and host names.

        Raises StartupError if an upstream is this server, on a port that the kernel has chosen.
        """
        own = own_addresses(self._config, context.addresses)
        self._refuse_own(own)
        pool = self.pool
        assert pool is not None
        pool.start_checks()
        if self.settings.ddr:
            from corepy_forward.discovery import Discovery

            self._discovery = Discovery(pool)
            self._discovery.replace([upstream.target for upstream in pool.upstreams])
        if changes(self.settings):
            self._watch = Watch(self.settings, pool, own, self._problems, self._discovery)

    @hookimpl
    def status(self) -> dict[str, Any] | None:
        """Return the state of the upstreams, for an operator."""
        if self.pool is None:
            return None
        upstreams = self.pool.upstreams
        problems = list(self._problems)
        if all(upstream.is_down() for upstream in upstreams):
            problems.append(f"all upstreams for {self.settings.zone} are down")
        return {
            "zone": self.settings.zone,
            "upstreams": [upstream.status() for upstream in upstreams],
            "problems": problems,
        }

    @hookimpl
    def shutdown(self) -> None:
        """Stop watching and close all sockets."""
        if self._watch is not None:
            self._watch.stop()
        if self._discovery is not None:
            self._discovery.stop()
        if self.pool is not None:
            self.pool.close()


def _shown(upstream: Upstream) -> str:
    """Return the address of an upstream, with the protocol unless it is plain DNS."""
    notes = [] if upstream.context is None else [upstream.stream_proto]
    if upstream.is_down():
        notes.append("down")
    return f"{upstream.address} ({', '.join(notes)})" if notes else upstream.address
