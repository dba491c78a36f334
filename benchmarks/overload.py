"""Measures a flood of new names with a slow upstream, in a small control group.

    python -m benchmarks.overload --seconds 60

The server command runs in a control group of 64 MiB. dnsperf sends 20,000 queries for new names a
second, and the upstream answers after eight seconds, later than *forward* or any client waits, also
on a busy machine. Meanwhile other queries ask for cached names, and the latency of each answer is
measured. The kernel kills a process that exceeds the memory of the group.

If no group can be created (missing privileges, or a cgroup v2 whose own group may have no
children), the process's largest resident size is the measure, and the option `memory` of *cache*
replaces the limit that the server would have read.
"""

from __future__ import annotations

import argparse
import heapq
import multiprocessing
import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ask import free_port
from benchmarks.procfs import cpu_seconds
from corepy.testing import Load, run_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corepy.testing import Command

MEMORY = 64 << 20
RATE = 20_000
DELAY = 8.0
HOT_RATE = 200
HOT = [f"hot-{number}.example.org." for number in range(20)]

_CGROUP = Path("/sys/fs/cgroup")
_MEMORY_OPTION = 15 << 20
"""The approximate share of a group of `MEMORY` that the server uses by default.

See plugins/cache, Memory.
"""

_COUNTS = re.compile(r"Queries (sent|lost): +(\d+)")
_CODES = re.compile(r"([A-Z]{3,}) (\d+) \(")
_REJECTS = re.compile(r"^coredns_\w+_rejects_total(?:{.*})? (\S+)$", re.M)
_ADDRESS = bytes((192, 0, 2, 53))


@dataclass(frozen=True)
class Result:
    """The outcome of a flood; `latencies` of hits are in seconds."""

    sent: int
    codes: dict[str, int]
    lost: int
    hits: int
    wrong: int
    unanswered: int
    median: float
    p99: float
    worst: float
    peak: int
    """The process's largest resident size in bytes."""

    group_peak: int
    """The largest memory use of the control group in bytes, 0 without one."""

    cpu: float
    """Share of a core that the server used."""

    rejects: int
    """Refused queries, as counted by the server."""

    alive: bool


class LateUpstream:
    """Answers every query after `DELAY` seconds, those for `HOT` names at once.

    It runs in a process of its own: as a thread it would delay the measurement of the hits.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self._due: list[tuple[float, int, bytes, Any]] = []
        self._process = multiprocessing.get_context("fork").Process(target=self._run, daemon=True)

    def __enter__(self) -> LateUpstream:
        self._process.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.join()
        self._sock.close()

    @property
    def to(self) -> str:
        """The address in the syntax of *forward*."""
        return "{}:{}".format(*self._sock.getsockname())

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            while True:
                selector.select(0.02)
                self._receive()
                self._answer(time.monotonic())

    def _receive(self) -> None:
        try:
            while True:
                wire, peer = self._sock.recvfrom(4096)
                self.asked += 1
                late = not wire.startswith((b"\0", b"\4hot-", b"\5hot-", b"\6hot-"), 12)
                due = time.monotonic() + (DELAY if late else 0)
                heapq.heappush(self._due, (due, self.asked, wire, peer))
        except BlockingIOError:
            pass

    def _answer(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, _, wire, peer = heapq.heappop(self._due)
            end = wire.index(b"\0", 12) + 5
            record = b"\xc0\x0c\0\1\0\1\0\0\x0e\x10\0\4" + _ADDRESS
            answer = wire[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + wire[12:end] + record
            try:
                self._sock.sendto(answer, peer)
            except OSError:  # the client has closed its socket (ECONNREFUSED)
                pass


@contextmanager
def memory_group(limit: int) -> Iterator[Path | None]:
    """Make a control group of `limit` bytes below this process's own; None if impossible."""
    folder = _own_group()
    group = None if folder is None else folder / f"overload-{os.getpid()}"
    try:
        if group is not None:
            group.mkdir()
            name = "memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes"
            (group / name).write_text(str(limit))
    except OSError:
        if group is not None and group.exists():
            group.rmdir()
        group = None
    try:
        yield group
    finally:
        if group is not None:
            group.rmdir()


