"""Obtains proofs of absence, in the background of the queries that show that they are needed.

A proof takes two denials: that of a client's query, and that of a covering name, for which the
prover asks. No query waits for it. When a proof has expired, the next query is passed on again. So
a name that exists meanwhile is noticed, and only another denial is the reason for the next proof.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from corepy.dns.names import to_text
from corepy_search_guard.asking import Asker
from corepy_search_guard.domains import first_label
from corepy_search_guard.labels import Labels
from corepy_search_guard.metrics import CONTRADICTIONS, PROBES
from corepy_search_guard.proof import is_existence, read_proof
from corepy_search_guard.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    from corepy.dns import Reply, Request
    from corepy_search_guard.domains import Domain, Match
    from corepy_search_guard.proof import Proof

EXISTS_FOR: Final = 3600.0
"""Seconds without a proof after a name that it would have denied was answered."""

RETRY_AFTER: Final = 30.0
"""Seconds between two attempts to obtain the same proof."""

MOST_NAMES: Final = 4096
"""Covering names that are remembered; more are produced by hostile clients only."""

MOST_TASKS: Final = 16
"""Attempts at the same time. Beyond, queries are passed on without one."""

MOST_PER_SECOND: Final = 50
"""Attempts that begin in one second; a client with random names can cause no more queries."""


class Covered:
    """The knowledge about one covering name; times are monotonic seconds."""

    __slots__ = ("exists_until", "proof", "retry_at")

    def __init__(self) -> None:
        self.proof: Proof | None = None
        self.exists_until = 0.0
        self.retry_at = 0.0


class Prover:
    """The proofs of one directive."""

    def __init__(
        self,
        below: Callable[[Request], Awaitable[Reply]],
        clock: Callable[[], float],
        external: Iterable[bytes],
        max_ttl: int,
    ) -> None:
        """`below` asks the handlers below; a proof is valid for at most `max_ttl` seconds."""
        self._clock = clock
        self._max_ttl = max_ttl
        self._asker = Asker(below, clock)
        self._labels = Labels(self._asker, clock, external)
        self._trusts: dict[Domain, Trust] = {}
        self._covered: dict[bytes, Covered] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changes = 0
        self._second = 0
        self._begun = 0
        self.is_offline = False
        """Whether it may send no queries."""
        self.forget: Callable[[], None] = lambda: None
        """Clears the packet caches."""

    def find(self, match: Match, now: float) -> Proof | None:
        """Return a proof that is valid at `now`."""
        for name in match.covering:
            covered = self._covered.get(name)
            if covered is not None and covered.proof is not None and covered.proof.until > now:
                return covered.proof
        return None

    def existing(self, match: Match, now: float) -> str:
        """Return the first covering name that exists, in text form, "" if none is known to."""
        for name in match.covering:
            covered = self._covered.get(name)
            if covered is not None and covered.exists_until > now:
                return to_text(name)
        return ""

    def is_refused(self, domain: Domain) -> bool:
        """Return whether the server of `domain` denies names that exist."""
        return self._trust(domain).is_refused

    def note_existence(self, match: Match, request: Request) -> None:
        """Note that the name of a query exists, and so do the covering names."""
        now = self._clock()
        contradicted = False
        for name in match.covering:
            covered = self._remember(name)
            covered.exists_until = now + EXISTS_FOR
            if covered.proof is not None:
                contradicted |= covered.proof.until > now
                covered.proof = None
        if contradicted:
            CONTRADICTIONS.labels(match.domain.text).value += 1
            self.forget()
        elif self._trust(match.domain).is_due:
            self._start(self._test(match, request))

    def note_denial(self, match: Match, request: Request) -> None:
        """Note that the name of a query does not exist: obtain a proof for others."""
        now = self._clock()
        covered = [self._remember(name) for name in match.covering]
        wanted = [it for it in covered if it.exists_until <= now]
        if not wanted or any(it.retry_at > now for it in wanted):
            return
        # A query that began before the proof was obtained may be denied after it.
        if self.find(match, now) is not None or self._trust(match.domain).is_refused:
            return
        if self._start(self._prove(match, request)):
            for it in wanted:
                it.retry_at = now + RETRY_AFTER

    def forget_proofs(self) -> None:
        """Remove all proofs, because data of a plugin below has changed."""
        self._changes += 1
        for covered in self._covered.values():
            covered.proof = None
            covered.retry_at = 0.0

    async def stop(self) -> None:
        """Cancel all attempts."""
        self.is_offline = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settle(self) -> None:
        """Wait for all attempts; for tests."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _remember(self, name: bytes) -> Covered:
        covered = self._covered.get(name)
        if covered is None:
            if len(self._covered) >= MOST_NAMES:
                del self._covered[next(iter(self._covered))]
            covered = self._covered[name] = Covered()
        return covered

    def _trust(self, domain: Domain) -> Trust:
        trust = self._trusts.get(domain)
        if trust is None:
            trust = self._trusts[domain] = Trust(domain, self._asker, self._clock)
        return trust

    def _start(self, attempt: Coroutine[None, None, None]) -> bool:
        """Run `attempt` in a task; return False if there are too many."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._begun = second, 0
        is_refused = len(self._tasks) >= MOST_TASKS or self._begun >= MOST_PER_SECOND
        if self.is_offline or is_refused:
            attempt.close()
            return False
        self._begun += 1
        task = asyncio.get_running_loop().create_task(attempt)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _test(self, match: Match, request: Request) -> None:
        trust = self._trust(match.domain)
        await trust.test(request, match.covering[-1])
        self._drop_if_refused(trust)

    async def _prove(self, match: Match, request: Request) -> None:
        trust = self._trust(match.domain)
        if not await trust.allows(request):
            self._drop_if_refused(trust)
            return
        for name in match.covering:
            covered = self._remember(name)
            if covered.exists_until > self._clock():
                continue
            if not await self._probe(match.domain, name, covered, request):
                return

    async def _probe(self, domain: Domain, name: bytes, covered: Covered, request: Request) -> bool:
        """Ask for a covering name; return whether it exists, so that a longer one is needed."""
        now, changes = self._clock(), self._changes
        reply = await self._asker.below(request, name)
        zone = domain.name if domain.is_cluster else b""
        proof = None if reply is None else read_proof(name, zone, reply, now, self._max_ttl)
        exists = reply is not None and is_existence(reply)
        result = "absent" if proof else "exists" if exists else "failed"
        PROBES.labels(domain.text, result).value += 1
        if exists:
            covered.exists_until = now + RETRY_AFTER
        if proof is None or not await self._labels.is_external(request, first_label(name)):
            return exists
        is_current = changes == self._changes and covered.exists_until <= now
        if is_current and not self._trust(domain).is_refused:
            covered.proof = proof
            covered.retry_at = 0.0
        return False

    def _drop_if_refused(self, trust: Trust) -> None:
        """Remove the proofs of a domain whose server denies names that exist."""
        if not trust.is_refused:
            return
        for name, covered in self._covered.items():
            if name.endswith(trust.domain.name):
                covered.proof = None
        self.forget()
