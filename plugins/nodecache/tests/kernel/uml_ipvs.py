"""kube-proxy with IPVS, as it sets up a node: a part of uml_guest.py.

All addresses of Services are on the interface kube-ipvs0, and the kernel's virtual server sends
their packets to an endpoint. The Service is kube-dns, its endpoint the upstream of the other steps.
"""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODULES = ("ip_vs", "ip_vs_rr")
SERVICE, ENDPOINT, NODE = "10.96.0.10", "1.1.1.1", "169.254.20.10"
BLOCK = ".:53 {{\n    bind {bind}\n    nodecache\n    forward . {to}\n}}\n"


def run(*words: str) -> str:
    """Return the output of a command; what it prints as an error is in guest.log."""
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False).stdout


def prepare() -> None:
    """Create the interface and the virtual server."""
    run("ip", "link", "add", "kube-ipvs0", "type", "dummy")
    run("ip", "addr", "add", f"{SERVICE}/32", "dev", "kube-ipvs0")
    for flag in ("-u", "-t"):
        run("ipvsadm", "-A", flag, f"{SERVICE}:53", "-s", "rr")
        run("ipvsadm", "-a", flag, f"{SERVICE}:53", "-r", f"{ENDPOINT}:53", "-m")


def connections() -> int:
    """Return how many connections the virtual server has had."""
    lines = run("ipvsadm", "-L", "-n", "--stats", "--exact").splitlines()
    return sum(int(line.split()[2]) for line in lines if f"{SERVICE}:53" in line)


def grow(before: int) -> bool:
    """Return whether the number of connections exceeds `before`.

    The kernel adds up its counters every two seconds.
    """
    for _ in range(300):
        if connections() > before:
            return True
        time.sleep(0.1)
    return False


def beside(
    folder: Path,
    start: Callable[..., subprocess.Popen[bytes]],
    stop: Callable[[subprocess.Popen[bytes]], int],
    state: Callable[[], Any],
    ask: Callable[..., bool],
) -> dict[str, Any]:
    """Start the cache on the address of the Service, which fails, then on its own alone."""
    prepare()
    both = BLOCK.format(bind=f"{NODE} {SERVICE}", to=ENDPOINT)
    code = start(folder, "ipvs-both", both).wait(60)
    found: dict[str, Any] = {"refused": f"{code}: {(folder / 'ipvs-both.log').read_text()}"}
    found["left"] = state()
    server = start(folder, "ipvs", BLOCK.format(bind=NODE, to=SERVICE))
    before = connections()
    found["answers"] = [ask(NODE, 53), ask(NODE, 53, "+tcp"), ask(SERVICE, 53)]
    found["through_the_service"] = grow(before)
    found["exit"] = stop(server)
    found["stopped"] = state()
    found["service"] = f"{SERVICE}/32" in run("ip", "-o", "addr", "show", "kube-ipvs0")
    run("ipvsadm", "-C")
    run("ip", "link", "del", "kube-ipvs0")
    return found
