"""A network namespace for a test, which runs in it with all it starts, and takes it along.

    @isolated
    def test_something():
        run("ip", "link", "add", "eth9", "type", "bridge")
        assert rules("legacy") == []

The namespace belongs to a thread, and threads and processes inherit it from the thread that starts
them. Nothing is left in /run/netns, whatever happens to the test. Needs root, and fails without.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import threading
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable

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


def addresses(device: str) -> list[str]:
    """Return the addresses of a device as ADDRESS/PREFIX, without IPv6 link-local ones."""
    lines = run("ip", "-o", "addr", "show", "dev", device, check=False).splitlines()
    found = (line.split()[3] for line in lines)
    return sorted(it for it in found if not it.startswith("fe80:"))