def _own_group() -> Path | None:
    """Return the folder of this process's group in the hierarchy that limits memory."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        base = _CGROUP / "memory" if "memory" in controllers.split(",") else _CGROUP
        folder = base / path.lstrip("/")
        if any((folder / name).exists() for name in ("memory.max", "memory.limit_in_bytes")):
            return folder
    return None


def _peak(group: Path | None) -> int:
    for name in ("memory.peak", "memory.max_usage_in_bytes"):
        if group is not None and (group / name).exists():
            return int((group / name).read_text())
    return 0


def _resident_peak(pid: int) -> int:
    """Return the largest resident size in bytes, 0 for a process that has exited."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)


def run(
    seconds: float, rate: int = RATE, memory: int = MEMORY, cores: tuple[int, int] | None = None
) -> Result:
    """Run the flood for so many seconds; `cores` binds the server and the load to a core each."""
    with memory_group(memory) as group, LateUpstream() as upstream:
        option = "" if group is not None else f"{{\nmemory {_MEMORY_OPTION}\n}}"
        metrics = f"127.0.0.1:{free_port()}"
        text = (
            f".:0 {{\nbind 127.0.0.1\nprometheus {metrics}\ncache {option}\n"
            f"forward . {upstream.to}\n}}"
        )
        prefix = [] if cores is None else ["taskset", "-c", str(cores[0])]
        if group is not None:
            prefix += ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs")]
        with run_command(text, prefix=prefix) as server:
            for name in HOT:
                assert server.ask(name).rr
            core = [] if cores is None else [cores[1]]
            return _flood(server, seconds, rate, group, core, metrics)


def _flood(
    server: Command,
    seconds: float,
    rate: int,
    group: Path | None,
    core: Sequence[int],
    metrics: str,
) -> Result:
    pid = server.process.pid
    with tempfile.TemporaryDirectory() as folder:
        questions = _questions(Path(folder), int(rate * seconds))
        flood = _dnsperf(questions, server, rate, core)
        with Load(server.address, rate=HOT_RATE, clients=4, names=HOT) as load:
            began, used = time.monotonic(), cpu_seconds(pid)
            time.sleep(seconds)
            share = (cpu_seconds(pid) - used) / (time.monotonic() - began)
        output, _ = flood.communicate()
    counts = {key: int(value) for key, value in _COUNTS.findall(output)}
    codes = {code: int(count) for code, count in _CODES.findall(output)}
    outcome = load.outcome
    return Result(
        counts["sent"], codes, counts["lost"], len(outcome.latencies), outcome.wrong,
        outcome.unanswered, outcome.percentile(0.5), outcome.percentile(0.99),
        outcome.percentile(1), _resident_peak(pid), _peak(group), share,
        _rejects(metrics), server.process.poll() is None,
    )  # fmt: skip


def _rejects(metrics: str) -> int:
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=5) as response:
        text = response.read().decode()
    return sum(int(float(number)) for number in _REJECTS.findall(text))


def _questions(folder: Path, count: int) -> Path:
    path = folder / "questions"
    with path.open("w") as file:
        file.writelines(f"n{number}.example.org A\n" for number in range(count))
    return path


def _dnsperf(
    questions: Path, server: Command, rate: int, core: Sequence[int]
) -> subprocess.Popen[str]:
    host, port = server.address
    words = f"dnsperf -s {host} -p {port} -d {questions} -n 1 -Q {rate} -q 60000 -c 8 -t 6 -b 4096"
    prefix = ["taskset", "-c", str(core[0])] if core else []
    return subprocess.Popen([*prefix, *words.split()], stdout=subprocess.PIPE, text=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flood and print the outcome; the exit code is 1 if the server did not survive."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=int, default=RATE, help="new names a second")
    parser.add_argument("--memory", type=int, default=MEMORY >> 20, help="MiB")
    options = parser.parse_args(arguments)
    result = run(options.seconds, options.rate, options.memory << 20, cores=(0, 1))
    for name, value in vars(result).items():
        print(f"{name:12} {value}")
    return 0 if result.alive else 1


if __name__ == "__main__":
    sys.exit(main())
