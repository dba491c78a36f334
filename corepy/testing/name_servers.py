"""Runs the name servers of Debian packages for tests: knotd, nsd and named.

A test writes the configuration; `{host}`, `{port}` and `{folder}` in it are replaced.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corepy.dns.rdata import plain_records
from corepy.dns.wire import ANSWER
from corepy.testing.client import Address, exchange, query
from corepy.testing.upstream import free_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
_START_TIMEOUT: Final = 60.0

KNOT: Final = """\
server:
    listen: {host}@{port}
    rundir: {folder}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 2
database:
    storage: {folder}
control:
    listen: {folder}/knot.sock
template:
  - id: default
    storage: {folder}
    semantic-checks: off
log:
  - target: stderr
    any: info
"""
NSD: Final = """\
server:
    ip-address: {host}@{port}
    server-count: 1
    username: ""
    chroot: ""
    zonesdir: "{folder}"
    database: ""
    pidfile: "{folder}/nsd.pid"
    xfrdfile: "{folder}/xfrd.state"
    zonelistfile: "{folder}/zone.list"
    xfrdir: "{folder}"
    verbosity: 2
    xfrd-reload-timeout: 0
remote-control:
    control-enable: no
"""
NAMED: Final = """\
options {{
    directory "{folder}";
    pid-file "{folder}/named.pid";
    session-keyfile "{folder}/session.key";
    listen-on port {port} {{ {host}; }};
    listen-on-v6 {{ none; }};
    recursion no;
    dnssec-validation no;
    notify-delay 0;
}};
controls {{ }};
"""
"""The beginning of each server's configuration."""

_COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "knotd": ("-c",),
    "nsd": ("-d", "-c"),
    "named": ("-g", "-n", "1", "-c"),
}


class NameServer:
    """A name server that runs."""

    def __init__(self, address: Address, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.address = address
        self.folder = folder
        self.process = process

    @property
    def log(self) -> str:
        """What the server has written so far."""
        return (self.folder / "log").read_text(errors="replace")

    def knotc(self, *words: str) -> str:
        """Run knotc, for a server with `KNOT`, and return its output."""
        program = shutil.which("knotc", path=_PATH)
        assert program is not None
        command = [program, "-b", "-s", str(self.folder / "knot.sock"), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def serial(self, zone: str) -> int | None:
        """Return the serial of a zone; None if the server does not have it."""
        try:
            reply = exchange(self.address, query(zone, "SOA"), timeout=5.0)
        except OSError:
            return None
        records = list(plain_records(reply, ANSWER))
        return int.from_bytes(records[0][-20:-16], "big") if records else None

    def wait_for(self, condition: Callable[[], object], timeout: float = 60.0) -> None:
        """Wait until `condition()` is true; raises TimeoutError with the server's log."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TimeoutError(f"the condition did not come true:\n{self.log}")
            time.sleep(0.02)


@contextmanager
def name_server(
    program: str, conf: str, files: Mapping[str, str] | None = None, *, host: str = "127.0.0.1"
) -> Iterator[NameServer]:
    """Run knotd, nsd or named until the `with` block ends; it begins when the server answers.

    `files` are further files of its folder, by name.
    """
    found = shutil.which(program, path=_PATH)
    assert found is not None, f"the Debian package of {program} is missing"
    udp, tcp = free_sockets(host)
    port = udp.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in (files or {}).items():
            (folder / file).write_text(text)
        path = folder / "server.conf"
        path.write_text(conf.format(host=host, port=port, folder=folder))
        udp.close()
        tcp.close()
        with (folder / "log").open("wb") as log:
            command = [found, *_COMMANDS[program], str(path)]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        server = NameServer((host, port), folder, process)
        try:
            server.wait_for(lambda: _answers(server.address), _START_TIMEOUT)
            yield server
        finally:
            process.terminate()
            process.wait()


def _answers(address: Address) -> bool:
    """Return whether the server answers a query with any rcode."""
    try:
        exchange(address, query("version.invalid", "SOA"), timeout=0.2)
    except OSError:
        return False
    return True
