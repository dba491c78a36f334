"""The optional parts of the handler contract, as base classes and protocols.

A handler needs only what `Handler` requires. It subclasses in addition

* `FastHandler`, to answer without a coroutine;
* `ObservingHandler`, to observe queries and their replies without changing them;
* `CallObserver`, to observe the calls of the handlers below it;
* `ExplainedHandler`, to show its state in `corepy explain`;
* `StatefulHandler`, to continue at a reload with the state of its predecessor.

A handler that counts queries adds a `HitCounter` to the replies that the packet cache may repeat.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from corepy.dns import Reply
from corepy.plugin.handler import SERVFAIL, Cacheability, Handler
from corepy.plugin.pending import apply_step

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from pathlib import Path
    from typing import Self

    from corepy.dns import Request
    from corepy.plugin.handler import Answer


class HitCounter(Protocol):
    """Counts repetitions of a reply from the packet cache, which do not run the chain.

    A handler of cacheability OBSERVES or SETS_DEADLINE adds one to `Reply.hit_counters` on the way
    up if `Reply.deadline` is set.
    """

    def count_hits(self, times: int) -> None:
        """Count `times` more repetitions; called at least once a second if there are any."""


class HitListener(HitCounter, Protocol):
    """A hit counter that is called for each repetition, at a cost for every query."""

    def on_hit(
        self, ident: bytes, client: object, received: float
    ) -> Callable[[bytes], object] | None:
        """Record one query: its two ID bytes, `Request.client`, and `Request.received`.

        The client is that of the transport: a handler that calls `Request.set_client` is UNSAFE.
        Return None, or a function that needs the reply, too: it is called with the message that is
        sent now, without its ID.
        """


class FastHandler(Handler):
    """A handler that answers without a coroutine; subclasses override `begin_dns`.

    It is for handlers that mostly answer from memory, or in callbacks (`Pending`), because a
    coroutine costs more than such an answer.
    """

    def begin_dns(self, request: Request) -> Answer:
        """Return the reply to `request` if it is available immediately, else an awaitable of it.

        It may run inside or outside of a task.
        """
        raise NotImplementedError(f"{type(self).__name__} has no begin_dns")

    async def serve_dns(self, request: Request) -> Reply:
        """Return the reply of `begin_dns`, and wait for it if necessary."""
        answer: Any = self.begin_dns(request)
        reply: Reply = await answer if hasattr(answer, "__await__") else answer
        return reply


class ObservingHandler(Handler):
    """A handler that does not change replies, and is called with each query and its reply.

    Subclasses override only `observe`. Observing handlers at the top of a block are not part of the
    chain of a query: the server calls them after the reply, the lowest first. A reply of several
    messages is observed once, at its end (`corepy.dns.reply.ReplySeries.on_end`).
    """

    cacheability = Cacheability.OBSERVES
    inputs = b""

    def observe(self, request: Request, reply: Reply) -> None:
        """Record a query that was answered; see `Reply.is_substitute`."""
        raise NotImplementedError(f"{type(self).__name__} has no observe")

    def begin_dns(self, request: Request) -> Answer:
        """Return the next handler's answer unchanged, and observe the reply when it is there."""
        try:
            answer = self.next.begin_dns(request)
        except BaseException:
            self._observe_failure(request)
            raise
        if type(answer) is Reply and answer.series is None:  # as `apply_step`, two calls less
            self.observe(request, answer)
            return answer
        return apply_step(answer, self._observe_reply, request)

    async def serve_dns(self, request: Request) -> Reply:
        """Return the next handler's reply unchanged."""
        answer: Any = apply_step(self.next.serve_dns(request), self._observe_reply, request)
        reply: Reply = await answer
        return reply

    def _observe_reply(self, request: Request, reply: Reply | None) -> Reply | None:
        if reply is None:
            self._observe_failure(request)
        elif reply.series is not None:
            reply.series.on_end(partial(self.observe, request))
        else:
            self.observe(request, reply)
        return reply

    def _observe_failure(self, request: Request) -> None:
        substitute = request.error(SERVFAIL)
        substitute.is_substitute = True
        self.observe(request, substitute)


class CallObserver(Handler):
    """A handler that observes the calls of the handlers below it, for the queries that it selects.

    It selects a query by setting the label `call_label` in `Request.metadata` to anything but None.
    For other queries each handler below costs one look-up of the label. It changes neither queries
    nor replies; observing handlers right below it are moved above it, out of the chain of a query.
    """

    call_label: ClassVar[str]
    """The label. One that does not begin with a dot also selects the look-ups of the query."""

    def begin_call(self, handler: str, request: Request) -> object:
        """Return a mark of a call of the handler with this name, to be passed to `end_call`.

        None ignores the call.
        """
        raise NotImplementedError(f"{type(self).__name__} has no begin_call")

    def end_call(self, call: Any, request: Request, reply: Reply | None) -> None:
        """Record the end of a call; `reply` is None if it failed or was cancelled.

        It is not called for a call that was abandoned before it began to run.
        """
        raise NotImplementedError(f"{type(self).__name__} has no end_call")


class ExplainedHandler(Handler):
    """A handler that shows its state in `corepy explain`; no other query calls these methods."""

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

    def copy_for_trace(self, below: Handler) -> Self:
        """Return a copy of this handler above `below`, for a traced copy of the chain.

        It is a shallow copy: both share the objects in the attributes. Override it if these refer
        back to the handler.
        """
        traced = copy.copy(self)
        traced.next = below
        return traced


class StatefulHandler(Handler):
    """A handler whose state consists of replies from below, such as the entries of a cache.

    At a reload, the handler of the new generation continues with the state of its predecessor if
    the replies of the handlers below have the same meaning in both: the zones of the server block,
    and the directives from below this handler to the end of the chain, with the contents of their
    files and `Handler.inputs`, are equal. The predecessor is a handler of the same directive and
    class. Options of the handler itself, and all above it, may differ.
    """

    @property
    def depends_on_lookups(self) -> bool:
        """Whether the state includes replies that were made with `corepy.plugin.lookup`.

        If so, all other server blocks must have the same meaning in both generations as well.
        """
        return False

    state_file: StateFile | None = None
    """The file in which the state survives a restart of the server, if the operator wants that."""

    def take_over_state(self, predecessor: Self) -> str:
        """Continue with the state of `predecessor`; return a description such as "12 entries".

        Called before this generation answers its first query, while the other one still answers,
        and continues to answer until `shutdown` of one of the two: of the predecessor if the reload
        succeeds, of this handler if it fails. Until then both use the state, and neither may lose
        it. It must not take more than a millisecond.
        """
        raise NotImplementedError(f"{type(self).__name__} has no take_over_state")

    def dump_state(self, most: int) -> Iterator[bytes]:
        """Yield the state as bytes, about `most` of them, in portions of a millisecond of work.

        Queries are processed between the portions. The state must be valid in any other process and
        at any later time, so it has no monotonic times. `StateFile.most` is the limit in a file.
        """
        raise NotImplementedError(f"{type(self).__name__} has no dump_state")

    def load_state(self, state: memoryview, elapsed: float) -> Generator[None, None, str]:
        """Continue with a state that `dump_state` has written at most `elapsed` seconds ago.

        Called before this generation answers its first query; the handlers below had the same
        meaning. Yields after each millisecond of work. Returns a description, as `take_over_state`
        does. Another program may have written the state: raise ValueError for a malformed one, and
        leave nothing of it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no load_state")


class StateFile(NamedTuple):
    """A file for the state of one or several handlers."""

    path: Path
    most: int
    """The limit of the state of this handler in bytes."""
