"""Disturbs the processes of a supervised server with *multisocket*, and checks its recovery.

One or several events happen at once: kills, stops, reloads, upgrades.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from corepy.testing.command import wait_until
from corepy.testing.listening import children, is_whole, listening, read_by

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from corepy.testing import Command

AT_ONCE = (1, 1, 2, 3)
"""The number of events before the server gets time to recover; one is drawn."""

GAP = 0.7
"""Maximum seconds between two of these events."""

WHOLE_TIMEOUT = 60.0


class DisturbedProcesses:
    """The processes of a server that `command` supervises, at a port."""

    def __init__(
        self, command: Command, port: int, most: int, corefile: Callable[[int], str]
    ) -> None:
        """Begin with `most` processes, which is also the maximum.

        `corefile` returns the configuration with a number of processes.
        """
        self.number = most
        self._most = most
        self._command = command
        self._port = port
        self._corefile = corefile
        self._events: dict[str, Callable[[random.Random], None]] = {
            "follower killed": lambda chance: self._hit_follower(chance, signal.SIGKILL),
            "follower stopped": lambda chance: self._hit_follower(chance, signal.SIGSTOP),
            "leader killed": lambda _: self._hit_leader(signal.SIGKILL),
            "leader stopped": lambda _: self._hit_leader(signal.SIGSTOP),
            "reload": lambda _: self._command.send_signal(signal.SIGUSR1),
            "other number": self._regrow,
            "upgrade": lambda _: self._command.send_signal(signal.SIGHUP),
        }

    def disturb(self, chance: random.Random) -> str:
        """Cause some events, faster than the server can recover; return their names."""
        names = chance.sample(list(self._events), chance.choice(AT_ONCE))
        for name in names:
            self._events[name](chance)
            time.sleep(chance.uniform(0, GAP))
        return " + ".join(names)

    def wait_until_recovered(self) -> None:
        """Wait until there is one worker, and each socket is read by one of its processes.

        Raises TimeoutError with the current state.
        """
        try:
            wait_until(self._is_whole, WHOLE_TIMEOUT)
        except TimeoutError as error:
            raise TimeoutError(self._describe()) from error

    def _is_whole(self) -> bool:
        workers = self._workers()
        return len(workers) == 1 and is_whole(workers[0], self._port, self.number)

    def _describe(self) -> str:
        lines = [f"{self.number} wanted; sockets {listening(self._port)}"]
        for worker in self._workers():
            lines += [
                f"{pid} of {worker} reads {sorted(read_by(pid))}"
                for pid in (worker, *children(worker))
            ]
        return "\n".join([*lines, *self._command.lines[-40:]])

    def _workers(self) -> list[int]:
        return children(self._command.process.pid)

    def _hit_leader(self, number: int) -> None:
        for worker in self._workers()[-1:]:
            _hit(worker, number)

    def _hit_follower(self, chance: random.Random, number: int) -> None:
        followers = [pid for worker in self._workers()[-1:] for pid in children(worker)]
        if followers:
            _hit(chance.choice(followers), number)

    def _regrow(self, chance: random.Random) -> None:
        others = [it for it in range(1, self._most + 1) if it != self.number]
        self.number = chance.choice(others)
        self._command.conf.write_text(self._corefile(self.number))
        self._command.send_signal(signal.SIGUSR1)


def _hit(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
