"""Who reads which listening socket, as the kernel tells it.

Where an address has several sockets (*multisocket*), one that nobody reads swallows its share of
the queries without a trace; here it is found.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_TABLES = {"udp": "07", "udp6": "07", "tcp": "0A", "tcp6": "0A"}
"""Files of /proc/net, and the state of sockets that take queries: TCP's listen, and UDP's are not
connected.
"""


def children(pid: int) -> list[int]:
    """Return the IDs of the processes that `pid` has started; none if it is gone."""
    try:
        return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def listening(port: int) -> list[str]:
    """Return the inodes of the sockets at a port of this network namespace: UDP, and TCP that
    listen.
    """
    found = []
    for name, state in _TABLES.items():
        table = Path("/proc/net", name)
        rows = [it.split() for it in table.read_text().splitlines()[1:]] if table.exists() else []
        found += [it[9] for it in rows if it[1].endswith(f":{port:04X}") and it[3] == state]
    return found


def read_by(pid: int) -> set[str]:
    """Return the inodes of the sockets that a process waits for (epoll)."""
    fds, inodes = Path(f"/proc/{pid}/fd"), set[str]()
    try:
        for info in Path(f"/proc/{pid}/fdinfo").iterdir():
            for fd in re.findall(r"^tfd:\s*(\d+)", info.read_text(), re.MULTILINE):
                inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(fds / fd)))
    except (FileNotFoundError, ProcessLookupError):  # closed, or gone, while we look
        return inodes
    return inodes


def is_whole(pid: int, port: int, number: int) -> bool:
    """Return whether there are so many sockets of each kind, each read by a process of its own:
    `pid` or one that it has started.
    """
    sockets = listening(port)
    reading = {process: read_by(process) for process in (pid, *children(pid))}
    readers = [[it for it, inodes in reading.items() if inode in inodes] for inode in sockets]
    found = [reader[0] for reader in readers if len(reader) == 1]
    return len(sockets) == len(found) == 2 * number and len(set(found)) == number
