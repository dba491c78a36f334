"""Measures *dnssec* and *sign*: signed answers, new signatures, floods, and a large zone.

    python -m benchmarks.signing

CPU time is that of corepy alone, so it holds on a busy machine. Each ratio is of the same process,
whose rounds with and without DO alternate. It needs dnsperf.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import dnslib

from benchmarks.ask import AnswerError, free_port
from benchmarks.procfs import cpu_seconds, pss_kib
from benchmarks.report import table
from corepy.dns.names import from_text
from corepy.server.listen.packet_cache import SWITCH as PACKET_CACHE
from corepy.testing.zone_keys import write_key
from corepy.zone.key_files import read_key
from corepy.zone.signatures import signed_data
from corepy_dnssec.jobs import Wanted
from corepy_dnssec.metrics import Counts
from corepy_dnssec.signer import Signer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOST: Final = "127.0.0.1"
ZONE: Final = "example.org"
START_LIMIT: Final = 120.0
HEAD: Final = "$TTL 3600\n@ SOA ns host 1 7200 3600 1209600 300\n@ NS ns\nns A 192.0.2.1\n"
SIGNED: Final = """\
{zone} {{
    {plugins}
    dnssec {{
        key file {key}
        {options}
    }}
    file {folder}/db
}}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.signing", description=__doc__)
    parser.add_argument("--names", type=int, default=100_000, help="names of the zone (100000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind (5)")
    parser.add_argument("--queries", type=int, default=20_000, help="queries of a round (20000)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows = list(_measure(Path(folder), arguments))
    print(table(["figure", "result"], rows))
    return 0


def _measure(folder: Path, arguments: argparse.Namespace) -> Iterator[list[str]]:
    names = [f"h{number}.{ZONE}" for number in range(arguments.names)]
    addresses = "".join(f"h{number} A 192.0.2.1\n" for number in range(arguments.names))
    (folder / "db").write_text(HEAD + addresses)
    key = write_key(folder, ZONE)
    rounds, number = arguments.rounds, arguments.queries
    library = _library_seconds(key)
    yield ["P-256 signature of the library", _us(library)]
    yield ["signature of a new record set, beyond the library", _us(_set_seconds(key) - library)]
    for title, plugins, asked, switch in (
        ("packet cache, 1,000 names", "", names[:1000], "on"),
        ("cache, 1,000 names", "cache", names[:1000], "off"),
        ("file, 1,000 names", "", names[:1000], "off"),
        ("file, 8,000 names", "", names[:8000], "off"),
    ):
        with _corepy(folder, _corefile(folder, key, plugins), switch) as server:
            yield [title, _ratio(server, folder, asked, rounds, number)]
    with _corepy(folder, _corefile(folder, key, "")) as server:
        yield ["file, each name once", _cold(server, folder, names, library)]
    for denial in ("nsec", "nsec3"):
        with _corepy(folder, _corefile(folder, key, "", f"denial {denial}"), "off") as server:
            yield from _flood(server, folder, names[:100], denial)
    yield from _sign(folder, key, names)


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us"


def _library_seconds(key: Path) -> float:
    """Return the CPU seconds of a signature by the library."""
    sign, times = read_key(key).sign, []
    for _ in range(9):
        began = time.process_time()
        for _ in range(1000):
            sign(bytes(150))
        times.append((time.process_time() - began) / 1000)
    return median(times)


def _set_seconds(key: Path) -> float:
    """Return the CPU seconds of a signature that is made and cached, with the canonical form."""
    return asyncio.run(_sign_sets(key))


async def _sign_sets(key: Path) -> float:
    signer, zone = Signer([read_key(key)]), from_text(ZONE)
    signer.capacity = 10_000
    counts, times = Counts.of("dns://:53"), []
    for part in range(9):
        owners = [from_text(f"h{part}-{number}.{ZONE}") for number in range(1000)]
        began = time.process_time()
        for owner in owners:
            wanted = Wanted(signed_data(owner, 1, 3600, [b"\xc0\0\2\1"]), zone)
            signer.begin_turn()
            signer.sign([wanted], 1_800_000_000, b"", counts)
        times.append((time.process_time() - began) / 1000)
    return median(times)


def _corefile(folder: Path, key: Path, plugins: str, options: str = "") -> str:
    return SIGNED.format(zone=ZONE, plugins=plugins, key=key, options=options, folder=folder)


class _Server:
    """A running corepy."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def cpu(self) -> float:
        return cpu_seconds(self.process.pid)

    def megabytes(self) -> float:
        return pss_kib(self.process.pid) * 1024 / 1e6

    def ask(self, name: str) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect((HOST, self.port))
            sock.send(_query(name))
            return sock.recv(4096)


def _query(name: str) -> bytes:
    question = dnslib.DNSRecord.question(name)
    question.header.id = secrets.randbelow(65536)
    question.add_ar(dnslib.EDNS0(flags="do", udp_len=1232))
    return bytes(question.pack())


@contextmanager
def _corepy(folder: Path, corefile: str, packet_cache: str = "on") -> Iterator[_Server]:
    port = free_port()
    conf = folder / "Corefile"
    conf.write_text(corefile.replace(f"{ZONE} {{", f"{ZONE}:{port} {{\n    bind {HOST}", 1))
    command = [sys.executable, "-P", "-m", "corepy", "-conf", str(conf)]
    with conf.with_name("log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, PACKET_CACHE: packet_cache},
        )
    server = _Server(process, port)
    try:
        _wait(server)
        yield server
    except AnswerError:
        print(conf.with_name("log").read_text(), file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.wait()


def _wait(server: _Server) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if server.ask(f"ns.{ZONE}")[3] & 15 == 0:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AnswerError("corepy did not start")


# -- the figures


def _load(server: _Server, folder: Path, names: Sequence[str], number: int, *, do: bool) -> float:
    """Ask for all names in turn; return the CPU seconds of each answered query."""
    questions = folder / "questions"
    repeated = -(-number // len(names))
    questions.write_text("".join(f"{name} A\n" for name in names))
    before = server.cpu()
    answered = _dnsperf(server, questions, [f"-n{repeated}"], do=do)
    return (server.cpu() - before) / answered


def _dnsperf(server: _Server, questions: Path, options: list[str], *, do: bool) -> int:
    command = ["dnsperf", "-s", HOST, "-p", str(server.port), "-d", str(questions), "-q", "50"]
    command += [*options, *(["-e", "-D"] if do else ["-e"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Queries completed:\s+(\d+)", done.stdout)
    assert found is not None, done.stdout
    return int(found[1])


def _ratio(server: _Server, folder: Path, names: Sequence[str], rounds: int, number: int) -> str:
    """Return the CPU time of an answer with and without signatures, and their ratio."""
    for do in (True, True, False):
        _load(server, folder, names, len(names), do=do)
    pairs = [
        [_load(server, folder, names, number, do=do) for do in (True, False)] for _ in range(rounds)
    ]
    signed, plain = (median(times) for times in zip(*pairs, strict=True))
    ratio = median(one / other for one, other in pairs)
    return f"signed {_us(signed)}, unsigned {_us(plain)}, ratio {ratio:.2f}"


def _cold(server: _Server, folder: Path, names: Sequence[str], library: float) -> str:
    """Return the CPU time that a name costs which needs a signature, beyond an unsigned answer."""
    part = len(names) // 4
    plain = _load(server, folder, names[:part], part, do=False)
    cold = _load(server, folder, names[part : 3 * part], 2 * part, do=True)
    beyond = _us(cold - plain - library)
    return f"signed {_us(cold)}, unsigned {_us(plain)}, beyond these and the library {beyond}"


def _flood(server: _Server, folder: Path, hot: Sequence[str], denial: str) -> Iterator[list[str]]:
    """Ask for random names as fast as possible, while another client asks for known ones."""
    for _ in range(2):
        for name in hot:
            server.ask(name)
    before = server.megabytes()
    questions = folder / "random"
    questions.write_text("".join(f"{secrets.token_hex(8)}.{ZONE} A\n" for _ in range(50_000)))
    began, cpu = time.monotonic(), server.cpu()
    command = ["dnsperf", "-s", HOST, "-p", str(server.port), "-d", str(questions), "-e", "-D"]
    printed = folder / "printed"
    with printed.open("w") as output:
        load = subprocess.Popen([*command, "-n1", "-q", "200"], stdout=output, stderr=output)
    times: list[float] = []
    while load.poll() is None:
        asked = time.monotonic()
        reply = server.ask(hot[len(times) % len(hot)])
        if reply[3] & 15 or len(reply) < 150:
            raise AnswerError(f"the reply during the flood has no signature: {reply!r}")
        times.append(time.monotonic() - asked)
        time.sleep(0.01)
    seconds, spent = time.monotonic() - began, server.cpu() - cpu
    codes = re.search(r"Response codes:\s+(.*)", printed.read_text())
    rate = 50_000 / seconds
    times.sort()
    shown = (
        f"{rate:.0f} a second, {_us(spent / 50_000)} each, {codes[1] if codes else 'no replies'}"
    )
    yield [f"random names, {denial}", shown]
    p99 = times[int(len(times) * 0.99)]
    shown = f"p50 {median(times) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, {len(times)} answered"
    yield ["  other client, known names", shown]
    yield ["  memory", f"{before:.1f} MB before, {server.megabytes():.1f} MB after"]


def _sign(folder: Path, key: Path, names: Sequence[str]) -> Iterator[list[str]]:
    """Sign the zone while a client asks for another one."""
    (folder / "small").write_text(HEAD)
    corefile = (
        f"{ZONE} {{\n    file {folder}/small\n    sign {folder}/db {{\n        key file {key}\n"
        f"        directory {folder}\n    }}\n}}\n"
    )
    with _corepy(folder, corefile) as server:
        times, most = [], 0.0
        log, began = folder / "log", time.monotonic()
        while "signed zone" not in log.read_text() and time.monotonic() - began < START_LIMIT:
            asked = time.monotonic()
            server.ask(f"ns.{ZONE}")
            times.append(time.monotonic() - asked)
            most = max(most, server.megabytes())
            time.sleep(0.01)
        seconds, spent = time.monotonic() - began, server.cpu()
    times.sort()
    shown = f"{seconds:.1f} s, CPU {spent:.1f} s, at most {most:.0f} MB"
    yield [f"sign of {len(names):,} names", shown]
    p99 = times[int(len(times) * 0.99)]
    yield ["  queries meanwhile", f"p99 {p99 * 1e3:.1f} ms, at most {times[-1] * 1e3:.1f} ms"]


if __name__ == "__main__":
    sys.exit(main())
