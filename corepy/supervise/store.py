"""Keeps listening sockets and a snapshot of the worker's state, and receives notifications.

The supervisor does not read the snapshot: it is a file in memory that only workers understand.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from corepy.net.inherited import STATE, is_plain
from corepy.supervise.adoption import bind_inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

MAX_FDS = 8192
"""Exceeds the sockets of any server: 1024 processes at several addresses."""

_FDS_AT_A_TIME = 64
_CREDENTIALS = struct.Struct("=iii")


class Notification(NamedTuple):
    """The process ID of the sender, and fields such as {"READY": "1"}."""

    pid: int
    fields: dict[str, str]


class Store:
    """Listening sockets by name, in the order of their arrival."""

    def __init__(self, forget: Callable[[socket.socket], None], identity: str) -> None:
        """`forget` is called with each socket before it is closed.

        `identity` is the same for the next supervisor of this server.
        """
        self._forget = forget
        self.sockets: dict[str, socket.socket] = {}
        self._state: int | None = None
        self.inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.inbox.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.inbox.setblocking(False)
        self.path, self.is_lasting = bind_inbox(self.inbox, identity)
        """The value of NOTIFY_SOCKET, and whether the next supervisor will use the same path."""

    @property
    def plain(self) -> dict[str, socket.socket]:
        """The sockets of plain DNS, the only transport whose queries a supervisor understands."""
        return {name: sock for name, sock in self.sockets.items() if is_plain(name)}

    @property
    def descriptors(self) -> dict[str, int]:
        """All that the next worker inherits: the sockets, and a snapshot of the state."""
        found = {name: sock.fileno() for name, sock in self.sockets.items()}
        return found if self._state is None else {**found, STATE: self._state}

    def close(self) -> None:
        """Close and remove the notification socket; called when no worker is left."""
        self.inbox.close()
        if self.is_lasting:
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def receive(self, is_heard: Callable[[int], bool]) -> Iterator[Notification]:
        """Yield the notifications of processes for which `is_heard` is true; store their sockets.

        Notifications of other processes are dropped, and their sockets closed.
        """
        while True:
            try:
                data, control, _, _ = self.inbox.recvmsg(
                    4096, socket.CMSG_SPACE(12) + socket.CMSG_SPACE(_FDS_AT_A_TIME * 4)
                )
            except (BlockingIOError, InterruptedError):
                return
            pid, fds = _read_control(control)
            lines = data.decode("utf-8", "replace").split("\n")
            fields = dict(line.split("=", 1) for line in lines if "=" in line)
            if is_heard(pid):
                yield Notification(pid, self._stored(fields, fds))
            else:
                for fd in fds:
                    os.close(fd)

    def _stored(self, fields: dict[str, str], fds: list[int]) -> dict[str, str]:
        if fields.get("FDSTORE") == "1" and fds:
            name = fields.get("FDNAME", "")
            if name == STATE:
                self.forget_state()
                self._state = fds.pop(0)
            elif len(self.sockets) < MAX_FDS:
                self._put(name, fds.pop(0))
        for fd in fds:
            os.close(fd)
        return fields

    def _put(self, name: str, fd: int) -> None:
        old = self.sockets.get(name)
        if old is not None and os.path.sameopenfile(old.fileno(), fd):
            os.close(fd)
            return
        self.remove(name)
        self.sockets[name] = socket.socket(fileno=fd)

    def forget_state(self) -> None:
        """Stop keeping the snapshot of the state."""
        if self._state is not None:
            os.close(self._state)
            self._state = None

    def remove(self, name: str) -> None:
        """Close a socket and stop keeping it, or the snapshot of the state."""
        if name == STATE:
            self.forget_state()
        old = self.sockets.pop(name, None)
        if old is not None:
            self._forget(old)
            old.close()

    def keep_only(self, names: Collection[str]) -> None:
        """Close all sockets except those with these names."""
        for name in [name for name in self.sockets if name not in names]:
            self.remove(name)


def _read_control(control: list[tuple[int, int, bytes]]) -> tuple[int, list[int]]:
    pid, fds = 0, list[int]()
    for level, kind, data in control:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS:
            pid = _CREDENTIALS.unpack(data[:12])[0]
        elif kind == socket.SCM_RIGHTS:
            fds += struct.unpack(f"={len(data) // 4}i", data[: len(data) // 4 * 4])
    for fd in fds:
        with contextlib.suppress(OSError):
            os.set_inheritable(fd, False)
    return pid, fds
