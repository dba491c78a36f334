"""The upstream of all measured servers, knot with one zone, and the names to query.

Every name below the zone exists (wildcard), so a new name is a miss and never a negative answer.
The hot names have addresses of their own, so that an answer to the wrong question is detected.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.ask import ask, free_port, wait_for_answer
from benchmarks.load import pinned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ZONE = "bench.example"
ADDRESS = "127.0.0.1"
HOT = 100
MANY = 100_000
WILDCARD = "192.0.2.53"
TTL = 3600  # seconds; longer than any run, so nothing expires meanwhile

_CONFIG = """\
server:
    rundir: {folder}
    listen: [{listen}]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    tcp-max-clients: 1000
database:
    storage: {folder}
log:
  - target: stderr
    any: warning
zone:
  - domain: {zone}
    file: {file}
    zonefile-load: whole
    journal-content: none
"""


def hot_name(number: int) -> str:
    """Return one of the `HOT` names that are queried repeatedly."""
    return f"service-{number}.{ZONE}"


def hot_address(number: int) -> str:
    """Return the address of `hot_name(number)`."""
    return f"10.53.{number // 250}.{number % 250 + 1}"


def cached_name(number: int) -> str:
    """Return a name of the large set that fits into every server's cache."""
    return f"cached-{number}.{ZONE}"


def new_name(generation: int, number: int) -> str:
    """Return a name that was not queried before; `generation` counts the rounds of a run."""
    return f"new-{generation}-{number}.{ZONE}"


def expected_address(name: str) -> str:
    """Return the address that the zone has for `name`."""
    label = name.partition(".")[0]
    if label.startswith("service-"):
        return hot_address(int(label.removeprefix("service-")))
    return WILDCARD


def zone_text(others: Iterable[str] = ("*",)) -> str:
    """Return the zone in presentation format (RFC 1035 section 5).

    `others` are the owners besides the hot names; all of them have the same address.
    """
    lines = [
        f"$ORIGIN {ZONE}.",
        f"$TTL {TTL}",
        "@ SOA ns hostmaster 1 3600 600 86400 300",
        "@ NS ns",
        "ns A 192.0.2.1",
        *(f"{owner} A {WILDCARD}" for owner in others),
        *(f"{hot_name(number)}. A {hot_address(number)}" for number in range(HOT)),
    ]
    return "\n".join(lines) + "\n"


def large_zone_text() -> str:
    """Return the zone without its wildcard; the names of the large set exist one by one."""
    return zone_text(f"{cached_name(number)}." for number in range(MANY))


def knot_config(folder: Path, addresses: Iterable[str], port: int, file: Path) -> str:
    """Return the configuration of a knot that serves the zone `file` and keeps state in `folder`.

    It has one thread for UDP and one for TCP.
    """
    listen = ", ".join(f"{address}@{port}" for address in addresses)
    return _CONFIG.format(folder=folder, listen=listen, zone=ZONE, file=file)


def bind_threads(pid: int, core: int) -> None:
    """Bind all threads to one core.

    Knot binds its UDP workers to cores of its own choice, beginning with the first one. The
    measured server runs on that core and would be interrupted by every query that it sends.
    """
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


@contextmanager
def upstream(folder: Path, core: int) -> Iterator[int]:
    """Run knot on `core` within the context; yields its port.

    Raises `benchmarks.ask.AnswerError` if it does not answer.
    """
    folder.mkdir()
    port = free_port()
    zone = folder / "zone"
    zone.write_text(zone_text())
    config = folder / "knot.conf"
    config.write_text(knot_config(folder, [ADDRESS], port, zone))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            pinned(["knotd", "-c", str(config)], core), stdout=log, stderr=log
        )
    try:
        wait_for_answer(ADDRESS, port, hot_name(0), hot_address(0), process)
        assert ask(ADDRESS, port, new_name(0, 0), timeout=5) == WILDCARD
        bind_threads(process.pid, core)
        yield port
    finally:
        process.terminate()
        process.wait()
