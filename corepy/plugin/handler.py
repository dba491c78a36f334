"""The middleware contract: what a plugin puts into a server block's chain.

A query enters at the first handler of the block that serves it and comes back up as a reply. A
handler either answers (`request.reply(...)`, `request.error(...)`) or asks the next one and hands
back, perhaps changed, what that returned:

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
* It is shared by all zones and listeners of its block and by all queries in flight; what belongs to
  a query lives in local variables or in `request.metadata`.
* `purity` says what the packet cache may do with the replies that passed through it. The default is
  the safe one.
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


class Purity(Enum):
    """What a handler's effect on a reply depends on, which decides whether the packet cache may
    stand in for it.
    """

    IMPURE = "impure"
    """May look at the client, the clock or the dice: its block keeps no packet cache. The
    default.
    """

    PURE = "pure"
    """The reply is a function of the query's bytes for as long as `Reply.deadline` says."""

    OBSERVER = "observer"
    """Changes nothing, but wants to know of every answer: it adds an `Observer` to replies."""

    KEEPER = "keeper"
    """Says with `Reply.deadline` until when its reply may be repeated, whatever stands below it.

    Sets the deadline of every reply that it passes on, to None where it cannot tell.
    """


class Observer(Protocol):
    """Told how often a reply was repeated from the packet cache, without the chain being asked.

    A handler of purity OBSERVER, or a keeper, adds one to `Reply.observers` on the way up when
    `Reply.deadline` is set.
    """

    def repeated(self, times: int) -> None:
        """Count `times` more answers with this reply; called at least once a second if there are
        any.
        """


class Witness(Observer, Protocol):
    """An observer that wants to see each repetition, at a price for every query."""

    def seen(self, ident: bytes, peer: object, received: float) -> None:
        """Take note of one query: its two ID bytes, `Request.peer`, and `Request.received`."""


class Handler:
    """One link of a server block's chain; plugins subclass it and override `serve_dns`."""

    name: ClassVar[str]
    """The directive, as in the Corefile: it names the handler in logs, errors and metrics."""

    purity: Purity = Purity.IMPURE
    """See `Purity`. Set it on the class, or on the object where it depends on the configuration."""

    witnesses: bool = False
    """True if the observers that it adds to replies are `Witness`es."""

    any_class: ClassVar[bool] = False
    """True lets queries of a class other than IN reach this server (core/dnsserver/server.go:
    EnableChaos).
    """

    hidden: ClassVar[bool] = False
    """True for a handler that only keeps books for another one; `corepy explain` leaves it out."""

    debug: bool = False
    """Show the traceback of each of its exceptions; set when the chain is built (`BlockConfig`)."""

    next: Handler
    """The handler below; set when the chain is built. Below the last one stands `EndOfChain`, so it
    is never None.
    """

    async def serve_dns(self, request: Request) -> Reply:
        """Return the reply to `request`, from this handler or from the ones below."""
        raise NotImplementedError(f"{type(self).__name__} has no serve_dns")

    def begin_dns(self, request: Request) -> Answer:
        """Return the reply to `request` if it is there at once, else what brings it when awaited.

        It may be called in place of `serve_dns` and must say the same. A handler overrides it that
        mostly answers from memory, or in callbacks (`Pending`): a coroutine costs more than such an
        answer. It runs outside of any task of asyncio.
        """
        return self.serve_dns(request)

    # What `corepy explain` asks. Nothing here is called for ordinary queries.

    def knows(self, request: Request, reply: Reply | None = None) -> Mapping[str, str | int]:
        """Return what can be said of this handler's state concerning `request`, for an operator.

        For example {"state": "fresh", "seconds left": 12}; "state" is shown first, as one word or
        two. It is asked before a query, and after it with the reply that the handler returned; it
        must change nothing.
        """
        return {}

    def asks_outside(self, request: Request) -> bool:
        """Return whether this handler would ask another server for `request`."""
        return False

    def twin(self, below: Handler) -> Handler:
        """Return a copy of this handler that stands above `below`, in a chain that is watched.

        A shallow copy, so what the two share is what attributes refer to. Override it where the
        object holds something that leads back to itself.
        """
        twin = copy.copy(self)
        twin.next = below
        return twin


class Onlooker(Handler):
    """A handler that changes nothing and wants to see each query with its reply.

    It overrides `observe`, and nothing else. Onlookers on top of a block are no links of the chain
    for a query: the server calls them when the reply is there, the lowest first.
    """

    purity = Purity.OBSERVER

    def observe(self, request: Request, reply: Reply) -> None:
        """Take note of a query that was answered; see `Reply.is_substitute`."""
        raise NotImplementedError(f"{type(self).__name__} has no observe")

    async def serve_dns(self, request: Request) -> Reply:
        """Return the next handler's reply as it is."""
        try:
            reply = await self.next.serve_dns(request)
        except GeneratorExit:
            raise  # nobody waits for the reply any more
        except BaseException:
            substitute = request.error(SERVFAIL)
            substitute.is_substitute = True
            self.observe(request, substitute)
            raise
        self.observe(request, reply)
        return reply


class EndOfChain(Handler):
    """Stands below the last handler of a block and answers what none of them did.

    As CoreDNS's `plugin.NextOrFailure`: SERVFAIL, with an error that names the handler above.
    """

    name: ClassVar[str] = "end"
    purity = Purity.PURE

    def __init__(self, above: str) -> None:
        self._reason = f"plugin/{above}: no next plugin found"

    async def serve_dns(self, request: Request) -> Reply:
        """Return SERVFAIL."""
        return request.error(SERVFAIL, self._reason)
