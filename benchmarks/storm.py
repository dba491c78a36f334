"""Reloads, upgrades, kills, upstream faults and flushed rules under load, in any order and for as
long as wanted.

The server is supervised, and *nodecache* keeps its address and rules. The interface is a bridge
made beforehand, since not every kernel has the dummy driver. What is reported: the fate of the
queries, and whether memory and descriptors of the supervisor and its worker grow.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.handover import NAMES, ZONE, workers
from benchmarks.procfs import pss_kib
from benchmarks.streams import Streams
from corepy.testing import ask, knot, run_command
from corepy.testing.command import wait_until
from corepy.testing.netns import run

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from benchmarks.streams import Fate, Traffic
    from corepy.testing import Command

ADDRESS = ("169.254.20.10", 53)
DEVICE = "nodecache"
IPTABLES = "iptables-nft"
COREFILE = """\
.:{port} {{
    bind {host}
    nodecache {{
        iptables nft
    }}
    cache
    forward . {upstream}
}}
"""

PAUSE = (0.5, 3.0)
"""Seconds between two events: at least, at most."""

FAULT = 1.0
"""Seconds that the upstream is out of reach."""

SERVE_TIMEOUT = 30.0


@dataclass(slots=True)
class Storm:
    """What happened, and what was measured at each event."""

    events: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    pss: list[int] = field(default_factory=list)
    """KiB, supervisor and worker together."""

    descriptors: list[int] = field(default_factory=list)
    udp: Fate | None = None
    tcp: Fate | None = None

    def note(self, event: str, began: float, pid: int) -> None:
        """Count an event and measure the process tree of `pid`, while one worker serves."""
        self.events[event] = self.events.get(event, 0) + 1
        self.seconds.append(time.monotonic() - began)
        self.pss.append(pss_kib(pid))
        self.descriptors.append(len(os.listdir(f"/proc/{pid}/fd")))

    @property
    def pss_slope(self) -> float:
        """KiB an hour by which memory grew, as least squares have it, the first quarter left out:
        caches fill.
        """
        start = len(self.pss) // 4
        times, sizes = self.seconds[start:], self.pss[start:]
        if len(times) < 2:
            return 0.0
        mean_time, mean_size = sum(times) / len(times), sum(sizes) / len(sizes)
        spread = sum((at - mean_time) ** 2 for at in times)
        pairs = zip(times, sizes, strict=True)
        return 3600 * sum((t - mean_time) * (s - mean_size) for t, s in pairs) / spread


def rage(seconds: float, traffic: Traffic, seed: int) -> Storm:
    """Let it storm; `seed` decides what comes when."""
    chance, storm = random.Random(seed), Storm()
    with (
        knot(ZONE, "example.org") as (host, port),
        _run(f"{host}:{port}") as command,
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
        streams, began = Streams(ADDRESS, traffic, NAMES), time.monotonic()
        with streams:
            while time.monotonic() - began < seconds:
                time.sleep(chance.uniform(*PAUSE))
                event = chance.choice(list(events))
                events[event]()
                wait_until(lambda: len(workers(command)) == 1, SERVE_TIMEOUT)
                wait_until(lambda: _rules() == rules, SERVE_TIMEOUT)
                storm.note(event, began, command.process.pid)
        storm.udp, storm.tcp = streams.udp, streams.tcp
    return storm


def _run(upstream: str) -> AbstractContextManager[Command]:
    """Start the server, which is to take `upstream`; it serves when this is entered."""
    run("ip", "link", "add", DEVICE, "type", "bridge")
    host, port = ADDRESS
    text = COREFILE.format(host=host, port=port, upstream=upstream)
    return run_command(text, "-supervise")


def _signal(command: Command, number: int, done: str) -> None:
    """Send a signal and wait for the line that says `done`."""
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
    """Return the rules of the namespace, which are all *nodecache*'s."""
    saved = run(f"{IPTABLES}-save", check=False)  # fails when the tables change meanwhile
    return sorted(line for line in saved.splitlines() if line.startswith("-A"))


def report(storm: Storm) -> str:
    """Return what is printed after the table."""
    events = ", ".join(f"{count} x {event}" for event, count in sorted(storm.events.items()))
    return (
        f"storm: {events}; memory {storm.pss[0]} to {storm.pss[-1]} KiB, slope"
        f" {storm.pss_slope:.0f} KiB/h; descriptors of the supervisor {storm.descriptors[0]} to"
        f" {storm.descriptors[-1]}"
    )
