"""The middleware contract: handlers, which form a server block's chain.

A query enters at the first handler of its server block, and the reply returns along the same way. A
handler either answers (`request.reply(...)`, `request.error(...)`), or calls the next handler and
returns its reply, perhaps changed:

    class Stamp(Handler):
        name = "stamp"

        async def serve_dns(self, request: Request) -> Reply:
            reply = await self.next.serve_dns(request)
            ...
            return reply

Rules for a handler:

* It always returns a `Reply`. An exception becomes a SERVFAIL for that one query, logged with the
  plugin's name.
* It may await anything, but must not block: one event loop serves the whole node.
* It is shared by all zones and listeners of its block and by all queries in flight; state of a
  query belongs in local variables or in `request.metadata`.
* `cacheability` determines whether the packet cache may repeat replies that passed through it. The
  default is safe.
"""

from __future__ import annotations

import copy
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from corepy.dns import Reply, Request
    from corepy.plugin.pending import Pending

    Answer = Reply | Pending | Coroutine[Any, Any, Reply]

SERVFAIL = 2
REFUSED = 5


class Cacheability(Enum):
    """The inputs that a handler's effect on a reply depends on.

    It determines whether the packet cache may answer in place of the chain.
    """

    UNSAFE = "unsafe"
    """The effect may depend on the client, the time or chance: no packet cache for its block.

    This is the default.
    """

    SAFE = "safe"
    """The reply depends only on the query's bytes, until `Reply.deadline`."""

    OBSERVES = "observes"
    """Does not change replies, but needs to count them: it adds a `HitCounter` to replies."""

    SETS_DEADLINE = "sets deadline"
    """Sets `Reply.deadline`, until which its reply may be repeated, regardless of lower handlers.

    It sets the deadline of every reply that it returns, to None if the deadline is unknown.
    """


class HitCounter(Protocol):
    """Counts repetitions of a reply from the packet cache, which do not run the chain.

    A handler of cacheability OBSERVES or SETS_DEADLINE adds one to `Reply.hit_counters` on the way
    up if `Reply.deadline` is set.
    """

    def count_hits(self, times: int) -> None:
        """Count `times` more repetitions; called at least once a second if there are any."""


class HitListener(HitCounter, Protocol):
    """A hit counter that is called for each repetition, at a cost for every query."""

    def on_hit(self, ident: bytes, peer: object, received: float) -> None:
        """Record one query: its two ID bytes, its client's address, and `Request.received`."""


class Handler:
    """One handler in a server block's chain; plugins subclass it and override `serve_dns`."""

    name: ClassVar[str]
    """The directive, as in the Corefile; it names the handler in logs, errors and metrics."""

    cacheability: Cacheability = Cacheability.UNSAFE
    """See `Cacheability`. Set it on the class, or on the object if the configuration decides."""

    listens_to_hits: bool = False
    """True if the hit counters that it adds to replies are `HitListener`s."""

    any_class: ClassVar[bool] = False
    """True if the server should pass queries of classes other than IN to the chain.

    CoreDNS: core/dnsserver/server.go, EnableChaos.
    """

    hidden: ClassVar[bool] = False
    """True for a helper of another handler; `corepy explain` leaves it out."""

    debug: bool = False
    """Whether to log tracebacks of its exceptions; set when the chain is built (`Debug`)."""

    next: Handler
    """The handler below; set when the chain is built. The lowest is `EndOfChain`, so never None."""

    async def serve_dns(self, request: Request) -> Reply:
        """Return the reply to `request`, from this handler or from the ones below."""
        raise NotImplementedError(f"{type(self).__name__} has no serve_dns")

    def begin_dns(self, request: Request) -> Answer:
        """Return the reply to `request` if it is available immediately, else an awaitable of it.

        It may be called instead of `serve_dns` and must have the same result. Override it in a
        handler that mostly answers from memory, or in callbacks (`Pending`), because a coroutine
        costs more than such an answer. It runs outside of any asyncio task.
        """
        return self.serve_dns(request)

    # For `corepy explain`; never called for ordinary queries.

    def explain_state(
        self, request: Request, reply: Reply | None = None
    ) -> Mapping[str, str | int]:
        """Return this handler's state for `request`, for an operator.

        For example {"state": "fresh", "seconds left": 12}; "state" is shown first, as one or two
        words. It is called before a query, and after it with the handler's reply. It must not
        change anything.
        """
        return {}

    def queries_upstream(self, request: Request) -> bool:
        """Return whether this handler would query another server for `request`."""
        return False

    def copy_for_trace(self, below: Handler) -> Handler:
        """Return a copy of this handler above `below`, for a traced copy of the chain.

        It is a shallow copy: both share the objects in the attributes. Override it if these refer
        back to the handler.
        """
        traced = copy.copy(self)
        traced.next = below
        return traced


class ObservingHandler(Handler):
    """A handler that does not change replies, and is called with each query and its reply.

    Subclasses override only `observe`. Observing handlers at the top of a block are not part of the
    chain of a query: the server calls them after the reply, the lowest first.
    """

    cacheability = Cacheability.OBSERVES

    def observe(self, request: Request, reply: Reply) -> None:
        """Record a query that was answered; see `Reply.is_substitute`."""
        raise NotImplementedError(f"{type(self).__name__} has no observe")

    async def serve_dns(self, request: Request) -> Reply:
        """Return the next handler's reply unchanged."""
        try:
            reply = await self.next.serve_dns(request)
        except GeneratorExit:
            raise  # the query was abandoned
        except BaseException:
            substitute = request.error(SERVFAIL)
            substitute.is_substitute = True
            self.observe(request, substitute)
            raise
        self.observe(request, reply)
        return reply


class EndOfChain(Handler):
    """The end of a block's chain: answers queries that no handler answered.

    As CoreDNS's `plugin.NextOrFailure`, it returns SERVFAIL with an error that names the handler
    above.
    """

    name: ClassVar[str] = "end"
    cacheability = Cacheability.SAFE

    def __init__(self, above: str) -> None:
        self._reason = f"plugin/{above}: no next plugin found"

    async def serve_dns(self, request: Request) -> Reply:
        """Return SERVFAIL."""
        return request.error(SERVFAIL, self._reason)
