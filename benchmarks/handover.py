"""Measures handovers under load: the queries lost when a server is replaced or reloaded.

Each kind of handover is a context manager. It starts the servers at `ADDRESS`, given the address of
the upstream and a folder for files, and yields a function that performs one handover. All servers
run in the network namespace of the caller, which should be a new one: the port is fixed, so that
several processes can share it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.streams import Streams
from corepy.testing import ask, knot, run_command
from corepy.testing.command import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from benchmarks.streams import Fate, Traffic
    from corepy.testing import Command

    Kind = Callable[[str, Path], AbstractContextManager[Callable[[], None]]]

ADDRESS = ("127.0.0.1", 53)
PAUSE = 0.3
"""Seconds between two handovers, in which clients that reconnected send queries again."""

NAMES = [f"name{number}.example.org." for number in range(20)]
ZONE = (
    "@ 60 SOA ns.example.org. admin.example.org. 1 60 60 60 60\n@ 60 NS ns.example.org.\n"
    + "".join(f"{name} 60 A 192.0.2.{at}\n" for at, name in enumerate(NAMES, 1))
)
STOP_TIMEOUT = 20.0


def corefile(upstream: str, extra: str = "", processes: int = 1) -> str:
    """Return the Corefile: a cache at `ADDRESS`, and the `extra` blocks."""
    return f"""\
.:{ADDRESS[1]} {{
    bind {ADDRESS[0]}
    multisocket {processes}
    cache
    forward . {upstream}
}}
{extra}"""


@contextmanager
def replaced(upstream: str, _folder: Path) -> Iterator[Callable[[], None]]:
    """SIGTERM while a second process answers at the same address (SO_REUSEPORT)."""
    with _replacing(upstream) as hand_over:
        yield hand_over


@contextmanager
def relieved(upstream: str, _folder: Path) -> Iterator[Callable[[], None]]:
    """Like `replaced`, with a supervisor for each process."""
    with _replacing(upstream, "-supervise") as hand_over:
        yield hand_over


@contextmanager
def _replacing(upstream: str, *flags: str) -> Iterator[Callable[[], None]]:
    text = corefile(upstream)
    with ExitStack() as cleanup:
        running = [cleanup.enter_context(run_command(text, *flags))]

        def hand_over() -> None:
            running.append(cleanup.enter_context(run_command(text, *flags)))
            _stop(running.pop(0))

        yield hand_over


@contextmanager
def reloaded(upstream: str, _folder: Path) -> Iterator[Callable[[], None]]:
    """SIGUSR1 with other blocks: one at another port and one at the same port come and go."""
    more = f"example.net:{ADDRESS[1]} example.net:5353 {{\n bind {ADDRESS[0]}\n whoami\n}}\n"
    turns = 0
    with run_command(corefile(upstream)) as command:

        def hand_over() -> None:
            nonlocal turns
            turns += 1
            command.conf.write_text(corefile(upstream, more if turns % 2 else ""))
            command.send_signal(signal.SIGUSR1)
            command.wait_for("Reloading complete", times=turns)

        yield hand_over


@contextmanager
def upgraded(upstream: str, _folder: Path) -> Iterator[Callable[[], None]]:
    """SIGHUP to `corepy -supervise`: a new worker takes over the sockets."""
    turns = 0
    with run_command(corefile(upstream), "-supervise") as command:
        command.wait_for(" serves")

        def hand_over() -> None:
            nonlocal turns
            turns += 1
            command.send_signal(signal.SIGHUP)
            command.wait_for(", stopping ", times=turns)
            wait_until(lambda: len(workers(command)) == 1, STOP_TIMEOUT)

        yield hand_over


@contextmanager
def regrown(upstream: str, _folder: Path) -> Iterator[Callable[[], None]]:
    """SIGUSR1 with another number of processes (*multisocket*), then an upgrade of all of them."""
    turns = 0
    with run_command(corefile(upstream, processes=2), "-supervise") as command:
        command.wait_for(" serves")

        def hand_over() -> None:
            nonlocal turns
            turns += 1
            command.conf.write_text(corefile(upstream, processes=(2, 1, 3)[turns % 3]))
            command.send_signal(signal.SIGUSR1)
            command.wait_for("Reloading complete", times=turns)
            command.send_signal(signal.SIGHUP)
            command.wait_for(", stopping ", times=turns)
            wait_until(lambda: len(workers(command)) == 1, STOP_TIMEOUT)

        yield hand_over


@contextmanager
def rolled(upstream: str, _folder: Path) -> Iterator[Callable[[], None]]:
    """Restart both servers of a highly available pair at one address, in turn."""
    text = corefile(upstream)
    with ExitStack() as cleanup:
        pair = [cleanup.enter_context(run_command(text)) for _ in range(2)]

        def hand_over() -> None:
            for _ in range(2):
                _stop(pair.pop(0))
                pair.append(cleanup.enter_context(run_command(text)))

        yield hand_over


@contextmanager
def baseline(upstream: str, folder: Path) -> Iterator[Callable[[], None]]:
    """Like `replaced`, with two unbound processes (so-reuseport)."""
    conf = folder / "unbound.conf"
    conf.write_text(_unbound(upstream))
    with ExitStack() as cleanup:
        running = [cleanup.enter_context(_run_unbound(conf))]

        def hand_over() -> None:
            running.append(cleanup.enter_context(_run_unbound(conf)))
            running.pop(0).terminate()

        yield hand_over


HANDOVERS: dict[str, Kind] = {
    "replaced": replaced,
    "relieved": relieved,
    "reloaded": reloaded,
    "upgraded": upgraded,
    "regrown": regrown,
    "rolled": rolled,
}


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one kind of handover."""

    name: str
    turns: int
    seconds: float
    udp: Fate
    tcp: Fate
    overflows: int = 0
    """Datagrams dropped because a socket of the namespace was full: an overloaded machine."""

    @property
    def lost(self) -> int:
        """Queries without an answer, or with a wrong one."""
        return self.udp.unanswered + self.udp.wrong + self.tcp.unanswered + self.tcp.wrong


