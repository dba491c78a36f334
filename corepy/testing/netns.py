"""Network namespaces for tests: entered by the programs a test starts, gone with `close`.

A namespace is a process that holds it (`unshare -n sleep`), so nothing is left in /run/netns
whatever happens to a test. Programs run in it through nsenter; Python code of a test runs in it as
a script of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

_TOOLS = ("unshare", "nsenter", "ip", "iptables-legacy", "iptables-nft")


def unavailable() -> str:
    """Return why no namespace can be made here, empty if one can."""
    if os.geteuid() != 0:
        return "needs root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else ""


class NetNS:
    """A fresh network namespace with its loopback up; `close` it or use it in a with statement."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(  # noqa: S603  # a fixed command line
            [
                shutil.which("unshare") or "unshare",
                "-n",
                "sh",
                "-c",
                "ip link set lo up && echo ready && exec sleep 600",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            self.close()
            raise OSError("no network namespace could be made")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process that holds the namespace."""
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout:
            self._holder.stdout.close()

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs `words` inside."""
        return ["nsenter", "-t", str(self._holder.pid), "-n", *words]

    def run(self, *words: str, check: bool = True) -> str:
        """Run a program inside and return its output; raises OSError if it fails and `check`."""
        result = subprocess.run(  # noqa: S603  # what the test says
            self.command(*words), capture_output=True, text=True, check=False
        )
        if check and result.returncode:
            raise OSError(f"{' '.join(words)}: {result.stderr.strip()}")
        return result.stdout

    def python(self, code: str, *arguments: str) -> str:
        """Run Python code inside, with this interpreter, and return what it printed."""
        return self.run(sys.executable, "-W", "error", "-c", code, *arguments)

    def start(self, *words: str, **options: object) -> subprocess.Popen[bytes]:
        """Start a program inside; `options` go to Popen. The caller ends it."""
        command: Any = subprocess.Popen
        process: subprocess.Popen[bytes] = command(self.command(*words), **options)
        return process

    def rules(self, kind: str) -> list[str]:
        """Return all "-A" lines of both families' iptables-save; `kind` is legacy or nft."""
        saved = (self.run(f"{program}-{kind}-save") for program in ("iptables", "ip6tables"))
        return [line for text in saved for line in text.splitlines() if line.startswith("-A")]

    def addresses(self, device: str) -> list[str]:
        """Return the addresses of a device as ADDRESS/PREFIX, without IPv6 link-local ones."""
        lines = self.run("ip", "-o", "addr", "show", "dev", device, check=False).splitlines()
        found = (line.split()[3] for line in lines)
        return sorted(it for it in found if not it.startswith("fe80:"))
