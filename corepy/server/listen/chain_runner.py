"""Runs the chain of each query without an asyncio task.

Most replies come from memory, so the chain is first called directly in the callback that read the
query. If it returns a `Pending`, the query waits for that (`PendingQuery`). If it returns a
coroutine, this is stepped at once; only if it awaits something does a `ChainTask` continue it from
the event loop.
"""

from __future__ import annotations

from asyncio import get_running_loop
from types import CoroutineType
from typing import TYPE_CHECKING

from corepy.dns import Reply
from corepy.dns.reply import NO_COUNTERS, NOT_SET
from corepy.dns.reply_validation import NO_OPTIONS
from corepy.plugin.pending import Pending
from corepy.server.contain.failure_report import report_failure
from corepy.server.listen.chain_task import ChainTask, awaiting
from corepy.server.listen.pending_limit import overload
from corepy.server.listen.waiting_query import PendingQuery, WaitingQuery, validated

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Request
    from corepy.plugin import Handler
    from corepy.server.listen.pending_limit import PendingLimit


class ChainRunner:
    """Starts the queries of one listener and keeps track of the pending ones."""

    __slots__ = ("_client", "_deliver", "_limit", "_loop", "_spare", "_when_done", "waiting")

    def __init__(self, deliver: Callable[[WaitingQuery, Reply], None]) -> None:
        """`deliver` gets the query and the reply of each chain that did not reply at once."""
        self._loop = get_running_loop()
        self._deliver = deliver
        self._when_done = self._done
        self._spare = ChainTask(self._loop)
        self.waiting: set[WaitingQuery] = set()
        self._limit: PendingLimit | None = None
        self._client = b""

    def limit_pending(self, limit: PendingLimit, client: bytes) -> None:
        """Count the pending queries as those of `client` from now on; called before `start`."""
        self._limit = limit
        self._client = client

    def start(self, chain: Handler, request: Request) -> Reply | None:
        """Return the reply of `chain` if it has one at once; None if it will be delivered later.

        The reply is SERVFAIL if the client has too many pending queries.
        """
        limit = self._limit
        if limit is not None and not limit.permits(self._client):
            return overload(request)
        try:
            answer = chain.begin_dns(request)
        except BaseException as error:
            return report_failure(request, error, chain)
        if type(answer) is Reply:
            if (  # `reply_problem` would find nothing, at a higher cost
                answer.validated is answer.wire
                and answer.validated_for is request.asked
                and answer.options is NO_OPTIONS
                and answer.deadline is None
                and answer.since == NOT_SET
                and answer.hit_counters is NO_COUNTERS
                and answer.extended_rcode == 0
            ):
                return answer
            return validated(request, answer, chain)
        if type(answer) is Pending:
            if answer.handler is None:
                answer.handler = chain
            self.waiting.add(PendingQuery(request, chain, answer, self._when_done))
            if limit is not None:
                limit.add(self._client)
            return None
        query = self._spare
        if query._cancelled:
            query = self._spare = ChainTask(self._loop)
        query._deliver = self._when_done
        query.request = request
        query._handler = chain
        query._chain = answer if type(answer) is CoroutineType else awaiting(answer)
        reply = query.step()
        if reply is None:
            self.waiting.add(query)
            if limit is not None:
                limit.add(self._client)
            self._spare = ChainTask(self._loop)
        return reply

    def deliver(self, request: Request, reply: Reply) -> None:
        """Deliver a reply that a chain had at once, as one that arrives later."""
        query = WaitingQuery()
        query.request = request
        self._deliver(query, reply)

    def add(self, query: ChainTask) -> None:
        """Run a task of another kind in the next turn of the loop; it is pending until `remove`."""
        self.waiting.add(query)
        if self._limit is not None:
            self._limit.add(self._client)
        self._loop.call_soon(query._resume, None)

    def remove(self, query: ChainTask) -> None:
        """Finish a task that was added."""
        self._end(query)

    def _end(self, query: WaitingQuery) -> None:
        query.is_done = True
        self.waiting.discard(query)
        if self._limit is not None:
            self._limit.give_back(self._client)

    def _done(self, query: WaitingQuery, reply: Reply) -> None:
        self._end(query)
        self._deliver(query, reply)

    def cancel(self) -> None:
        """Cancel all pending queries; each client gets SERVFAIL."""
        for query in list(self.waiting):
            query.cancel()
