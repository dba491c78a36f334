"""The command `python -m benchmarks.encrypted_handover`: handovers under load of encrypted queries.

Clients of DNS over TLS, HTTPS (HTTP/2) and QUIC query one supervised server at the same time, while
it is reloaded (SIGUSR1) and upgraded (SIGUSR2) in turn. `benchmarks.encrypted_connections` defines
which queries are lost. Prints a row for each transport; the exit code is 1 if a query was lost or
answered wrongly.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from benchmarks.encrypted_clients import FINISH_TIMEOUT, Fate
from benchmarks.encrypted_connections import SERVER_NAME
from benchmarks.handover import NAMES, STOP_TIMEOUT, ZONE, workers
from corepy.testing import free_port, knot, run_command
from corepy.testing.certificates import Authority
from corepy.testing.command import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from corepy.testing import Command
    from corepy.testing.certificates import Files

PAUSE = 1.0
"""Seconds between two handovers, in which clients that reconnected send queries again."""

SCHEMES: Final = {"dot": "tls", "doh": "https", "doq": "quic"}


@dataclass(frozen=True, slots=True)
class Load:
    """Connections of one transport, and their queries a second together."""

    connections: int
    rate: float


FULL: Final = {"dot": Load(200, 400), "doh": Load(100, 300), "doq": Load(50, 60)}


class Streams:
    """The clients of each transport in a process within the `with` block; `fates` at its end."""

    def __init__(
        self, ports: Mapping[str, int], authority: Path, loads: Mapping[str, Load]
    ) -> None:
        self.fates: dict[str, Fate] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        for kind, load in loads.items():
            words = [kind, "127.0.0.1", ports[kind], authority, load.rate, load.connections, *NAMES]
            self._processes[kind] = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.encrypted_clients", *map(str, words)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )

    def __enter__(self) -> Self:
        """Wait until all connections are open."""
        for process in self._processes.values():
            assert process.stdout is not None
            process.stdout.readline()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop the clients and wait for their last replies."""
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None  # communicate() would flush it
        for kind, process in self._processes.items():
            output, _ = process.communicate(timeout=2 * FINISH_TIMEOUT)
            self.fates[kind] = Fate(**json.loads(output))


def corefile(
    ports: Mapping[str, int], files: Files, upstream: str, processes: int, *, more: bool = False
) -> str:
    """Return the Corefile; with `more`, the servers have a second block."""
    common = f"bind 127.0.0.1\n    tls {files.certificate} {files.key}\n"
    keys = " ".join(f"{SCHEMES[kind]}://.:{port}" for kind, port in ports.items())
    others = " ".join(f"{SCHEMES[kind]}://example.net:{port}" for kind, port in ports.items())
    first = f"""\
{keys} {{
    {common}    multisocket {processes}
    cache
    forward . {upstream}
}}
"""
    return first + (f"{others} {{\n    {common}    whoami\n}}\n" if more else "")


@dataclass(slots=True)
class Server:
    """A supervised server, and its handovers."""

    command: Command
    text: Callable[[bool], str]
    """Return the Corefile, with or without the second block."""

    reloads: int = 0
    upgrades: int = 0

    def reload(self) -> None:
        """SIGUSR1 with a block that comes or goes."""
        self.reloads += 1
        self.command.conf.write_text(self.text(self.reloads % 2 == 1))
        self.command.send_signal(signal.SIGUSR1)
        self.command.wait_for("Reloading complete", times=self.reloads)

    def upgrade(self) -> None:
        """SIGUSR2: a new worker takes over the sockets, and the old one ends."""
        self.upgrades += 1
        self.command.send_signal(signal.SIGUSR2)
        self.command.wait_for(", stopping ", times=self.upgrades)
        wait_until(lambda: len(workers(self.command)) == 1, STOP_TIMEOUT)


@contextmanager
def serving(
    folder: Path, ports: Mapping[str, int], processes: int = 1
) -> Iterator[tuple[Server, Files]]:
    """Run a supervised server; `folder` takes the files of its certificate."""
    files = Authority().issue(folder, SERVER_NAME, "127.0.0.1")
    with knot(ZONE, "example.org") as (host, port):

        def text(more: bool) -> str:
            return corefile(ports, files, f"{host}:{port}", processes, more=more)

        environment = {"RUNTIME_DIRECTORY": str(folder)}
        with run_command(text(False), "-supervise", env=environment) as command:
            command.wait_for(" serves")
            yield Server(command, text), files


def measure(
    loads: Mapping[str, Load], turns: int, folder: Path, processes: int = 1, pause: float = PAUSE
) -> dict[str, Fate]:
    """Reload and upgrade `turns` times each under load; return the outcomes."""
    ports = {kind: free_port() for kind in loads}
    with serving(folder, ports, processes) as (server, files):
        with Streams(ports, files.authority, loads) as streams:
            for _ in range(turns):
                for hand_over in (server.reload, server.upgrade):
                    time.sleep(pause)
                    hand_over()
            time.sleep(pause)
        return streams.fates


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    arguments = _parser().parse_args(argv)
    loads = {
        kind: Load(
            getattr(arguments, kind), load.rate * getattr(arguments, kind) / load.connections
        )
        for kind, load in FULL.items()
        if getattr(arguments, kind)
    }
    with tempfile.TemporaryDirectory() as folder:
        fates = measure(loads, arguments.turns, Path(folder), arguments.processes)
    names = [field.name for field in fields(Fate)]
    print("| transport | " + " | ".join(names) + " |\n|" + "---|" * (1 + len(names)))
    for kind, fate in fates.items():
        values = [getattr(fate, name) for name in names]
        shown = [f"{it:.3f}" if isinstance(it, float) else str(it) for it in values]
        print(f"| {kind} | " + " | ".join(shown) + " |")
    return 1 if any(fate.lost or fate.wrong for fate in fates.values()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.encrypted_handover", description=__doc__
    )
    for kind, load in FULL.items():
        text = f"connections of this transport ({load.connections})"
        parser.add_argument(f"--{kind}", type=int, default=load.connections, help=text)
    parser.add_argument("--turns", type=int, default=5, help="reloads and upgrades (5 each)")
    parser.add_argument("--processes", type=int, default=1, help="processes, multisocket (1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
