"""Measures how warm caches stay: `python -m benchmarks.warm`.

A server with a full cache is queried at a steady rate for all of its names. Then it is reloaded,
upgraded, killed or restarted. The figure is the share of the queries in the ten seconds after it
that went upstream. In addition, the cost of a snapshot: the longest portion of work in the event
loop, and its size compared with the entries.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from corepy.dns.message import Request, query
from corepy.dns.names import from_text
from corepy.testing import Load, free_port, run_command
from corepy_cache.budget import Budget
from corepy_cache.dump import dump, load
from corepy_cache.entry import CacheEntry
from corepy_cache.handler import Cache
from corepy_cache.settings import Bounds, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.sharedctypes import Synchronized

    from corepy.testing import Command

NAMES = 10_000
RATE = 5000.0
SECONDS = 10.0
"""The time after an event in which the queries upstream are counted."""

SETTLE = 25.0
"""Seconds from the first query to the event: all names are asked for, and a snapshot is written."""

ROUNDS = 5
TTL = 3600
_RECORD = b"\xc0\x0c\0\1\0\1" + TTL.to_bytes(4) + b"\0\4\xc0\0\2\1"
_REPLY = b"\x81\x80\0\1\0\1\0\0\0\0"


def _answer(sock: socket.socket, count: Synchronized[int]) -> None:
    """Answer each query with one address, and count it."""
    while True:
        wire, client = sock.recvfrom(4096)
        end = wire.index(b"\0", 12) + 5
        count.value += 1
        sock.sendto(b"".join((wire[:2], _REPLY, wire[12:end], _RECORD)), client)


@contextmanager
def _upstream() -> Iterator[tuple[str, Synchronized[int]]]:
    """Run a name server in a process of its own; yield its address and its number of queries."""
    count = multiprocessing.Value("Q", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.bind(("127.0.0.1", 0))
        process = multiprocessing.Process(target=_answer, args=(sock, count), daemon=True)
        process.start()
        try:
            yield "{}:{}".format(*sock.getsockname()), count
        finally:
            process.kill()
            process.join()


class Event(NamedTuple):
    """An event that may empty caches."""

    flags: tuple[str, ...]
    options: str
    """Of *cache*; FILE stands for a path."""
    happen: Callable[[Command], None]


def _reload(command: Command) -> None:
    command.conf.write_text(command.conf.read_text() + "# changed\n")
    command.send_signal(signal.SIGUSR1)
    command.wait_for("Reloading complete")


def _upgrade(command: Command) -> None:
    command.send_signal(signal.SIGUSR2)
    command.wait_for(", stopping ")


def _kill_worker(command: Command) -> None:
    pid = command.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    command.wait_for(" serves", times=2)


def _restart(command: Command) -> None:
    assert command.stop() == 0


EVENTS = {
    "reload": Event((), "", _reload),
    "upgrade": Event(("-supervise",), "", _upgrade),
    "kill -9 of the worker": Event(("-supervise",), "", _kill_worker),
    "restart with keep": Event((), "keep FILE", _restart),
    "restart without keep": Event((), "", _restart),
}


def share_upstream(event: Event, folder: Path) -> tuple[float, int]:
    """Return the share of queries that go upstream after an event, and those without an answer.

    A restart loses the queries that arrive while no process runs.
    """
    port = free_port()
    options = event.options.replace("FILE", str(folder / "cache"))
    names = [f"name{number}.svc.example.org." for number in range(NAMES)]
    with _upstream() as (to, count):
        text = f""".:{port} {{
            bind 127.0.0.1
            cache {TTL} {{
                success {2 * NAMES}
                {options}
            }}
            forward . {to}
        }}
        """
        with run_command(text, *event.flags) as command:
            if event.flags:
                command.wait_for(" serves")
            with (
                ExitStack() as restarted,
                Load(("127.0.0.1", port), rate=RATE, names=names) as load,
            ):
                time.sleep(SETTLE)
                began, asked, sent = time.monotonic(), count.value, load.outcome.sent
                event.happen(command)
                if event.happen is _restart:
                    restarted.enter_context(run_command(text))
                time.sleep(SECONDS)
                share = (count.value - asked) / (load.outcome.sent - sent)
            return share, sum(at > began for at in load.outcome.lost)


def snapshot_cost() -> tuple[float, float, float, float]:
    """Return the cost of a snapshot of `NAMES` entries.

    Milliseconds of the longest portion of writing and reading, bytes of the state to those of the
    messages, and to the memory of the entries.
    """
    caches = [
        Cache(Settings(success=Bounds(TTL, capacity=2 * NAMES)), Budget(1 << 30)) for _ in range(2)
    ]
    store = caches[0].store
    messages = 0
    for number in range(NAMES):
        request = Request.from_wire(query(from_text(f"name{number}.svc.example.org."), 1))
        wire = b"\0\0" + _REPLY + request.question + _RECORD
        offsets = [request.question_end + 6]
        messages += len(wire)
        store.success.put(CacheEntry(request.asked, request, wire, offsets, TTL, store.clock()))
    longest, state = _timed(dump(store, 1 << 30))
    written = b"".join(state)
    reading, _ = _timed(load(caches[1].store, memoryview(written), 0.0))
    assert len(caches[1].store.success) == NAMES
    return longest, reading, len(written) / messages, len(written) / store.success.bytes


def _timed(steps: Iterator[bytes | None]) -> tuple[float, list[bytes]]:
    """Return the milliseconds of the longest step, and all results."""
    results, longest = list[bytes](), 0.0
    while True:
        began = time.perf_counter()
        try:
            result = next(steps)
        except StopIteration:
            return longest, results
        longest = max(longest, 1000 * (time.perf_counter() - began))
        results.append(result or b"")


def main(argv: list[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.warm", description=__doc__)
    parser.add_argument("events", nargs="*", default=list(EVENTS), help="by default all")
    arguments = parser.parse_args(argv)
    rounds = [snapshot_cost() for _ in range(ROUNDS)]
    # The median: a portion may be interrupted by another process.
    writing, reading, to_messages, to_memory = (
        median(column) for column in zip(*rounds, strict=True)
    )
    print(f"longest portion of a snapshot of {NAMES} entries: {writing:.1f} ms to write,")
    print(f"{reading:.1f} ms to read; {to_messages:.2f} times the messages, ", end="")
    print(f"{to_memory:.2f} times the memory of the entries\n")
    print("| event | queries upstream in ten seconds | unanswered |\n| --- | --- | --- |")
    for name in arguments.events:
        with tempfile.TemporaryDirectory() as folder:
            share, unanswered = share_upstream(EVENTS[name], Path(folder))
        print(f"| {name} | {share:.2%} | {unanswered} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
