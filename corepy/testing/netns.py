"""A network namespace for a test, which runs in it with all it starts, and takes it along.

    @isolated
    def test_something():
        run("ip", "link", "add", "eth9", "type", "bridge")
        assert rules("legacy") == []

The namespace belongs to a thread, and threads and processes inherit it from the thread that starts
them. Nothing is left in /run/netns, whatever happens to the test. Needs root, and fails without.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CLONE_NEWNET = 0x40000000
_Parameters = ParamSpec("_Parameters")


def isolated(test: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    """Let a test function run in a network namespace of its own, whose loopback is up."""

    @functools.wraps(test)
    def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                enter_new_netns()
                test(*args, **kwargs)
            except BaseException as error:  # raised again in the caller's thread
                failures.append(error)

        thread = threading.Thread(target=work, name=test.__name__)
        thread.start()
        thread.join()
        if failures:
            raise failures.pop()

    return wrapper


def enter_new_netns() -> None:
    """Put the calling thread, and what it starts then, into a new namespace; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"no network namespace (root is needed): {os.strerror(number)}")
    run("ip", "link", "set", "lo", "up")


def run(*words: str, text: str | None = None, check: bool = True) -> str:
    """Run a program on `text`, return its output; raises OSError if it fails and `check`."""
    result = subprocess.run(  # the words are the test's own
        words, input=text, capture_output=True, text=True, check=False
    )
    if check and result.returncode:
        raise OSError(f"{' '.join(words)}: {result.stderr.strip()}")
    return result.stdout


def saved(kind: str) -> str:
    """Return both families' iptables-save without comments and packet counts.

    `kind` is legacy or nft.
    """
    texts = (run(f"{program}-{kind}-save") for program in ("iptables", "ip6tables"))
    lines = (line for text in texts for line in text.splitlines())
    return "\n".join(line.partition(" [")[0] for line in lines if not line.startswith("#"))


def rules(kind: str) -> list[str]:
    """Return the "-A" lines of `saved`."""
    return [line for line in saved(kind).splitlines() if line.startswith("-A")]


def placed_rules(kind: str) -> list[str]:
    """Return the "-A" lines with family and table before them: "4 raw -A OUTPUT ...".

    A repeated rule stands in the list as often as in the table. Raises OSError if a table changed
    while it was read.
    """
    found = []
    for family, program in ((4, "iptables"), (6, "ip6tables")):
        table = ""
        for line in run(f"{program}-{kind}-save").splitlines():
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith("-A"):
                found.append(f"{family} {table} {line}")
    return found


def bystanders(kind: str, device: str) -> tuple[str, str, str]:
    """Put rules, chains and policies of other programs into every table that DNS rules go to, and
    addresses on a bridge `device`, which is made; return the `host` then.
    """
    for program in ("iptables", "ip6tables"):
        for words in (
            "-N KUBE-SERVICES",
            "-A INPUT -j KUBE-SERVICES",
            "-A KUBE-SERVICES -p udp --dport 53 -m comment --comment other -j ACCEPT",
            "-P FORWARD DROP",
            "-A OUTPUT -p tcp --sport 4444 -j DROP",
            "-t raw -A PREROUTING -p tcp --dport 53 -j NOTRACK",
            "-t raw -A OUTPUT -p udp --dport 4444 -j RETURN",
        ):
            run(f"{program}-{kind}", *words.split())
    for words in (
        f"link add {device} type bridge",
        f"link set {device} addrgenmode none",  # a link-local address would come in its own time
        f"link set {device} up",
        f"addr add 10.9.9.9/24 dev {device}",
        f"addr add fd09::9/64 dev {device} nodad",
        "addr add 10.8.8.8/32 dev lo",
    ):
        run("ip", *words.split())
    return host(kind)


@contextlib.contextmanager
def pod(ip: str, gateway: str, *, device: str = "pod0") -> Iterator[tuple[str, ...]]:
    """Make a client in a namespace of its own behind a pair of interfaces, as a pod is.

    `ip` and `gateway` are its address and ours, with prefix lengths. Yields the words to put before
    a command that is to run there.
    """
    process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    inside = ("nsenter", f"--net=/proc/{process.pid}/ns/net")
    try:
        ours = os.stat("/proc/thread-self/ns/net").st_ino
        while os.stat(f"/proc/{process.pid}/ns/net").st_ino == ours:
            time.sleep(0.005)
        words = f"link add {device} type veth peer name eth0 netns {process.pid}"
        run("ip", *words.split())
        run("ip", "addr", "add", gateway, "dev", device, "nodad")
        run("ip", "link", "set", device, "up")
        run(*inside, "ip", "addr", "add", ip, "dev", "eth0", "nodad")
        run(*inside, "ip", "link", "set", "eth0", "up")
        run(*inside, "ip", "route", "add", "default", "via", gateway.partition("/")[0])
        yield inside
    finally:
        process.kill()
        process.wait()


def host(kind: str) -> tuple[str, str, str]:
    """Return all that a test may want to find unchanged: rules, addresses, links."""
    return saved(kind), run("ip", "addr"), run("ip", "link")


def addresses(device: str) -> list[str]:
    """Return the addresses of a device as ADDRESS/PREFIX, without IPv6 link-local ones."""
    lines = run("ip", "-o", "addr", "show", "dev", device, check=False).splitlines()
    found = (line.split()[3] for line in lines)
    return sorted(it for it in found if not it.startswith("fe80:"))
