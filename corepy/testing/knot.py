"""Runs Knot DNS as an authoritative name server on loopback, for tests and benchmarks."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from corepy.testing.client import Address, exchange, query
from corepy.testing.upstream import free_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START_TIMEOUT = 60.0
_CONF = """\
server:
    listen: {host}@{port}
    rundir: {folder}
    pidfile: {folder}/knot.pid
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {folder}
log:
  - target: stderr
    any: warning
acl:
  - id: transfer
    action: transfer
{template}zone:
  - domain: {origin}
    acl: transfer
    file: {folder}/zone
    zonefile-sync: -1
    journal-content: none
    semantic-checks: off
"""

_TEMPLATE = """\
template:
  - id: default
    global-module: [{modules}]
"""


@contextmanager
def knot(
    zone: str,
    origin: str,
    *,
    host: str = "127.0.0.1",
    prefix: Sequence[str] = (),
    modules: Sequence[str] = (),
) -> Iterator[Address]:
    """Serve the text of a zone file for `origin` until the `with` block ends; yields the address.

    `prefix` is put before the command, such as `ip netns exec NAME`; `modules` are Knot's global
    modules, such as `mod-cookies`.
    """
    program = shutil.which("knotd", path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert program is not None, "the Debian package knot is missing"
    udp, tcp = free_sockets(host)
    port = udp.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "zone").write_text(zone)
        conf = Path(folder, "knot.conf")
        values = {"host": host, "port": port, "folder": folder, "origin": origin}
        template = _TEMPLATE.format(modules=", ".join(modules)) if modules else ""
        conf.write_text(_CONF.format(**values, template=template))
        udp.close()
        tcp.close()
        process = subprocess.Popen([*prefix, program, "-c", str(conf)], stderr=subprocess.DEVNULL)
        try:
            _wait_until_serving((host, port), origin, process)
            yield host, port
        finally:
            process.terminate()
            process.wait()


def _wait_until_serving(address: Address, origin: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            if exchange(address, query(origin, "SOA"), timeout=0.2)[3] & 15 == 0:
                return
        except OSError:
            pass
        if time.monotonic() > deadline or process.poll() is not None:
            raise TimeoutError("knotd does not answer")
        time.sleep(0.02)
