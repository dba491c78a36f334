"""The answers that were given: prepared records, and the names to remove from caches.

A cluster changes many times a second, but clients ask for few of its names. So the caches are told
only of names for which a reply was made since they were told last. Names are grouped by their keys
(`names`), which the index reports as changed.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from corepy_kubernetes.names import APEX, OwnZones, external_key_of, key_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    Predicate = Callable[[bytes], bool]
    Forget = Callable[[Predicate], Awaitable[None]]

MOST_KEYS: Final = 32_768
"""Keys that are remembered; beyond them, the next change removes all replies in the zones."""

MOST_BYTES: Final = 4 * 1024 * 1024
"""Bytes of prepared answers, beyond which all are dropped."""

OVERHEAD: Final = 400
"""Bytes of a prepared answer besides its records."""

INTERVAL: Final = 0.02
"""Seconds between two removals from the caches."""

SHARE: Final = 4
"""An interval is at least this many times the CPU time of the removal before it."""

LONGEST: Final = 1.0
"""Seconds; the longest interval."""


class Prepared:
    """The records of an answer after the question, for the same question again."""

    __slots__ = ("additional", "answers", "body")

    def __init__(self, answers: int, additional: int, body: bytes) -> None:
        self.answers = answers
        self.additional = additional
        self.body = body


class Answered:
    """Remembers which keys have replies, and prepared answers to questions."""

    def __init__(self) -> None:
        self._questions: dict[bytes, list[bytes]] = {}
        """The questions with prepared answers, by key, of all keys with replies."""
        self._prepared: dict[bytes, Prepared] = {}
        self._size = 0
        self._aliases: dict[bytes, set[bytes]] = {}
        """For a key, those of the aliases that lead to it."""
        self._changed: set[bytes] = set()
        self._all_changed = False
        self._is_full = False
        self.wake: Callable[[], object] | None = None
        """Called when there are changes for `take_changes`."""
        self.find: Callable[[bytes], Prepared | None] = self._prepared.get
        """Return the prepared answer to a question, in the case of the query."""

    def note(self, key: bytes) -> None:
        """Remember that a reply was made for a key."""
        if key not in self._questions:
            if len(self._questions) >= MOST_KEYS:
                self._is_full = True
                self._forget_answers()
            self._questions[key] = []

    def note_alias(self, alias: bytes, target: bytes) -> None:
        """Remember that the reply for one key has the records of another one."""
        self.note(target)
        self._aliases.setdefault(target, set()).add(alias)

    def keep(self, key: bytes, question: bytes, prepared: Prepared) -> None:
        """Keep the answer to a question whose key was noted."""
        self._size += OVERHEAD + len(prepared.body)
        if self._size > MOST_BYTES:
            self._size = OVERHEAD + len(prepared.body)
            self._prepared.clear()
            for questions in self._questions.values():
                questions.clear()
        self._prepared[question] = prepared
        self._questions[key].append(question)

    def changed(self, key: bytes) -> None:
        """Drop the answers for a key, and those of a zone's own name, which has the serial."""
        known = self._questions
        if not known and not self._is_full:
            return
        for it in (key, APEX):
            questions = known.pop(it, None)
            if questions is not None:
                self._drop(it, questions)
        for alias in self._aliases.pop(key, ()):
            self.changed(alias)
        if self._is_full:
            self._report_all()

    def _drop(self, key: bytes, questions: Iterable[bytes]) -> None:
        for question in questions:
            prepared = self._prepared.pop(question, None)
            if prepared is not None:
                self._size -= OVERHEAD + len(prepared.body)
        self._changed.add(key)
        if self.wake is not None:
            self.wake()

    def changed_namespaces(self) -> None:
        """Drop all answers."""
        if self._questions or self._is_full:
            self._forget_answers()
            self._report_all()

    def _forget_answers(self) -> None:
        self._questions.clear()
        self._prepared.clear()
        self._size = 0
        self._aliases.clear()

    def _report_all(self) -> None:
        self._all_changed = True
        self._is_full = False
        if self.wake is not None:
            self.wake()

    def take_changes(self, zones: OwnZones, external: Iterable[bytes]) -> Predicate | None:
        """Return a predicate that selects the changed names in zones; None without changes.

        `external` are zones of *k8s_external*.
        """
        changed, everything = self._changed, self._all_changed
        if not changed and not everything:
            return None
        self._changed, self._all_changed = set(), False
        return ChangedNames(zones, tuple(external), None if everything else changed)


class ChangedNames:
    """Selects the names whose replies have changed."""

    __slots__ = ("_external", "_zones", "keys")

    def __init__(
        self, zones: OwnZones, external: tuple[bytes, ...], keys: set[bytes] | None
    ) -> None:
        """Select names with one of these keys; None selects all names in the zones."""
        self._zones = zones
        self._external = external
        self.keys = keys

    def __call__(self, name: bytes) -> bool:
        """Return whether the replies for a name, in wire form and lower case, have changed."""
        found = self._zones.find(name)
        if found is not None:
            zone, offsets = found
            if self.keys is None:
                return True
            key = key_of(name, offsets, len(name) - len(zone.wire))
            if key is not None and key in self.keys:
                return True
        for wire in self._external:
            key = external_key_of(name, wire)
            if key is not None and (self.keys is None or key in self.keys):
                return True
        return False


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
        while self._forget is not None:
            changes = self._answered.take_changes(self._zones, self._external)
            if changes is None:
                break
            began = time.thread_time()
            await self._forget(changes)
            spent = time.thread_time() - began
            await asyncio.sleep(min(max(INTERVAL, SHARE * spent), LONGEST))
        self._task = None
