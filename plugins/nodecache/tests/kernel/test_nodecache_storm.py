"""Reloads at random, ended by SIGTERM at random, with the rules looked at all the while.

The real command, for each kind of iptables, both families, in a namespace with rules and addresses of
others. What two configurations have in common must be seen at every look while one takes over from
the other.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from corepy.testing import Command, ask, run_command
from corepy.testing.netns import addresses, bystanders, host, isolated, placed_rules
from corepy_nodecache.model import MARK, DesiredState, UntrackedEndpoint, spec

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("legacy", "nft")
ALWAYS = "169.254.20.10"
IPS = (ALWAYS, "169.254.20.11", "169.254.20.12", "fd00::10", "fd00::11")
PORTS = (5300, 5301, 5302)
RELOADS = 40
LIVES = 5

Blocks = dict[int, tuple[str, ...]]  # the addresses of the server block of each port


def random_blocks(dice: random.Random) -> Blocks:
    ports = dice.sample(PORTS, dice.randint(1, len(PORTS)))
    blocks = {port: tuple(dice.sample(IPS, dice.randint(1, 3))) for port in ports}
    return blocks | {5300: tuple({ALWAYS, *blocks.get(5300, ())})}


def corefile(kind: str, blocks: Blocks) -> str:
    return "".join(
        f".:{port} {{\n bind {' '.join(ips)}\n nodecache {{\n iptables {kind}\n }}\n whoami\n}}\n"
        for port, ips in blocks.items()
    )


def expected(blocks: Blocks) -> frozenset[str]:
    """What a look sees of a configuration: its rules and its addresses."""
    endpoints = {UntrackedEndpoint("dns", ip, port) for port, ips in blocks.items() for ip in ips}
    rules = DesiredState(endpoints=frozenset(endpoints)).rules()
    texts = {f"{rule.family} {rule.table} -A {spec(rule)}" for rule in rules}
    width = {ip: 128 if ":" in ip else 32 for ips in blocks.values() for ip in ips}
    return frozenset(texts | {f"{ip}/{bits}" for ip, bits in width.items()})


def look(kind: str) -> list[str]:
    foreign = ("10.9.9.9/24", "fd09::9/64")
    found = [rule for rule in placed_rules(kind) if MARK in rule]
    return [*found, *(it for it in addresses("nodecache") if it not in foreign)]


class Poller:
    """Looks at the host again and again, and collects what was missing of `must`."""

    def __init__(self, kind: str) -> None:
        self.looks = 0
        self.missing: list[set[str]] = []
        self._kind = kind
        self._musts: list[frozenset[str]] = [frozenset()]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def must(self, what: frozenset[str]) -> None:
        """From now on `what` has to be seen."""
        self._musts.append(what)

    def end(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(0.02):
            first = len(self._musts) - 1
            if not self._musts[first]:
                continue  # while a server starts or stops, nothing could be missing
            try:
                seen = set(look(self._kind))
            except OSError:  # the table changed while it was read
                continue
            # What had to be there at every moment of the look.
            missing = frozenset.intersection(*self._musts[first:]) - seen
            self.looks += 1
            if missing:
                self.missing.append(set(missing))


class Life:
    """A server from its start to its end, watched."""

    def __init__(self, kind: str, dice: random.Random, poller: Poller) -> None:
        self._kind, self._dice, self._poller = kind, dice, poller
        self._now = random_blocks(dice)

    def run(self, reloads: int) -> None:
        with run_command(corefile(self._kind, self._now)) as server:
            self._settle()
            for number in range(1, reloads):
                self._reload(server)
                server.wait_for("Reloading complete", times=number)
                self._settle()
            self._poller.must(frozenset())
            self._end(server)

    def _settle(self) -> None:
        wanted = expected(self._now)
        self._poller.must(wanted)
        assert sorted(look(self._kind)) == sorted(wanted)
        assert ask((ALWAYS, 5300), "example.org").header.rcode == 0

    def _reload(self, server: Command) -> None:
        old, self._now = self._now, random_blocks(self._dice)
        self._poller.must(expected(old) & expected(self._now))
        server.conf.write_text(corefile(self._kind, self._now))
        server.send_signal(signal.SIGUSR1)

    def _end(self, server: Command) -> None:
        """Reload and stop at once, in either order; the reload must not outlive the stop."""
        server.conf.write_text(corefile(self._kind, random_blocks(self._dice)))
        signals = [signal.SIGUSR1, signal.SIGTERM]
        if self._dice.random() < 0.3:
            signals.reverse()
        server.send_signal(signals[0])
        time.sleep(self._dice.random() ** 2 * 0.3)
        server.send_signal(signals[1])
        assert server.process.wait(60) == 0, server.output


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_reloads_ended_by_sigterm_never_miss_a_wanted_rule(kind: str) -> None:
    before, dice = bystanders(kind, "nodecache"), random.Random(20)
    cuts = sorted(dice.sample(range(2, RELOADS - 2), LIVES - 1))
    poller = Poller(kind)
    try:
        for first, last in zip([0, *cuts], [*cuts, RELOADS], strict=True):
            Life(kind, dice, poller).run(last - first)
            assert host(kind) == before
    finally:
        poller.end()
    print(f"{kind}: {poller.looks} looks during {RELOADS} reloads")
    assert poller.missing == []
    assert poller.looks > RELOADS


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_sigterm_in_the_middle_of_a_start_leaves_nothing(kind: str, tmp_path: Path) -> None:
    before, dice = bystanders(kind, "nodecache"), random.Random(4)
    conf = tmp_path / "Corefile"
    for _ in range(8):
        conf.write_text(corefile(kind, random_blocks(dice)))
        command = [sys.executable, "-m", "corepy", "-quiet", "-conf", str(conf)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
            time.sleep(0.15 + dice.random() * 0.5)
            server.send_signal(signal.SIGTERM)
            output, _ = server.communicate(timeout=60)
        # Before it obeys signals it has not touched the host.
        assert server.returncode in (0, -signal.SIGTERM), output
        assert host(kind) == before
