"""Runs a test and its child processes in a network namespace that ends with the test.

    @isolated
    def test_something():
        run("ip", "link", "add", "eth9", "type", "bridge")
        assert rules("legacy") == []

A network namespace belongs to a thread; new threads and processes inherit it from the thread that
starts them. The namespace has no name in /run/netns, so even a test that crashes leaves nothing
behind. Creating it requires root; otherwise the test fails.
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
    """Return a test function that runs in a new network namespace, whose loopback is up."""

    @functools.wraps(test)
    def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                enter_new_netns()
                test(*args, **kwargs)
            except BaseException as error:  # raised in the caller's thread below
                failures.append(error)

        thread = threading.Thread(target=work, name=test.__name__)
        thread.start()
        thread.join()
        if failures:
            raise failures.pop()

    return wrapper


def enter_new_netns() -> None:
    """Move the calling thread and its later child processes to a new namespace; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"no network namespace (root is needed): {os.strerror(number)}")
    run("ip", "link", "set", "lo", "up")


def run(*words: str, text: str | None = None, check: bool = True) -> str:
    """Run a program with the input `text`, return its output.

    With `check`, raises OSError if the program fails.
    """
    result = subprocess.run(  # the test chooses the command
        words, input=text, capture_output=True, text=True, check=False
    )
    if check and result.returncode:
        raise OSError(f"{' '.join(words)}: {result.stderr.strip()}")
    return result.stdout


def saved(kind: str) -> str:
    """Return the output of iptables-save for IPv4 and IPv6, without comments and packet counts.

    `kind` is "legacy" or "nft".
    """
    texts = (run(f"{program}-{kind}-save") for program in ("iptables", "ip6tables"))
    lines = (line for text in texts for line in text.splitlines())
    return "\n".join(line.partition(" [")[0] for line in lines if not line.startswith("#"))


def rules(kind: str) -> list[str]:
    """Return the "-A" lines of `saved`."""
    return [line for line in saved(kind).splitlines() if line.startswith("-A")]


def placed_rules(kind: str) -> list[str]:
    """Return the "-A" lines, each with its IP version and table: "4 raw -A OUTPUT ...".

    The list repeats a rule as often as the table does. Raises OSError if a table changed while it
    was read.
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
    """Set up iptables and addresses as other programs do, and return the resulting `host` state.

    Every table that nodecache uses gets other rules, chains and policies; a new bridge `device` and
    the loopback device get addresses.
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
        f"link set {device} addrgenmode none",  # a link-local address would appear at any time
        f"link set {device} up",
        f"addr add 10.9.9.9/24 dev {device}",
        f"addr add fd09::9/64 dev {device} nodad",
        "addr add 10.8.8.8/32 dev lo",
    ):
        run("ip", *words.split())
    return host(kind)


@contextlib.contextmanager
def pod(ip: str, gateway: str, *, device: str = "pod0") -> Iterator[tuple[str, ...]]:
    """Create a network namespace for a client, connected through a veth pair like a pod.

    `ip` is the client's address and `gateway` that of this namespace, with prefix lengths. Yields
    the prefix for commands that are to run in the new namespace.
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
    """Return the state that a test expects to be unchanged: rules, addresses, links."""
    return saved(kind), run("ip", "addr"), run("ip", "link")


def addresses(device: str) -> list[str]:
    """Return the addresses of a device as ADDRESS/PREFIX, without IPv6 link-local ones."""
    lines = run("ip", "-o", "addr", "show", "dev", device, check=False).splitlines()
    found = (line.split()[3] for line in lines)
    return sorted(it for it in found if not it.startswith("fe80:"))