def measure(name: str, kind: Kind, turns: int, traffic: Traffic, folder: Path) -> Result:
    """Perform `turns` handovers of a `kind` under `traffic`; `folder` takes configuration files."""
    with (
        knot(ZONE, "example.org") as (host, port),
        kind(f"{host}:{port}", folder) as hand_over,
    ):
        for question in NAMES:
            ask(ADDRESS, question)
        streams = Streams(ADDRESS, traffic, NAMES)
        began, full = time.monotonic(), overflows()
        with streams:
            for _ in range(turns):
                time.sleep(PAUSE)
                hand_over()
            time.sleep(PAUSE)
    seconds = time.monotonic() - began
    return Result(name, turns, seconds, streams.udp, streams.tcp, overflows() - full)


def overflows() -> int:
    """Return the datagrams dropped by full sockets in this network namespace (RcvbufErrors)."""
    lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    return int(values[names.index("RcvbufErrors")])


def workers(command: Command) -> list[int]:
    """Return the process IDs of a supervisor's workers."""
    pid = command.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _stop(command: Command) -> None:
    if command.stop():
        raise RuntimeError(f"the server failed:\n{command.output}")


def _unbound(upstream: str) -> str:
    return f"""\
server:
    interface: {ADDRESS[0]}@{ADDRESS[1]}
    so-reuseport: yes
    num-threads: 1
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    module-config: "iterator"
    do-not-query-localhost: no
    incoming-num-tcp: 1000
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {upstream.replace(":", "@")}
"""


@contextmanager
def _run_unbound(conf: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run unbound; yields once it has a socket of its own at `ADDRESS`."""
    with subprocess.Popen(["unbound", "-d", "-c", str(conf)], stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _listens(process.pid), STOP_TIMEOUT)
            yield process
        finally:
            process.kill()


def _listens(pid: int) -> bool:
    """Return whether a process holds a socket that listens at `ADDRESS`."""
    folder = f"/proc/{pid}/fd"
    try:
        mine = {os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}
    except FileNotFoundError:  # closed meanwhile
        return False
    wanted = f"0100007F:{ADDRESS[1]:04X}"
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return any(row[1] == wanted and row[3] == "0A" and f"socket:[{row[9]}]" in mine for row in rows)
