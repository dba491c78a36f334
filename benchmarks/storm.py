"""Random reloads, upgrades, kills, upstream faults and flushed rules under load.

The server is supervised, and *nodecache* maintains its address and rules. The interface is a bridge
created beforehand, since not every kernel has the dummy driver. The report has the outcome of the
queries, and whether memory and descriptors of the supervisor and its worker grow.

With several processes (*multisocket*), single processes are killed and stopped, too, their number
changes, and events overlap. After each turn every socket must be read by a process.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.disturbance import DisturbedProcesses
from benchmarks.handover import NAMES, ZONE, workers
from benchmarks.procfs import pss_kib
from benchmarks.streams import Streams
from corepy.testing import ask, knot, run_command
from corepy.testing.command import wait_until
from corepy.testing.netns import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.streams import Fate, Traffic
    from corepy.testing import Command

ADDRESS = ("169.254.20.10", 53)
DEVICE = "nodecache"
IPTABLES = "iptables-nft"
COREFILE = """\
.:{port} {{
    bind {host}
    multisocket {number}
    nodecache {{
        iptables nft
    }}
    cache
    forward . {upstream}
}}
"""

PAUSE = (0.5, 3.0)
"""Minimum and maximum seconds between two events."""

FAULT = 1.0
"""Seconds that the upstream is unreachable."""

SERVE_TIMEOUT = 30.0
DISTURBED_SHARE = 0.7
"""Share of the turns that concern single processes, if there are several."""


@dataclass(slots=True)
class Storm:
    """The events, and the measurements at each event."""

    events: dict[str, int] = field(default_factory=dict)
    log: list[tuple[float, str]] = field(default_factory=list)
    """The end time of each event, by the monotonic clock, and its name."""

    seconds: list[float] = field(default_factory=list)
    pss: list[int] = field(default_factory=list)
    """KiB of supervisor and worker together."""

    descriptors: list[int] = field(default_factory=list)
    udp: Fate | None = None
    tcp: Fate | None = None

    def note(self, event: str, began: float, pid: int) -> None:
        """Count an event and measure the process tree of `pid`, while one worker serves."""
        self.events[event] = self.events.get(event, 0) + 1
        self.log.append((time.monotonic(), event))
        self.seconds.append(time.monotonic() - began)
        self.pss.append(pss_kib(pid))
        self.descriptors.append(len(os.listdir(f"/proc/{pid}/fd")))

    @property
    def pss_slope(self) -> float:
        """The growth of memory in KiB an hour, by least squares.

        The first quarter is left out, because the caches fill.
        """
        start = len(self.pss) // 4
        times, sizes = self.seconds[start:], self.pss[start:]
        if len(times) < 2:
            return 0.0
        mean_time, mean_size = sum(times) / len(times), sum(sizes) / len(sizes)
        spread = sum((at - mean_time) ** 2 for at in times)
        pairs = zip(times, sizes, strict=True)
        return 3600 * sum((t - mean_time) * (s - mean_size) for t, s in pairs) / spread

    def losses_by_event(self) -> list[str]:
        """Return a line for each event that lost queries: those sent since the previous event."""
        assert self.udp is not None
        assert self.tcp is not None
        lines, began = [], 0.0
        for ended, event in self.log:
            lost = [sum(began < at <= ended for at in it.lost) for it in (self.udp, self.tcp)]
            if any(lost):
                lines.append(f"{event}: {lost[0]} over UDP, {lost[1]} over TCP")
            began = ended
        return lines


def rage(seconds: float, traffic: Traffic, seed: int, processes: int = 1) -> Storm:
    """Run the storm with at most `processes`; `seed` determines the events."""
    chance, storm = random.Random(seed), Storm()
    with (
        knot(ZONE, "example.org") as (host, port),
        _run(f"{host}:{port}", processes) as (command, corefile),
    ):
        command.wait_for(" serves")
        for name in NAMES:
            ask(ADDRESS, name)
        rules = _rules()
        run("nft", "add table ip storm")
        run("nft", "add chain ip storm upstream { type filter hook output priority 0 ; }")
        events = {
            "reload": lambda: _signal(command, signal.SIGUSR1, "Reloading complete"),
            "upgrade": lambda: _signal(command, signal.SIGHUP, " serves"),
            "kill": lambda: _kill(command),
            "upstream fault": lambda: _cut_off(port),
            "rules flushed": _flush,
        }
        group = DisturbedProcesses(command, ADDRESS[1], processes, corefile)
        streams, began = Streams(ADDRESS, traffic, NAMES), time.monotonic()
        with streams:
            while time.monotonic() - began < seconds:
                time.sleep(chance.uniform(*PAUSE))
                if processes > 1 and chance.random() < DISTURBED_SHARE:
                    event = group.disturb(chance)
                else:
                    event = chance.choice(list(events))
                    events[event]()
                wait_until(lambda: len(workers(command)) == 1, SERVE_TIMEOUT)
                group.wait_until_recovered()
                wait_until(lambda: _rules() == rules, SERVE_TIMEOUT)
                storm.note(event, began, command.process.pid)
        storm.udp, storm.tcp = streams.udp, streams.tcp
    return storm


@contextmanager
def _run(upstream: str, processes: int) -> Iterator[tuple[Command, Callable[[int], str]]]:
    """Start the server; yields it and a function that returns a Corefile with `upstream`."""
    run("ip", "link", "add", DEVICE, "type", "bridge")
    host, port = ADDRESS

    def corefile(number: int) -> str:
        return COREFILE.format(host=host, port=port, upstream=upstream, number=number)

    with run_command(corefile(processes), "-supervise") as command:
        yield command, corefile


def _signal(command: Command, number: int, done: str) -> None:
    """Send a signal and wait for the log line that contains `done`."""
    before = _count(command, done)
    command.send_signal(number)
    command.wait_for(done, times=before + 1)


def _kill(command: Command) -> None:
    before = _count(command, " serves")
    for worker in workers(command):
        os.kill(worker, signal.SIGKILL)
    command.wait_for(" serves", times=before + 1)


def _count(command: Command, text: str) -> int:
    return sum(text in line for line in command.lines)


def _cut_off(port: int) -> None:
    run("nft", f"add rule ip storm upstream meta l4proto {{ tcp, udp }} th dport {port} drop")
    time.sleep(FAULT)
    run("nft", "flush chain ip storm upstream")


def _flush() -> None:
    for table in ("raw", "filter"):
        run(IPTABLES, "-t", table, "-F")


def _rules() -> list[str]:
    """Return the rules of the namespace, all of them made by *nodecache*."""
    saved = run(f"{IPTABLES}-save", check=False)  # fails if the tables change meanwhile
    return sorted(line for line in saved.splitlines() if line.startswith("-A"))


def report(storm: Storm) -> str:
    """Return the text printed after the table."""
    events = ", ".join(f"{count} x {event}" for event, count in sorted(storm.events.items()))
    head = (
        f"storm: {events}; memory {storm.pss[0]} to {storm.pss[-1]} KiB, slope"
        f" {storm.pss_slope:.0f} KiB/h; descriptors of the supervisor {storm.descriptors[0]} to"
        f" {storm.descriptors[-1]}"
    )
    return "\n".join([head, *storm.losses_by_event()])
