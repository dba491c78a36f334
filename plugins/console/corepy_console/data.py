"""The documents that the page shows, from the commands of the running server."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from corepy.plugin import CommandError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    RunCommand = Callable[[str, Any], Awaitable[Any]]

FRESH: Final = 0.9
"""Seconds for which a document is sent again: many open pages cost no more than one."""

HISTORY_FRESH: Final = 5.0
"""The same for the history, whose points are 10 seconds apart."""

TOP: Final = 20
"""Rows of each list of top talkers."""

MAX_QUERY: Final = 2048
MAX_EXPLANATIONS: Final = 4
"""Questions that are explained at the same time."""

SHOWN: Final = ("time", "server", "reload", "ready", "not_ready", "problems", "blocks")
"""The parts of the document "status" that the page shows."""


class Shared:
    """A document that all clients share while it is fresh."""

    def __init__(self, make: Callable[[], Awaitable[Any]], fresh: float = FRESH) -> None:
        """`make` makes the document, which is fresh for `fresh` seconds."""
        self._make = make
        self._fresh = fresh
        self._made_at = -fresh
        self._value: Any = None
        self._lock = asyncio.Lock()

    async def get(self) -> Any:
        """Return the document; it is made if there is no fresh one."""
        async with self._lock:
            if time.monotonic() - self._made_at >= self._fresh:
                self._value = await self._make()
                self._made_at = time.monotonic()
            return self._value


@dataclass(frozen=True, slots=True)
class Question:
    """The question to explain, as `corepy explain` takes it."""

    name: str
    type: str = "A"
    client: str = ""
    protocol: str = "udp"
    do: bool = False

    @classmethod
    def of(cls, query: str) -> Question:
        """Return the question in the query of a URL; raises `CommandError`."""
        if len(query) > MAX_QUERY:
            raise CommandError(f"the question has more than {MAX_QUERY} characters")
        try:
            fields = parse_qs(query, max_num_fields=8, errors="strict")
        except ValueError:
            raise CommandError("the question is not valid UTF-8, or has too many parts") from None
        name = _last(fields, "name")
        if not name:
            raise CommandError("the question has no name")
        return cls(
            name,
            (_last(fields, "type") or "A").upper(),
            _last(fields, "client"),
            _last(fields, "protocol") or "udp",
            _last(fields, "do") == "1",
        )


def _last(fields: dict[str, list[str]], name: str) -> str:
    return fields.get(name, [""])[-1].strip()


class Data:
    """Makes the documents; `run_command` carries out a command of the server."""

    def __init__(self, run_command: RunCommand) -> None:
        self._run_command = run_command
        self._stats = Shared(lambda: run_command("stats", {"top": TOP}))
        self._history = Shared(self._make_history, HISTORY_FRESH)
        self._status = Shared(self._make_status)
        self._corefile = Shared(lambda: run_command("corefile", None))
        self._explaining = 0

    async def stats(self) -> Any:
        """Return the statistics."""
        return await self._stats.get()

    async def history(self) -> Any:
        """Return the history of the last hour."""
        return await self._history.get()

    async def _make_history(self) -> Any:
        found = await self._run_command("stats", {"top": 0, "history": True})
        return found["history"]

    async def status(self) -> Any:
        """Return the state of the server and its server blocks."""
        return await self._status.get()

    async def _make_status(self) -> Any:
        found = await self._run_command("status", None)
        return {key: found[key] for key in SHOWN}

    async def corefile(self) -> Any:
        """Return the Corefile without secrets, and its diagnostics."""
        return await self._corefile.get()

    async def explain(self, question: Question) -> Any:
        """Return how the server answers a question; raises `CommandError`."""
        if self._explaining >= MAX_EXPLANATIONS:
            raise CommandError("other questions are being explained; try again")
        self._explaining += 1
        try:
            return await self._run_command("explain", asdict(question))
        finally:
            self._explaining -= 1
