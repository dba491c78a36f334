"""The real command on a node where others meddle: what they take away comes back, a lock is waited for.

The times are printed (`pytest -rP`); what is asserted is generous, machines being what they are. The
interface is a bridge made beforehand, since this kernel may lack the dummy driver.
"""

from __future__ import annotations

import fcntl
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from corepy.testing import ask, run_command
from corepy.testing.command import wait_until
from corepy.testing.netns import addresses, isolated, placed_rules, run
from corepy_nodecache.model import MARK, DesiredState, UntrackedEndpoint, spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = ("legacy", "nft")
V4, V6 = ("169.254.20.10", 5300), ("fd00::10", 5300)
ANOTHER = ("169.254.20.11", 5301)
PREFIXED = ["169.254.20.10/32", "fd00::10/128"]
SLOW = 60.0  # seconds after which a test has failed for good; a repair takes less than one
HELD = 20.0

DAMAGES = {
    "flush raw": "iptables-{kind} -t raw -F",
    "flush filter, IPv6": "ip6tables-{kind} -F",
    "one rule": "iptables-{kind} -t raw -D OUTPUT 1",
    "address": "ip addr del 169.254.20.10/32 dev nodecache",
    "all addresses": "ip addr flush dev nodecache",
    "link down": "ip link set nodecache down",
    "link deleted": "ip link del nodecache",
}


def block(kind: str, *ips: str, port: int = 5300) -> str:
    options = f"nodecache {{\n iptables {kind}\n }}"
    return f".:{port} {{\n bind {' '.join(ips)}\n {options}\n whoami\n}}\n"


def make_bridge() -> None:
    run("ip", "link", "add", "nodecache", "type", "bridge")


def ours(kind: str) -> list[str]:
    return sorted(rule for rule in placed_rules(kind) if MARK in rule)


def expected(*sockets: tuple[str, int]) -> list[str]:
    rules = DesiredState(
        endpoints=frozenset(UntrackedEndpoint("dns", *it) for it in sockets)
    ).rules()
    return sorted(f"{rule.family} {rule.table} -A {spec(rule)}" for rule in rules)


def seconds_until(done: Callable[[], bool]) -> float:
    start = time.monotonic()
    wait_until(done, SLOW)
    return time.monotonic() - start


def answers(address: tuple[str, int]) -> bool:
    """Ask once; the kernel's route to an address of IPv6 comes a little later than the address."""
    try:
        return ask(address, "example.org", timeout=1).header.rcode == 0
    except OSError:
        return False


@pytest.mark.parametrize("kind", KINDS)
@isolated
def test_what_others_take_away_is_put_back(kind: str) -> None:
    make_bridge()
    rules = expected(V4, V6)

    def whole() -> bool:
        try:
            return ours(kind) == rules and addresses("nodecache") == PREFIXED
        except OSError:  # the table changed while it was read
            return False

    with run_command(block(kind, V4[0], V6[0])) as server:
        assert whole()
        for number, (name, command) in enumerate(DAMAGES.items(), 1):
            run(*command.format(kind=kind).split())
            if name == "link deleted":
                server.wait_for("no dummy driver")
                make_bridge()
            print(f"{kind}, {name}: whole after {seconds_until(whole):.2f} s")
            server.wait_for("repaired changes made by others", times=number)
            wait_until(lambda: answers(V4) and answers(V6))
        assert server.output.count("repaired changes made by others") == len(DAMAGES)
        assert server.stop() == 0
    assert (ours(kind), addresses("nodecache")) == ([], [])


@isolated
def test_a_flush_of_everything_in_nftables_is_put_back() -> None:
    make_bridge()
    with run_command(block("nft", V4[0])) as server:
        run("nft", "flush", "ruleset")
        print(f"whole after {seconds_until(lambda: ours('nft') == expected(V4)):.2f} s")
        assert server.stop() == 0


class Client:
    """Asks without a pause, over UDP and TCP, and remembers the longest wait."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.answers = 0
        self.longest = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(0.01):
            for address, tcp in ((V4, False), (V6, False), (V4, True)):
                start = time.monotonic()
                try:
                    assert ask(address, "example.org", tcp=tcp).header.rcode == 0
                except (OSError, AssertionError) as error:
                    self.failures.append(error)
                self.answers += 1
                self.longest = max(self.longest, time.monotonic() - start)


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(path))
    return path


@isolated
def test_dns_answers_while_the_lock_is_held_for_long(lock: Path) -> None:
    """Meanwhile somebody flushes the rules, the server is reloaded, and another one comes and goes."""
    make_bridge()
    with run_command(block("legacy", V4[0], V6[0])) as server, lock.open("w") as file:
        client = Client()
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            release = time.monotonic() + HELD
            run("env", f"XTABLES_LOCKFILE={lock}.other", "iptables-legacy", "-t", "raw", "-F")
            server.wait_for("another program holds")
            server.conf.write_text(
                block("legacy", V4[0], V6[0]) + block("legacy", *ANOTHER[:1], port=5301)
            )
            server.send_signal(signal.SIGUSR1)
            server.wait_for("Reloading complete")
            assert ask(ANOTHER, "example.org").header.rcode == 0
            with run_command(block("legacy", "169.254.20.12")) as second:
                second.wait_for("another program holds")
                assert second.ask("example.org").header.rcode == 0
                assert second.stop() == 0
            assert len(ours("legacy")) == 14
            time.sleep(max(0.0, release - time.monotonic()))
            fcntl.flock(file, fcntl.LOCK_UN)
            wanted = expected(V4, V6, ANOTHER)
            print(
                f"whole {seconds_until(lambda: ours('legacy') == wanted):.2f} s after the release"
            )
        finally:
            client.end()
        server.wait_for("the host matches the configuration again")
        print(f"{client.answers} answers, the slowest after {client.longest:.3f} s")
        assert client.failures == []
        assert server.output.count("another program holds") == 1
        assert server.stop() == 0
    assert (ours("legacy"), addresses("nodecache")) == ([], [])


@isolated
def test_a_stop_waits_for_the_lock_a_while(lock: Path) -> None:
    make_bridge()
    text = (
        block("legacy", V4[0]) + block("legacy", V6[0]) + block("legacy", *ANOTHER[:1], port=5301)
    )
    with lock.open("w") as file, run_command(text) as server:
        fcntl.flock(file, fcntl.LOCK_EX)
        server.send_signal(signal.SIGTERM)
        server.wait_for("another program holds")
        time.sleep(1)
        fcntl.flock(file, fcntl.LOCK_UN)
        assert server.process.wait(SLOW) == 0
    assert (ours("legacy"), addresses("nodecache")) == ([], [])


@isolated
def test_a_stop_does_not_wait_for_the_lock_for_ever(lock: Path) -> None:
    make_bridge()
    text = (
        block("legacy", V4[0]) + block("legacy", V6[0]) + block("legacy", *ANOTHER[:1], port=5301)
    )
    with lock.open("w") as file, run_command(text) as server:
        fcntl.flock(file, fcntl.LOCK_EX)
        start = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.process.wait(SLOW) == 0  # how long it tries: test_nodecache_pacing.py
        print(f"stopped in {time.monotonic() - start:.1f} s")
        server.wait_for("could not remove everything")
    assert (len(ours("legacy")), addresses("nodecache")) == (30, [])
    run(sys.executable, "-m", "corepy", "nodecache", "teardown")
    assert ours("legacy") == []
