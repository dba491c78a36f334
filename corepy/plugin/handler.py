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

* It always returns a `Reply`; the one that `request.drop()` returns is not sent. An exception
  becomes a SERVFAIL for that one query, logged with the plugin's name.
* It may await anything, but must not block: one event loop serves the whole node.
* It is shared by all zones and listeners of its block and by all queries in flight; state of a
  query belongs in local variables or in `request.metadata`.
* `cacheability` determines whether the packet cache may repeat replies that passed through it. The
  default, UNSAFE, turns the packet cache off.
* `inputs` determines whether a cache above it keeps its entries at a reload. The default, None,
  empties the cache.
* `next` belongs to the server, which sets it to an object that validates the replies of the handler
  below. A plugin only calls it.

`corepy.plugin.mixins` has the optional parts: answers without a coroutine, observing, hit counting,
explaining.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corepy.dns import Reply, Request
    from corepy.plugin.pending import Answer as Answer

SERVFAIL: Final = 2
REFUSED: Final = 5


class Cacheability(Enum):
    """The inputs that a handler's effect on a reply depends on.

    It determines whether the packet cache may answer in place of the chain.
    """

    UNSAFE = "unsafe"
    """The effect may depend on the client, the time or chance: no packet cache for its block.

    This is the default.
    """

    SAFE = "safe"
    """The reply depends only on the query's bytes, until `Reply.deadline`.

    It may also depend on the listening socket, because each socket has a packet cache of its own.
    """

    DEPENDS_ON_FAMILY = "depends on family"
    """As SAFE, but the reply also depends on the address family of the client.

    So it is SAFE at a socket for one family, and UNSAFE at one for both, and where a proxy states
    the client (`ProxyPolicy`).
    """

    DEPENDS_ON_LOCAL_ADDRESS = "depends on local address"
    """As SAFE, but the reply also depends on the address that received the query, or on its family.

    So it is SAFE at a socket of one address, and UNSAFE at one of all addresses.
    """

    OBSERVES = "observes"
    """Does not change replies, but needs to count them: it adds a `HitCounter` to replies."""

    SETS_DEADLINE = "sets deadline"
    """Sets `Reply.deadline`, until which its reply may be repeated, regardless of lower handlers.

    It sets the deadline of every reply that it returns, to None if the deadline is unknown.
    """

    @classmethod
    def combined(cls, parts: Iterable[Cacheability]) -> Cacheability:
        """Return the cacheability of an effect that has several parts, SAFE without any.

        Raises ValueError for OBSERVES and SETS_DEADLINE, which are about a whole handler.
        """
        return max(parts, key=_FEWEST_INPUTS_FIRST.index, default=cls.SAFE)


_FEWEST_INPUTS_FIRST: Final = (
    Cacheability.SAFE,
    Cacheability.DEPENDS_ON_FAMILY,
    Cacheability.DEPENDS_ON_LOCAL_ADDRESS,
    Cacheability.UNSAFE,
)
"""A local address has one family."""


class Handler:
    """One handler in a server block's chain; plugins subclass it and override `serve_dns`."""

    name: ClassVar[str]
    """The directive, as in the Corefile; it names the handler in logs, errors and metrics."""

    cacheability: Cacheability = Cacheability.UNSAFE
    """See `Cacheability`. Set it on the class, or on the object if the configuration decides."""

    listens_to_hits: bool = False
    """True if the hit counters that it adds to replies are `HitListener`s."""

    gates_hits: bool = False
    """True if it adds gates to replies, besides that of a `GatingHandler` (`corepy.plugin.gates`).
    """

    denies_clients: bool = False
    """True if it denies some clients the replies that others get.

    A cache above it would send these replies to all clients, so the server rejects an order of the
    chain with a cache (SETS_DEADLINE) above it.
    """

    any_class: ClassVar[bool] = False
    """True if the server should pass queries of classes other than IN to the chain.

    CoreDNS: core/dnsserver/server.go, EnableChaos.
    """

    @property
    def inputs(self) -> bytes | None:
        """A digest of all else that replies depend on, besides query, directive and files.

        The directive is its text with imports and variables expanded, the files are those passed to
        `Controller.watch_file`. b"" if replies depend on nothing else, such as metadata or values
        that other directives have configured. None, the default, if that is not known: a cache
        above this handler then starts empty at each reload. A subclass sets it as an attribute of
        the class, or overrides the property.
        """
        return None

    debug: bool = False
    """Whether to log tracebacks of its exceptions; set when the chain is built (`Debug`)."""

    embedded: tuple[Handler, ...] = ()
    """The handlers of directives that are parts of this one (`Controller.embed`)."""

    next: Handler
    """What to call to ask the handler below; set when the chain is built, and never None."""

    async def serve_dns(self, request: Request) -> Reply:
        """Return the reply to `request`, from this handler or from the ones below."""
        raise NotImplementedError(f"{type(self).__name__} has no serve_dns")

    def begin_dns(self, request: Request) -> Answer:
        """Return the reply to `request` if it is available immediately, else an awaitable of it.

        A handler that calls the next one may call this instead of `serve_dns`, with the same
        result. To implement it, subclass `FastHandler`.
        """
        return self.serve_dns(request)


class ChainLink(Handler):
    """A part of the server between two handlers, which stands for the handler below it.

    `corepy explain`, logs and metrics do not show it.
    """


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
        reply = request.error(SERVFAIL, self._reason)
        reply.answered_by = ""
        return reply


def handlers_below(handler: Handler) -> Iterator[Handler]:
    """Yield the handlers of the chain below `handler`, from the next one to the last.

    The chain is complete when the hook `before_listen` is called.
    """
    while not isinstance(handler, EndOfChain):
        handler = handler.next
        if not isinstance(handler, ChainLink | EndOfChain):
            yield handler
