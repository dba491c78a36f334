"""Finding the worker of a supervisor that was killed, which goes on serving.

The worker knows the supervisor by the path of its notification socket. A supervisor that is to run
the same configuration binds the same path; processes that were started with it in their environment
are its predecessor's workers. It asks them by SIGURG, which nothing else reacts to, to hand their
sockets over once more.

The path is in a folder that only the user who runs corepy can write to. So nobody else can bind it
and be given the sockets; the name of an abstract socket would be free for all after a kill.
"""

from __future__ import annotations

import os
import socket
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from corepy.net.runtime import runtime_folders

if TYPE_CHECKING:
    from collections.abc import Sequence

_ONLY_OWNER = 0o177
_PROC = Path("/proc")


def bind_inbox(inbox: socket.socket, identity: str) -> tuple[str, bool]:
    """Bind a notification socket; return what NOTIFY_SOCKET says, and whether a later supervisor
    of the same `identity` can bind it, too.

    Where no folder can be written to, or another supervisor of this identity runs, it is an
    abstract socket of a name that nobody can guess.
    """
    name = f"supervisor-{zlib.crc32(identity.encode('utf-8', 'surrogateescape')):08x}.sock"
    for folder in runtime_folders():
        path = f"{folder}/{name}"
        try:
            if _is_in_use(path):
                break
            Path(folder).mkdir(mode=0o755, exist_ok=True)
            _bind(inbox, path)
        except OSError:
            continue
        return path, True
    path = f"@corepy-{os.getpid()}-{os.urandom(8).hex()}"
    inbox.bind("\0" + path[1:])
    return path, False


def _is_in_use(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        try:
            client.connect(path)
        except OSError:
            return False
        return True


def _bind(inbox: socket.socket, path: str) -> None:
    """Bind `path`, replacing the socket of a supervisor that was killed."""
    temporary = f"{path}.{os.getpid()}"
    before = os.umask(_ONLY_OWNER)
    try:
        inbox.bind(temporary)
    finally:
        os.umask(before)
    os.rename(temporary, path)


def workers_of(path: str) -> list[int]:
    """Return the IDs of this user's processes that were started with this NOTIFY_SOCKET, oldest
    first.

    Those of others could not send to it. Root sees their environments all the same, and would wait
    for sockets from each, and stop it.
    """
    wanted = f"NOTIFY_SOCKET={path}".encode("utf-8", "surrogateescape")
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if entry.stat().st_uid != os.geteuid():
                    continue
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((_started(entry), int(entry.name)))
            except OSError:  # it has ended, or is another user's
                continue
    return [pid for _, pid in sorted(found)]


def _started(entry: Path) -> int:
    """Return when a process was started, in clock ticks since the boot (proc_pid_stat(5))."""
    return int((entry / "stat").read_text().rpartition(")")[2].split()[19])


def command_of(flags: Sequence[str]) -> list[str]:
    """Return the command line of a worker with these flags."""
    return [sys.executable, "-m", "corepy", *flags]


def runs(pid: int, command: Sequence[str]) -> bool:
    """Return whether a process was started by this command line."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[:-1] == [word.encode("utf-8", "surrogateescape") for word in command]
