"""The record sets that a thread signs, and the queries that wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from corepy.zone.signatures import SignedData


class Wanted(NamedTuple):
    """A record set to sign, and the zone that signs it, in wire form and lower case."""

    data: SignedData
    zone: bytes


class Signed(NamedTuple):
    """The signatures of a record set."""

    rdatas: tuple[bytes, ...]
    since: int
    renewed: int
    """The time from which the signatures are used, and at which they are renewed; since 1970."""


@final
class Job:
    """A record set that the thread signs, and the queries that wait for it."""

    __slots__ = ("key", "now", "queries", "signed", "wanted")

    def __init__(self, wanted: Wanted, key: bytes, now: int) -> None:
        self.wanted = wanted
        self.key = key
        self.now = now
        self.signed: Signed
        self.queries: list[Waiting] = []

    def end(self, error: BaseException | None = None) -> None:
        """Pass on that `signed` is there, or the reason why it is not."""
        for query in self.queries:
            query.count(error)


@final
class Waiting:
    """The signatures for one query, of which the thread makes some.

    A future for each record set, and a coroutine that awaits them, would take as long as the
    signature of a short key.
    """

    __slots__ = ("_call", "_error", "_left", "_parts", "_traceback")

    def __init__(self, parts: Sequence[Signed | Job]) -> None:
        """`parts` are in the order of the record sets."""
        self._parts = parts
        self._left = 0
        for part in parts:
            if isinstance(part, Job):
                part.queries.append(self)
                self._left += 1
        self._call: Callable[[], object] | None = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None

    def when_done(self, call: Callable[[], object]) -> None:
        """Call `call` when `result` has one, in the event loop; it must not raise."""
        if self._left:
            self._call = call
        else:
            call()

    def count(self, error: BaseException | None) -> None:
        """Count a record set that is signed; with `error`, none of the others is awaited."""
        if not self._left:
            return
        self._left -= 1
        if error is not None:
            self._error, self._traceback, self._left = error, error.__traceback__, 0
        if not self._left and self._call is not None:
            self._call()

    def result(self) -> list[Signed]:
        """Return the signatures, or raise the error of the thread."""
        if self._error is not None:  # several queries raise it: it must not grow with each
            raise self._error.with_traceback(self._traceback)
        return [it.signed if isinstance(it, Job) else it for it in self._parts]
