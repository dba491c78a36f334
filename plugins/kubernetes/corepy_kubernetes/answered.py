"""The answers that were given: prepared records, and the names to remove from caches.

A cluster changes many times a second, but clients ask for few of its names. So only the names for
which a reply was made since the last removal are removed. Questions are grouped by the keys of
their names (`names`), which the index reports as changed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from corepy.dns.names import is_subdomain
from corepy.plugin import ChangedNames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from corepy_kubernetes.names import OwnZones

    Predicate = Callable[[bytes], bool]
    Forget = Callable[[Predicate], Awaitable[None]]

MOST_QUESTIONS: Final = 32_768
"""Questions that are remembered, and aliases; beyond them, the next change removes all replies in
the zones.
"""

MOST_BYTES: Final = 4 * 1024 * 1024
"""Bytes of prepared answers, beyond which all are dropped."""

OVERHEAD: Final = 200
"""Bytes of a prepared answer besides its records."""

INTERVAL: Final = 0.02
"""Seconds between two removals from the caches."""

SHARE: Final = 4
"""An interval is at least this many times the CPU time of the removal before it."""

LONGEST: Final = 1.0
"""Seconds; the longest interval."""

_TYPE_AND_CLASS: Final = 4
"""Bytes of a question after the name."""


class Prepared:
    """The records of an answer after the question, for the same question again."""

    __slots__ = ("additional", "answers", "body")

    def __init__(self, answers: int, additional: int, body: bytes) -> None:
        self.answers = answers
        self.additional = additional
        self.body = body


class Answered:
    """Remembers the questions that were answered, and prepared answers to some of them.

    A question is in the case of the query if its answer depends on it, else in lower case.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Prepared | None] = {}
        self._questions: dict[bytes, list[bytes]] = {}
        """The known questions by key."""
        self._aliases: dict[bytes, set[bytes]] = {}
        """For a key, those of the aliases that lead to it."""
        self._alias_count = 0
        self._size = 0
        self._changed: set[bytes] = set()
        """Names whose replies have changed."""
        self._all_changed = False
        self._is_full = False
        self.wake: Callable[[], object] | None = None
        """Called when there are changes for `take_changes`."""
        self.find: Callable[[bytes], Prepared | None] = self._known.get
        """Return the prepared answer to a question."""

    def note(self, key: bytes, question: bytes) -> None:
        """Remember that a question was answered from what `key` identifies."""
        if question in self._known:
            return
        if len(self._known) >= MOST_QUESTIONS:
            self._is_full = True
            self._forget_answers()
        self._known[question] = None
        self._questions.setdefault(key, []).append(question)

    def note_alias(self, alias: bytes, target: bytes) -> None:
        """Remember that the replies for one key have the records of another one."""
        aliases = self._aliases.setdefault(target, set())
        if alias not in aliases:
            aliases.add(alias)
            self._alias_count += 1
            if self._alias_count > MOST_QUESTIONS:  # of targets that services had before
                self._is_full = True
                self._forget_answers()

    def keep(self, question: bytes, prepared: Prepared) -> None:
        """Keep the answer to a question that was noted."""
        self._size += OVERHEAD + len(prepared.body)
        if self._size > MOST_BYTES:
            self._size = OVERHEAD + len(prepared.body)
            self._known.update(dict.fromkeys(self._known))
        self._known[question] = prepared

    def changed(self, key: bytes) -> None:
        """Drop the answers for a key, and those of aliases that lead to it."""
        waiting = [key]
        while waiting:  # an alias may lead to another one, and so on
            key = waiting.pop()
            questions = self._questions.pop(key, None)
            if questions is not None:
                self._drop(questions)
            aliases = self._aliases.pop(key, ())
            self._alias_count -= len(aliases)
            waiting += aliases
        if self._is_full:
            self._report_all()

    def _drop(self, questions: Iterable[bytes]) -> None:
        for question in questions:
            prepared = self._known.pop(question)
            if prepared is not None:
                self._size -= OVERHEAD + len(prepared.body)
            self._changed.add(question[:-_TYPE_AND_CLASS].lower())
        if self.wake is not None:
            self.wake()

    def changed_namespaces(self) -> None:
        """Drop all answers."""
        if self._known or self._is_full:
            self._forget_answers()
            self._report_all()

    def _forget_answers(self) -> None:
        self._known.clear()
        self._questions.clear()
        self._aliases.clear()
        self._alias_count = 0
        self._size = 0

    def _report_all(self) -> None:
        self._all_changed = True
        self._is_full = False
        if self.wake is not None:
            self.wake()

    def take_changes(self, zones: OwnZones, external: Iterable[bytes]) -> Predicate | None:
        """Return a predicate that selects the changed names; None without changes.

        After too many changes, these are all names in `zones`, and in `external`, the zones of
        *k8s_external*.
        """
        changed, everything = self._changed, self._all_changed
        if not changed and not everything:
            return None
        self._changed, self._all_changed = set(), False
        if not everything:
            return ChangedNames(changed)
        wires = [zone.wire for zone in zones.all] + list(external)
        return lambda name: any(is_subdomain(name, wire) for wire in wires)


class ChangeNotifier:
    """Removes replies that have changed from the caches, the first ones at once."""

    def __init__(self, answered: Answered, zones: OwnZones, external: Iterable[bytes]) -> None:
        self._answered = answered
        self._zones = zones
        self._external = external
        self._forget: Forget | None = None
        self._task: asyncio.Task[None] | None = None
        answered.wake = self._wake

    def start(self, forget: Forget) -> None:
        """Begin, with `LifecycleContext.forget_names`."""
        self._forget = forget
        self._wake()

    async def stop(self) -> None:
        """Stop; later changes are not reported."""
        self._forget = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _wake(self) -> None:
        if self._forget is not None and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._forget is not None:
                changes = self._answered.take_changes(self._zones, self._external)
                if changes is None:
                    break
                began = time.thread_time()
                await self._forget(changes)
                spent = time.thread_time() - began
                await asyncio.sleep(min(max(INTERVAL, SHARE * spent), LONGEST))
        finally:  # also after a failure: the next change begins anew
            self._task = None
