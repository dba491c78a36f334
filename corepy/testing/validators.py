"""Foreign DNSSEC validators for tests: delv of BIND, drill of ldns, and unbound."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from corepy.testing.command import wait_until
from corepy.testing.upstream import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_LIMIT: Final = 60

_UNBOUND: Final = """\
server:
    interface: 127.0.0.1@{port}
    directory: {folder}
    chroot: ""
    username: ""
    pidfile: {folder}/unbound.pid
    use-syslog: no
    do-not-query-localhost: no
    module-config: "validator iterator"
    trust-anchor: "{record}"
    val-log-level: 2
    aggressive-nsec: yes
    qname-minimisation: no
stub-zone:
    name: {zone}
    stub-addr: {host}@{upstream}
"""


def delv(folder: Path, address: tuple[str, int], record: str, name: str, qtype: str) -> str:
    """Return the output of delv for a query; `record` is the DNSKEY record of the zone, as text."""
    owner, *_, flags, protocol, algorithm, key = record.split(None, 6)
    value = "".join(key.split())
    anchor = f'"{owner}" static-key {flags} {protocol} {algorithm} "{value}";'
    (folder / "anchor").write_text(f"trust-anchors {{ {anchor} }};\n")
    host, port = address
    command = ["delv", f"@{host}", "-p", str(port), "-a", str(folder / "anchor"), f"+root={owner}"]
    done = subprocess.run([*command, name, qtype], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def drill(folder: Path, address: tuple[str, int], record: str, name: str, qtype: str) -> bool:
    """Return whether drill of ldns can verify the answer to a query with a DNSKEY record.

    It verifies neither aliases nor denials.
    """
    (folder / "drill.key").write_text(f"{record}\n")
    host, port = address
    command = ["drill", "-D", "-k", str(folder / "drill.key"), "-p", str(port), f"@{host}"]
    return not subprocess.run([*command, name, qtype], capture_output=True, check=False).returncode


@contextmanager
def unbound(folder: Path, address: tuple[str, int], record: str) -> Iterator[tuple[str, int]]:
    """Run a validating resolver that asks the server at `address`; yield its own address.

    It uses denials aggressively (RFC 8198), and writes the reasons of failures to `folder`/log.
    """
    program = shutil.which("unbound", path="/usr/sbin:/usr/bin")
    assert program is not None
    port = free_port()
    host, upstream = address
    conf = folder / "unbound.conf"
    zone = record.split()[0]
    conf.write_text(
        _UNBOUND.format(
            port=port, folder=folder, record=record, zone=zone, host=host, upstream=upstream
        )
    )
    output = folder / "log"
    with (
        output.open("w") as log,
        subprocess.Popen([program, "-d", "-c", str(conf)], stderr=log) as process,
    ):
        try:
            wait_until(lambda: "start of service" in output.read_text(), START_LIMIT)
            yield "127.0.0.1", port
        finally:
            process.terminate()
