"""Finds the workers of a killed supervisor, which continue to serve.

A worker has the path of its supervisor's notification socket in its environment (NOTIFY_SOCKET). A
supervisor of the same configuration binds the same path; processes started with that path are the
workers of its predecessor. It sends them SIGURG, which has no other effect, and they hand over
their sockets again.

Only the user that runs corepy can write to the folder of the path. So no other user can bind it and
receive the sockets; an abstract socket name could be bound by any user after a kill.
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
    """Bind a notification socket; return its path, and whether it is lasting.

    The path is the value of NOTIFY_SOCKET. If it is lasting, a later supervisor of the same
    `identity` can bind it, too. If no folder is writable, or another supervisor of this identity
    runs, the socket is an abstract one with a name that cannot be guessed.
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
    """Return the IDs of processes started with this NOTIFY_SOCKET, oldest first.

    Processes of other users are skipped: they cannot send to the socket. Root can read their
    environments, and would wait for sockets from each of them, and then stop it.
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
            except OSError:  # it has exited, or belongs to another user
                continue
    return [pid for _, pid in sorted(found)]


def _started(entry: Path) -> int:
    """Return the start time of a process in clock ticks since boot (proc_pid_stat(5))."""
    return int((entry / "stat").read_text().rpartition(")")[2].split()[19])


def command_of(flags: Sequence[str]) -> list[str]:
    """Return the command line of a worker with these flags.

    With -P Python does not import modules from the working directory, which is not part of the
    installation: the command `corepy` does not search it either.
    """
    return [sys.executable, "-P", "-m", "corepy", *flags]


def runs(pid: int, command: Sequence[str]) -> bool:
    """Return whether a process was started with this command line."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[:-1] == [word.encode("utf-8", "surrogateescape") for word in command]
