"""The memory limit of a container, as kubelet sets it; a part of uml_guest.py.

kubelet with cgroup version 2 sets memory.oom.group: the kernel kills all processes of the container.
With `singleProcessOOMKill` it does not, and the kernel kills the largest one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

GROUPS = Path("/sys/fs/cgroup")
LIMIT = 128 << 20
WAIT = 60.0  # seconds
COREFILE = ".:5305 {\n    bind 169.254.20.10\n    nodecache\n    leak\n    whoami\n}\n"
PLUGIN = """\
from corepy.plugin import Handler

api_version = 1
KEPT = []


class Leak(Handler):
    name = "leak"

    async def serve_dns(self, request):
        if request.name.startswith("leak."):
            # In steps, so that the loop goes on: the supervisor would end a worker that hangs.
            KEPT.append(b"x" * (16 << 20))
        return await self.next.serve_dns(request)


def setup(controller):
    for _ in controller.single():
        controller.add_handler(Leak())
"""


class Container:
    """A control group with a limit, and the supervised server in it."""

    def __init__(self, folder: Path, name: str, *, oom_group: bool) -> None:
        self.log = folder / f"{name}.log"
        self.pidfile = folder / f"{name}.pid"  # in a volume, which outlives the container
        self._conf = folder / "memory.conf"
        self._group = GROUPS / name
        self._group.mkdir()
        for file, value in (
            ("memory.max", LIMIT),
            ("memory.swap.max", 0),
            ("memory.oom.group", int(oom_group)),
        ):
            (self._group / file).write_text(str(value))

    def start(self) -> None:
        """Start the command, as kubelet does after a kill."""
        procs = self._group / "cgroup.procs"
        command = [sys.executable, "-m", "corepy", "-supervise", "-conf", str(self._conf)]
        command += ["-pidfile", str(self.pidfile)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: procs.write_text(str(os.getpid())),
            )

    def serves(self, times: int) -> bool:
        """Wait until so many workers have begun to serve."""
        return wait_until(lambda: self.log.read_text().count(" serves") >= times)

    def processes(self) -> list[str]:
        return (self._group / "cgroup.procs").read_text().split()

    def pid(self) -> str:
        """Return the process ID in the pid file, "" without one."""
        return self.pidfile.read_text().strip() if self.pidfile.exists() else ""

    def kills(self) -> dict[str, bool]:
        """What the kernel counts: kills of processes, and of the whole group."""
        lines = (self._group / "memory.events").read_text().splitlines()
        counts = dict(line.split() for line in lines)
        return {name: counts[name] != "0" for name in ("oom_kill", "oom_group_kill")}

    def leak(self, query: Callable[..., bool]) -> None:
        """Send queries that exceed the limit until the kernel kills a process."""
        wait_until(lambda: self.kills()["oom_kill"] or query("leak.example.org"))


def wait_until(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WAIT
    while not done() and time.monotonic() < deadline:
        time.sleep(0.1)
    return done()


def prepare(folder: Path) -> None:
    """Mount the groups; write the Corefile and the plugin that takes the memory."""
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", str(GROUPS)], check=True)
    (GROUPS / "cgroup.subtree_control").write_text("+memory")
    (folder / "memory.conf").write_text(COREFILE)
    package, info = folder / "corepy_leak", folder / "corepy_leak-1.dist-info"
    package.mkdir()
    (package / "__init__.py").write_text(PLUGIN)
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: corepy-leak\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[corepy.plugins]\nleak = corepy_leak\n")
    os.environ["PYTHONPATH"] = str(folder)


def leak(name: str) -> bool:
    """Send a query without waiting for its reply."""
    subprocess.run(
        ["dig", "@169.254.20.10", "-p", "5305", "+tries=1", "+time=1", name, "A"],
        capture_output=True,
        check=False,
    )
    return False


def kill_one(folder: Path, state: Callable[[], Any], ask: Callable[..., bool]) -> dict[str, Any]:
    """The largest process is killed, which is the worker; the supervisor replaces it."""
    container = Container(folder, "single", oom_group=False)
    container.start()
    container.serves(1)
    before = state()
    container.leak(leak)
    found = {"kills": container.kills(), "serves_again": container.serves(2)}
    found["supervisor"] = container.process.poll()
    found["answers"] = ask("169.254.20.10", 5305)
    found["same"] = state() == before
    container.process.send_signal(signal.SIGTERM)
    found["exit"] = container.process.wait(WAIT)
    return found


def kill_group(folder: Path, state: Callable[[], Any], ask: Callable[..., bool]) -> dict[str, Any]:
    """All are killed; kubelet starts the container again."""
    container = Container(folder, "group", oom_group=True)
    container.start()
    container.serves(1)
    before = state()
    container.leak(leak)
    found: dict[str, Any] = {"exit": container.process.wait(WAIT), "kills": container.kills()}
    found["left"] = container.processes()
    found["same_after_kill"] = state() == before
    stale = container.pidfile.read_text()
    container.start()
    found["serves_again"] = container.serves(2)
    found["pidfile"] = wait_until(lambda: container.pid() in container.processes())
    found["stale_pidfile"] = container.pid() == stale.strip()
    found["answers"] = ask("169.254.20.10", 5305)
    found["same"] = state() == before
    container.process.send_signal(signal.SIGTERM)
    found["stopped"] = (container.process.wait(WAIT), state())
    return found
