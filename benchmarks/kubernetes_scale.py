"""Measures *kubernetes* with clusters of some size: sync, memory, changes under load, storms.

    python -m benchmarks.kubernetes_scale --services 1000 --endpoints 5000

An API server in a process of its own has the cluster. Three figures count: the time from the start
of corepy to the first right answer, with its memory then; the time from the event of a change to
the first answer that has it, while other names are asked 2,000 times a second; and the CPU time of
a storm of changes. Seconds of CPU are those of corepy alone, so they hold on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import dnslib

from benchmarks.ask import AnswerError, ask, free_port
from benchmarks.procfs import cpu_seconds, pss_kib
from benchmarks.report import table
from corepy.testing import helper_module

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SERVER: Final = Path(__file__).parent.parent / "plugins/kubernetes/tests/kubernetes_api_server.py"
HOST: Final = "127.0.0.1"
ZONE: Final = "svc.cluster.local."
START_LIMIT: Final = 120.0
STORM_SECONDS: Final = 10.0
COREFILE: Final = """\
.:{port} {{
    bind {host}
    kubernetes cluster.local {{
        endpoint {url}
        startup_timeout 50s
    }}
    cache
}}
"""


class Sizes(NamedTuple):
    """What to measure."""

    services: int
    endpoints: int
    changes: int
    rate: int
    """Queries a second while changes are timed."""

    storm: int
    """Changes a second of the storm."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table; with `serve`, be the API server."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kubernetes_scale", description=__doc__
    )
    parser.add_argument("--services", type=int, default=1000, help="services (1000)")
    parser.add_argument("--endpoints", type=int, default=5000, help="endpoints (5000)")
    parser.add_argument("--changes", type=int, default=200, help="changes that are timed (200)")
    parser.add_argument("--rate", type=int, default=2000, help="queries a second (2000)")
    parser.add_argument("--storm", type=int, default=500, help="changes a second (500)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = vars(parser.parse_args(argv))
    is_server = arguments.pop("serve")
    sizes = Sizes(**arguments)
    if is_server:
        asyncio.run(_Cluster(sizes).serve())
        return 0
    rows = list(_measure(sizes))
    print(table(["figure", f"{sizes.services:,} services, {sizes.endpoints:,} endpoints"], rows))
    return 0


# -- the API server


class _Cluster:
    """A cluster whose every other service is headless, and the commands that change it."""

    def __init__(self, sizes: Sizes) -> None:
        self._fake = helper_module(str(SERVER), SERVER.stem)
        self._sizes = sizes
        self._api = self._fake.FakeAPI()
        self._api.put("namespaces", self._fake.namespace("default"))
        for number in range(sizes.services):
            self._put_service(number)
            self._put_slice(number, 0)

    def _put_service(self, number: int) -> None:
        name = _service(number)
        addresses = [] if number % 2 else [_address(10, number)]
        content = self._fake.service(name, "default", addresses, [("http", "TCP", 80)])
        self._api.put("services", content)

    def _put_slice(self, number: int, change: int) -> None:
        """Put the slice of a service; a change replaces its first address."""
        count = self._sizes.endpoints // self._sizes.services
        base = number * count + 1
        firsts = [_address(12, change)] if change else [_address(11, base)]
        rest = [_address(11, base + index) for index in range(1, count)]
        endpoints = [
            self._fake.endpoint(
                it,
                nodeName=f"node-{index}.example",
                targetRef={
                    "kind": "Pod",
                    "namespace": "default",
                    "name": f"{_service(number)}-7d4b9c6f5-{index:05}",
                    "uid": "1f0c8a52-6b7e-4a2e-8c3f-0d9b5e7a1c24",
                },
                zone=f"zone-{index % 3}",
            )
            for index, it in enumerate(firsts + rest)
        ]
        name = f"{_service(number)}-x7k2p"
        ports = [("http", "TCP", 8080)]
        content = self._fake.endpoint_slice(name, _service(number), endpoints, ports)
        self._api.put("endpointslices", content)

    async def serve(self) -> None:
        """Print the port, and carry out the commands from the standard input."""
        await self._api.start()
        print(self._api.port, flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            word, *numbers = line.split()
            if word == "change":
                self._put_slice(*map(int, numbers))
                print(time.monotonic(), flush=True)
            else:
                await self._storm(*map(int, numbers))
                print("done", flush=True)
        await self._api.stop()

    async def _storm(self, rate: int) -> None:
        """Change other slices for some seconds, at a steady rate."""
        began = time.monotonic()
        for change in range(int(rate * STORM_SECONDS)):
            self._put_slice(change % self._sizes.services, 100_000 + change)
            await asyncio.sleep(max(0.0, began + (change + 1) / rate - time.monotonic()))


def _service(number: int) -> str:
    return f"service-{number:05}"


def _address(first: int, number: int) -> str:
    return f"{first}.{number >> 16}.{number >> 8 & 255}.{number & 255}"


# -- the measurement


def _measure(sizes: Sizes) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory() as folder, _api(sizes) as api:
        port = free_port()
        url = f"http://{HOST}:{api.port}"
        conf = Path(folder, "Corefile")
        conf.write_text(COREFILE.format(port=port, host=HOST, url=url))
        with _corepy(conf) as process:
            began = time.monotonic()
            _wait(port, _name(0), _address(10, 0), process)
            seconds = time.monotonic() - began
            yield ["first answer", f"{seconds:.2f} s, CPU {cpu_seconds(process.pid):.2f} s"]
            time.sleep(1)
            yield ["PSS", f"{pss_kib(process.pid) * 1024 / 1e6:.1f} MB"]
            yield from _timed_changes(api, port, sizes, Path(folder, "names"))
            yield from _storm(api, process, sizes)
            yield ["PSS at the end", f"{pss_kib(process.pid) * 1024 / 1e6:.1f} MB"]


def _name(number: int) -> str:
    return f"{_service(number)}.default.{ZONE}"


def _timed_changes(api: _API, port: int, sizes: Sizes, questions: Path) -> Iterator[list[str]]:
    questions.write_text("".join(f"{_name(it)} A\n" for it in range(sizes.services)))
    command = ["dnsperf", "-s", HOST, "-p", str(port), "-d", str(questions)]
    command += ["-Q", str(sizes.rate), "-l", "600"]
    load = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        times = sorted(_time_change(api, port, it, it + 1) for it in range(sizes.changes))
    finally:
        load.terminate()
        load.wait()
    shares = [(50, times[len(times) // 2]), (99, times[int(len(times) * 0.99)]), (100, times[-1])]
    shown = ", ".join(f"p{share} {seconds * 1e3:.1f} ms" for share, seconds in shares)
    yield [f"change to answer, {sizes.rate:,} queries a second", shown]


def _time_change(api: _API, port: int, turn: int, change: int) -> float:
    """Return the seconds from the event of a change to the first answer that has it."""
    time.sleep(random.uniform(0.0, 0.2))  # changes come at any time
    number = 1 + 2 * turn % api.services | 1  # a headless service: its answer has the endpoints
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((HOST, port))
        query = bytes(dnslib.DNSRecord.question(_name(number)).pack())
        sock.send(query)
        sock.recv(4096)  # the answer is in the caches now
        began, wanted = float(api.command(f"change {number} {change}")), _address(12, change)
        answer = b""
        while socket.inet_aton(wanted) not in answer:
            sock.send(query)
            answer = sock.recv(4096)
        return time.monotonic() - began


def _storm(api: _API, process: subprocess.Popen[bytes], sizes: Sizes) -> Iterator[list[str]]:
    before, began = cpu_seconds(process.pid), time.monotonic()
    api.command(f"storm {sizes.storm}")
    seconds = time.monotonic() - began
    share = (cpu_seconds(process.pid) - before) / seconds
    rate = sizes.storm * STORM_SECONDS / seconds
    yield [f"storm of {rate:.0f} changes a second", f"{share:.0%} of a core"]


class _API:
    """The process of the API server."""

    def __init__(self, process: subprocess.Popen[str], services: int) -> None:
        self._process = process
        self.services = services
        self.port = int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def command(self, line: str) -> str:
        """Return the response to a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._line()


@contextmanager
def _api(sizes: Sizes) -> Iterator[_API]:
    command = [sys.executable, "-m", "benchmarks.kubernetes_scale", "--serve"]
    command += [f"--services={sizes.services}", f"--endpoints={sizes.endpoints}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield _API(process, sizes.services)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _corepy(conf: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-P", "-m", "corepy", "-conf", str(conf)]
    with conf.with_name("log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    except AnswerError:
        print(conf.with_name("log").read_text(), file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, name: str, expected: str, process: subprocess.Popen[bytes]) -> None:
    """Ask until the answer is right; raises `AnswerError`."""
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ask(HOST, port, name) == expected:
                return
        except (OSError, AnswerError):
            time.sleep(0.01)
    raise AnswerError(f"no right answer for {name}")


if __name__ == "__main__":
    sys.exit(main())
