"""Asks one server for its statistics at an interval, in a thread, and follows its successors.

A server that does not answer, or that is gone, must not keep the screen from reacting to keys. When
the server of a control socket is gone, such as at an upgrade, the newest server with the same
Corefile takes its place, now or later.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from corepy.commands.running_servers import NONE_RUNS
from corepy.commands.top.top_exchange import NEXT, NOW, Polled
from corepy.plugin.control_client import ControlError, ServerGoneError, ask, process_of, sockets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMAND: Final = "stats"
HISTORY_EVERY: Final = 10.0
"""Seconds between two requests for the history, whose points are that far apart."""

RETRY: Final = 1.0
"""Seconds at most until a server that has not answered is asked again."""


class StatsPoller:
    """Keeps the latest documents of a server; `polled` may be read in any thread."""

    def __init__(
        self, interval: float, on_news: Callable[[], None], pid: int | None = None, top: int = 100
    ) -> None:
        """Ask every `interval` seconds; prefer the server `pid`; call `on_news` in the thread."""
        self.polled = Polled()
        self._interval = interval
        self._on_news = on_news
        self._wanted = pid
        self._is_moving = False
        self._name: str | None = None
        self._argument = {"top": top}
        self._path: Path | None = None
        self._history: Any = None
        self._history_at = -HISTORY_EVERY
        self._now = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="corepy-top", daemon=True)

    def start(self) -> None:
        """Start to ask."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the request in progress; do not wait for it."""
        self._ended = True
        self._now.set()

    def carry_out(self, request: str, interval: float) -> None:
        """Do what the screen requests, and ask at `interval` seconds from now on."""
        if request == NEXT:
            self._move()
        if request in (NEXT, NOW) or interval < self._interval:
            self._now.set()
        self._interval = interval

    def _move(self) -> None:
        """Continue with the next server of this host."""
        servers, path = self.polled.servers, self._path
        if len(servers) > 1:
            current = process_of(path) if path is not None else 0
            place = servers.index(current) if current in servers else -1
            self._wanted = servers[(place + 1) % len(servers)]
            self._is_moving = True

    def _run(self) -> None:
        while not self._ended:
            self._now.clear()
            polled = self.polled = self.poll()
            self._on_news()
            self._now.wait(min(self._interval, RETRY) if polled.problem else self._interval)

    def poll(self) -> Polled:
        """Ask once; return what is known afterwards."""
        last = self.polled
        paths = sockets()
        servers = tuple(process_of(path) for path in paths)
        try:
            path = self._choose(paths)
            if path is None:
                return Polled(last.document, None, _nothing_to_ask(servers), servers)
            document = self._ask(path)
        except ServerGoneError:
            self._path = None
            return Polled(last.document, None, "the server is gone", servers)
        except ControlError as error:
            return Polled(last.document, None, str(error), servers)
        before = last.document if self._path == path and not last.problem else None
        self._path = path
        self._name = document["server"]["name"]
        return Polled(document, before, "", servers)

    def _choose(self, paths: list[Path]) -> Path | None:
        """Return the socket to ask: the same, the wanted one, or that of the successor."""
        if self._path in paths and not self._is_moving:
            return self._path
        self._is_moving = False
        for path in paths:
            if process_of(path) == self._wanted:
                return path
        newest = sorted(paths, key=_made_at, reverse=True)
        if self._name is None:
            return newest[0] if newest else None
        return next((path for path in newest if self._is_successor(path)), None)

    def _is_successor(self, path: Path) -> bool:
        """Return whether the server has the Corefile of the one before."""
        try:
            document = ask(path, COMMAND, {"top": 0})
        except ControlError:
            return False
        return bool(document["server"]["name"] == self._name)

    def _ask(self, path: Path) -> dict[str, Any]:
        now = time.monotonic()
        wants_history = path != self._path or now - self._history_at >= HISTORY_EVERY
        document: dict[str, Any] = ask(path, COMMAND, {**self._argument, "history": wants_history})
        if wants_history:
            self._history, self._history_at = document.get("history"), now
        document["history"] = self._history
        return document


def _nothing_to_ask(servers: tuple[int, ...]) -> str:
    return "the server is gone; n shows another one" if servers else NONE_RUNS


def _made_at(path: Path) -> float:
    """Return when a socket was made, 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
