"""The work that one query may cause: signature checks, NSEC3 hashes, queries to upstreams.

A hostile zone can ask for any amount of each (CVE-2023-50387, CVE-2023-50868). A chain of trust
through five zones takes about twenty checks of signatures and ten queries.
"""

from __future__ import annotations

from time import monotonic, perf_counter
from typing import Final

from corepy_forward.validation.turns import Turns
from corepy_forward.validation.verdicts import Bogus, Exhausted

MOST_CHECKS: Final = 32
"""Checks of signatures for one reply: one for each set, a few in a proof of absence."""

MOST_FAILED_CHECKS: Final = 8
"""Checks of signatures that fail: in a sane zone, only colliding key tags cause one."""

MOST_HASHES: Final = 64
"""NSEC3 hashes: a name of 34 labels, such as those in ip6.arpa, takes 36."""

MOST_QUERIES: Final = 40
"""Queries to upstreams for keys and delegations."""

LONGEST_CHAIN: Final = 10.0
"""Seconds after a client's query in which queries for it are sent.

Some are sent after the client got its reply (`outcomes.MARGIN`). Without this limit, slow servers
could make them many times as many as the clients that wait, whose number is limited.
"""

LONGEST_STEP: Final = 0.001
"""Seconds of computing after which the event loop runs."""


class Queries:
    """The queries to upstreams for one client's query, and its turns to compute."""

    __slots__ = ("_count", "_ends", "_turns", "_turns_taken")

    def __init__(self, turns: Turns | None = None) -> None:
        """Share the `turns` of all validations; None: there are no others."""
        self._turns = Turns() if turns is None else turns
        self._turns_taken = self._count = 0
        self._ends = monotonic() + LONGEST_CHAIN

    def count(self) -> None:
        """Count a query; raises Exhausted above the limits.

        The zones found so far are cached, so the next attempt may get further.
        """
        self._count += 1
        if self._count > MOST_QUERIES:
            raise Exhausted(f"more than {MOST_QUERIES} queries for the chain of trust")
        if monotonic() > self._ends:
            text = f"the chain of trust was not complete after {LONGEST_CHAIN:g} seconds"
            raise Exhausted(text)

    @property
    def has_rivals(self) -> bool:
        """Whether other validations wait for their turns."""
        return len(self._turns) > 0

    async def take_turn(self) -> None:
        """Wait for the turn of this query to compute."""
        taken = self._turns_taken
        self._turns_taken += 1
        await self._turns.take(taken)


class Work:
    """The computing for one reply so far, and the limits; the queries are counted per client."""

    __slots__ = ("_checks", "_failed", "_hashes", "_resumed", "queries")

    def __init__(self, queries: Queries | None = None) -> None:
        """Share the count of `queries`; None: begin a new one."""
        self.queries = queries or Queries()
        self._checks = self._failed = self._hashes = 0
        self._resumed = perf_counter()

    def count_check(self) -> None:
        """Count a check of a signature; raises Bogus above the limit."""
        self._checks += 1
        if self._checks > MOST_CHECKS:
            raise Bogus(f"a reply has more than {MOST_CHECKS} signatures to check")

    def count_failure(self) -> None:
        """Count a signature that is invalid; raises Bogus above the limit."""
        self._failed += 1
        if self._failed > MOST_FAILED_CHECKS:
            raise Bogus(f"a reply has more than {MOST_FAILED_CHECKS} invalid signatures")

    def count_hash(self) -> None:
        """Count an NSEC3 hash; raises Bogus above the limit."""
        self._hashes += 1
        if self._hashes > MOST_HASHES:
            raise Bogus(f"a reply needs more than {MOST_HASHES} NSEC3 hashes")

    def resume(self) -> None:
        """Begin to measure, after a wait."""
        self._resumed = perf_counter()

    async def pause(self) -> None:
        """Let the event loop run if this query has computed for `LONGEST_STEP`, or others wait."""
        if self.queries.has_rivals or perf_counter() - self._resumed > LONGEST_STEP:
            await self.queries.take_turn()
            self._resumed = perf_counter()
