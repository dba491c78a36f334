"""Resolves and validates queries, once for all clients that send the same one in the meantime."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corepy.dns import constants as c
from corepy.dns.form_error import FormError
from corepy.plugin.shared_task import shared_result
from corepy_forward import metrics
from corepy_forward.validation.composing import Composer
from corepy_forward.validation.record_sets import Message
from corepy_forward.validation.replies import validate
from corepy_forward.validation.upstream_queries import Query, ask
from corepy_forward.validation.verdicts import Bogus, Indeterminate
from corepy_forward.validation.work import Queries, Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from corepy.dns import Reply, Request
    from corepy_forward.exchange import Exchange
    from corepy_forward.pool import Pool
    from corepy_forward.validation.chain import Chain

MARGIN: Final = 0.5
"""Seconds for a query with its whole chain of trust, beyond the longest time of one exchange.

Together this is less than the timeout of stub resolvers. The queries for keys continue, so that a
repeated query gets further.
"""

_VALIDATED: Final = (c.NOERROR, c.NXDOMAIN)
_ONE_QUESTION: Final = b"\0\1\0\0\0\0\0\0"
_SHARED_FLAGS: Final = 0x7800 | c.FLAG_RD | c.FLAG_CD


class Outcome:
    """The result for a query: the last exchange, and a `composer` or the `problem`."""

    __slots__ = ("composer", "exchange", "problem")

    def __init__(
        self,
        exchange: Exchange | None,
        composer: Composer | None = None,
        problem: Bogus | None = None,
    ) -> None:
        self.exchange = exchange
        self.composer = composer
        self.problem = problem

    def reply(self, request: Request) -> Reply:
        """Return the reply for a client."""
        exchange, problem = self.exchange, self.problem
        if problem is not None:
            reason = f"DNSSEC validation failed: {problem.text}"
            return request.error(c.SERVFAIL, reason, (problem.ede, problem.text))
        if self.composer is not None:
            return self.composer.reply(request)
        assert exchange is not None
        if exchange.reply is None:
            return request.error(c.SERVFAIL, exchange.reason, (exchange.ede, exchange.ede_text))
        return _unvalidated(request, exchange.reply, with_records=request.cd)


def _unvalidated(request: Request, reply: Reply, *, with_records: bool) -> Reply:
    """Return an upstream's failure for a client.

    Its records are not validated, so only clients with CD get them: some clients ignore the upper
    bits of the rcode, and would use records of an answer with BADVERS as those of NOERROR.
    """
    copy, end = reply.copy(), request.question_end
    wire = reply.wire
    flags = (wire[2] << 8 | wire[3]) & ~(c.FLAG_AD | c.FLAG_CD) | request.flags & c.FLAG_CD
    counts, records = (wire[4:12], wire[end:]) if with_records else (_ONE_QUESTION, b"")
    copy.wire = b"".join(
        (wire[:2], flags.to_bytes(2, "big"), counts, request.wire[12:end], records)
    )
    return copy


class Outcomes:
    """The queries in progress."""

    def __init__(self, pool: Callable[[], Pool], chain: Chain) -> None:
        """`pool` returns the upstreams."""
        self._pool = pool
        self._chain = chain
        self._tasks: dict[tuple[bytes, int, bytes], asyncio.Task[Outcome]] = {}

    async def get(self, request: Request, options: bytes) -> Outcome:
        """Return the outcome for a client's query, with the EDNS options to send."""
        key = request.asked, request.flags & _SHARED_FLAGS, options
        task = self._tasks.get(key)
        if task is None:
            running = self._run(key, request)
            task = self._tasks[key] = asyncio.get_running_loop().create_task(running)
        else:
            metrics.SHARED.value += 1
        return await shared_result(task)

    async def _run(self, key: tuple[bytes, int, bytes], request: Request) -> Outcome:
        longest = self._pool().budget + MARGIN
        try:
            async with asyncio.timeout(longest):
                return await self._resolve(Query.of(request, key[2]), request)
        except TimeoutError:
            text = f"the chain of trust was not complete after {longest:g} seconds"
            return _failed(None, Indeterminate(text))
        finally:
            del self._tasks[key]

    async def _resolve(self, query: Query, request: Request) -> Outcome:
        work = Work(Queries(self._chain.turns))
        exchange = await ask(self._pool(), query)
        work.resume()
        try:
            return await self._judged(exchange, request, work)
        except Bogus as problem:
            if problem.zone is not None or exchange.upstream is None:
                return _failed(exchange, problem)
            again = await ask(self._pool(), query, exchange.upstream)
            try:
                outcome = await self._judged(again, request, Work(work.queries))
            except Bogus:
                return _failed(exchange, problem)
            return outcome if outcome.composer is not None else _failed(exchange, problem)

    async def _judged(self, exchange: Exchange, request: Request, work: Work) -> Outcome:
        """Return the outcome of an exchange; raises Bogus."""
        reply = exchange.reply
        if reply is None or reply.rcode not in _VALIDATED:
            return Outcome(exchange)
        if reply.tc and not request.cd:
            raise Indeterminate("the reply is truncated")
        try:
            message = Message(reply.wire, reply.rcode)
        except FormError as error:
            raise Indeterminate(f"the reply is malformed: {error}") from None
        if request.cd:
            return Outcome(exchange, Composer(request, reply, message, None))
        validated = await validate(self._chain, request, message, work)
        is_secure = validated.verdict.is_secure
        metrics.VERDICTS.labels("secure" if is_secure else "insecure").inc()
        return Outcome(exchange, Composer(request, reply, message, validated))


def _failed(exchange: Exchange | None, problem: Bogus) -> Outcome:
    is_known = not isinstance(problem, Indeterminate)
    metrics.VERDICTS.labels("bogus" if is_known else "indeterminate").inc()
    return Outcome(exchange, problem=problem)
