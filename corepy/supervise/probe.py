"""Probes whether the worker still answers, by queries like a client's.

The query is a message of opcode STATUS, which the listener itself answers (see
`corepy.server.listen.status_query`). The supervisor has no client for other transports than plain
DNS, and does not probe their sockets. If an address has several sockets (*multisocket*), the kernel
chooses the process that receives the query. So an answer does not prove that the worker itself is
healthy, and a missing one may be the fault of another process. Therefore the worker also reports
over the notification socket that its event loop runs.

A worker without these reports is replaced quickly, but the time in which it waits for a CPU does
not count (`corepy.net.cpu_starvation`). A worker that reports but leaves a transport unanswered is
replaced only after a long time: a flood can crowd out the probes, and killing a busy worker would
make it worse.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from typing import TYPE_CHECKING

from corepy.net.cpu_starvation import cpu_times, is_starved, seconds_waited
from corepy.net.sockets import own_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corepy.net.cpu_starvation import CpuTimes

INTERVAL = 0.25
"""Seconds between two rounds of probes."""

SUSPECT_AFTER = 2
"""Rounds without any answer after which the worker may hang, and a standby is started."""

SILENT_AFTER = 6
"""Rounds without any answer after which the worker is considered dead.

Counted in rounds, not in seconds: while the supervisor itself is stopped, with its machine or its
control group, it sends no probes.
"""

STARVED_AFTER = 40
"""The same for a worker that waits for a CPU."""

PARTLY_SILENT_AFTER = 40
"""Rounds without an answer at one address and transport until the worker is killed."""

_STATUS = b"\x10\0\0\0\0\0\0\0\0\0"


class Probe:
    """Sends probes to the listening sockets, and counts the unanswered ones of each address."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._open: dict[socket.socket, tuple[str, bytes]] = {}
        self._unanswered: dict[str, int] = {}
        self._rounds_since_report: int | None = None
        self._pid = 0
        self._before: CpuTimes | None = None
        """The CPU times of the worker when it last showed a sign of life."""

    def reset(self, sockets: Mapping[str, socket.socket], pid: int) -> None:
        """Reset all counts for worker `pid`, which is known to answer at `sockets`."""
        self._forget_open()
        self._unanswered = dict.fromkeys(_one_each(sockets), 0)
        self._rounds_since_report = None
        self._pid, self._before = pid, cpu_times(pid)

    def record_alive(self, *, last: bool = False) -> None:
        """Record the worker's report that it is alive; with `last` it is about to exit."""
        self._rounds_since_report = None if last else 0

    def stop(self) -> None:
        """Stop waiting for answers."""
        self._forget_open()
        self._unanswered.clear()
        self._rounds_since_report = None

    def ask(self, sockets: dict[str, socket.socket]) -> None:
        """Send one probe to each address; those of the last round are given up."""
        self._forget_open()
        if not self._silence():
            self._before = cpu_times(self._pid)
        if self._rounds_since_report is not None:
            self._rounds_since_report += 1
        before, self._unanswered = self._unanswered, {}
        for name, listening in _one_each(sockets).items():
            with contextlib.suppress(OSError):  # no descriptor or port: not the worker's fault
                address = own_address(listening)
                if address is not None:  # None if no interface has the address
                    self._ask_one(name, address, listening.type)
                    self._unanswered[name] = before.get(name, 0) + 1

    def _ask_one(self, name: str, address: tuple[str | int, ...], kind: int) -> None:
        family = socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._open[sock] = (name, os.urandom(2) + _STATUS)
        try:
            sock.connect(address)
        except BlockingIOError:
            pass
        except OSError:
            self._close(sock)
            raise
        self._selector.register(sock, selectors.EVENT_WRITE, self._on_event)

    def _on_event(self, sock: socket.socket, events: int) -> None:
        name, question = self._open[sock]
        try:
            if events & selectors.EVENT_WRITE:
                framed = sock.type == socket.SOCK_STREAM
                sock.send(len(question).to_bytes(2, "big") + question if framed else question)
                self._selector.modify(sock, selectors.EVENT_READ, self._on_event)
            elif question[:2] in sock.recv(512)[:4]:
                self._unanswered[name] = 0
                self._close(sock)
            else:
                self._close(sock)
        except OSError:
            self._close(sock)

    def find_problem(self) -> str | None:
        """Return the worker's problem; None if it answers or is excused."""
        silence = self._silence()
        if silence >= SILENT_AFTER and not self._is_excused(silence):
            return f"no response for {silence * INTERVAL:g} s"
        for name, rounds in self._unanswered.items():
            if rounds >= PARTLY_SILENT_AFTER:
                return f"no reply at {name} for {PARTLY_SILENT_AFTER * INTERVAL:g} s"
        return None

    def is_suspect(self) -> bool:
        """Return whether the worker has been silent for so long that it may hang."""
        return self._silence() >= SUSPECT_AFTER and not is_starved(
            self._before, cpu_times(self._pid)
        )

    def _silence(self) -> int:
        """Return the rounds since the last sign of life.

        That is the worker's own report, or if it sends none, any answer.
        """
        if self._rounds_since_report is not None:
            return self._rounds_since_report
        return min(self._unanswered.values(), default=0)

    def _is_excused(self, silence: int) -> bool:
        """Return whether a worker may be silent for so long, because it waited for a CPU."""
        if silence >= STARVED_AFTER:
            return False
        now = cpu_times(self._pid)
        rounds_waited = int(seconds_waited(self._before, now) / INTERVAL)
        return silence - rounds_waited < SILENT_AFTER or is_starved(self._before, now)

    def _forget_open(self) -> None:
        for sock in list(self._open):
            self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        if self._open.pop(sock, None) is not None:
            if sock in self._selector.get_map():
                self._selector.unregister(sock)
            sock.close()


def _one_each(sockets: Mapping[str, socket.socket]) -> dict[str, socket.socket]:
    """Return one of the sockets of each address and kind, under its name."""
    first: dict[object, str] = {}
    for name, sock in sockets.items():
        first.setdefault((sock.type, sock.getsockname()), name)
    return {name: sockets[name] for name in first.values()}
