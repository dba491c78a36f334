"""What the process is given by whoever starts it, in every form in which the server runs.

Each row is an oddity of a container runtime, an init system, a shell or a host, or several that do
not hide each other, since a row starts four processes. Whatever it is, the server starts, answers,
reloads, is upgraded (with `-supervise`) and stops; what it has to do without is a line in the log.
Output that cannot be written is in test_output_faults.py.
"""

import ast
import contextlib
import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from corepy.testing import ask, free_port, run_command
from corepy.testing.command import wait_until

ROOT = Path(__file__).parent.parent


def shell(script):
    """A shell that runs `script` and becomes the command."""
    return ("bash", "-c", f'{script}; exec "$0" "$@"')


def mounts(script):
    """The same with a mount namespace of its own, which ends with the command."""
    return ("unshare", "-m", *shell(f"set -e; {script}"))


class Given(NamedTuple):
    """One row: what stands before the command, and what the log has to say of it."""

    prefix: tuple[str, ...]
    says: str = ""


HIDDEN = ("/run", "/tmp", "/var", "/home")


def hide(needed):
    """Commands that put empty, read-only file systems over `HIDDEN`, but keep the folders `needed`.

    A checkout, or a Python, may be below them.
    """
    kept = [it for it in needed if any(Path(it).is_relative_to(at) for at in HIDDEN)]
    return "; ".join(
        (
            *(f"exec {fd}<{shlex.quote(it)}" for fd, it in enumerate(kept, 3)),
            *(f"mount -t tmpfs none {at}" for at in HIDDEN),
            *(
                f"mkdir -p {shlex.quote(it)}; mount -c --bind /proc/self/fd/{fd} {shlex.quote(it)}"
                for fd, it in enumerate(kept, 3)
            ),
            *(f"exec {fd}<&-" for fd, _ in enumerate(kept, 3)),
            *(f"mount -o remount,ro {at}" for at in HIDDEN),
        )
    )


READ_ONLY = hide((str(ROOT), os.path.realpath(sys.base_prefix)))
TABLE = {
    # Streams and descriptors
    "stdin closed": Given(shell("exec 0<&-")),
    "descriptors 3 to 9 taken": Given(
        shell('for at in {3..9}; do eval "exec $at</dev/null"; done')
    ),
    "40 descriptors": Given(shell("ulimit -n 40")),
    # Files, memory and stack
    "files of no bytes, 1 GiB of addresses, no memory to lock": Given(
        shell("ulimit -f 0; ulimit -v 1048576; ulimit -l 0")
    ),
    "a stack of 256 KiB": Given(shell("ulimit -s 256")),
    # Environment
    "an empty environment": Given(("env", "-i")),
    "folders, programs, a locale, a manager and sockets that are not there": Given(
        (
            *("env", "HOME=/nowhere", "TMPDIR=/nowhere", "PATH=/nowhere"),
            *("LC_ALL=xx_XX.nonsense", "PYTHONUTF8=0"),
            *("NOTIFY_SOCKET=/nowhere", "WATCHDOG_USEC=1000000", "LISTEN_FDS=2", "LISTEN_PID=1"),
        )
    ),
    "ASCII": Given(("env", "LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0")),
    "a watchdog that wants to hear all the time": Given(
        ("env", "NOTIFY_SOCKET=/nowhere", "WATCHDOG_USEC=1")
    ),
    # Signals: a mask and ignored signals outlive exec
    "signals that are blocked and ignored": Given(
        ("env", "--block-signal", "--ignore-signal=TERM,INT,HUP,USR1,USR2,CHLD")
    ),
    # Privileges
    "no capabilities, nor new privileges": Given(
        ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    ),
    "umask 777": Given(shell("umask 777")),
    # Files
    "a working directory that is gone": Given(
        shell("mkdir -p /tmp/gone-$$; cd /tmp/gone-$$; rmdir /tmp/gone-$$")
    ),
    "no folder for sockets": Given(mounts(READ_ONLY), "no control socket"),
    "everything read-only": Given(
        mounts("mount --bind / /; mount -o remount,bind,ro /; " + READ_ONLY), "no control socket"
    ),
    "no /proc": Given(mounts("mount -t tmpfs none /proc")),
    "no /dev": Given(mounts("exec </dev/null; mount -t tmpfs none /dev")),
    # Time
    "a monotonic clock that begins later": Given(
        (
            "unshare",
            "-T",
            "--monotonic",
            "1000000",
            "--boottime",
            "1000000",
            "--fork",
            "--kill-child",
        )
    ),
}

MODES = {"server": (), "supervisor": ("-supervise",)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", TABLE)
def test_the_server_makes_do_with_what_it_is_given(row, mode):
    given, flags = TABLE[row], MODES[mode]
    folder = ROOT / "build" / "given"  # the other folders are empty in some rows
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    conf = folder / f"Corefile-{port}"
    conf.write_text(f".:{port} {{\n bind 127.0.0.1\n whoami\n}}\n")

    def answers():
        with contextlib.suppress(OSError):
            return ask(("127.0.0.1", port), "example.org.", timeout=2).header.rcode == 0
        return False

    command_flags = ("-conf", str(conf), *flags)
    try:
        with run_command(None, *command_flags, prefix=given.prefix, wait=False) as command:
            wait_until(answers, 60)
            command.wait_for(given.says, 60)
            main = the_command(command)
            os.kill(main, signal.SIGUSR1)
            command.wait_for("Reloading complete", 60)
            wait_until(answers, 60)
            if flags:
                os.kill(main, signal.SIGUSR2)
                command.wait_for(", stopping ", 60)
                wait_until(answers, 60)
            os.kill(main, signal.SIGTERM)
            assert command.process.wait(60) == 0
            assert "Traceback" not in command.output
    finally:
        conf.unlink()


def the_command(command):
    """Its process ID: unshare --fork stands in front of it."""
    children = Path(f"/proc/{command.process.pid}/task/{command.process.pid}/children")
    program = Path(f"/proc/{command.process.pid}/comm").read_text().strip()
    return int(children.read_text().split()[0]) if program == "unshare" else command.process.pid


WALL_CLOCK = ("time.time", "time.time_ns", "datetime.now", "datetime.utcnow")
REASON = re.compile(r"# time of day: \w+")
"""A comment at the line or above it: why a step of the clock does no harm there."""


def wall_clock_readers():
    """Yield each place that reads the time of day, with its line and the one above."""
    for path in sorted(
        [*(ROOT / "corepy").rglob("*.py"), *(ROOT / "plugins").glob("*/corepy_*/**/*.py")]
    ):
        text = path.read_text()
        lines = ["", *text.splitlines()]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in WALL_CLOCK:
                yield f"{path}:{node.lineno}", "\n".join(lines[node.lineno - 1 : node.lineno + 1])


def test_a_step_of_the_clock_is_nobodys_business():
    """Timeouts, TTLs and intervals are by the monotonic clock."""
    found = dict(wall_clock_readers())
    assert found
    assert [place for place, lines in found.items() if not REASON.search(lines)] == []
