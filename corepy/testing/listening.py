"""Finds the process that reads each listening socket, from the kernel's /proc.

If an address has several sockets (*multisocket*), the queries to a socket without a reader are lost
and leave no trace. Tests find such sockets here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_TABLES = {"udp": "07", "udp6": "07", "tcp": "0A", "tcp6": "0A"}
"""Files of /proc/net, and the state of their sockets that receive queries.

These are listening TCP sockets and unconnected UDP sockets.
"""

_READS = 3
"""Reads of each table, which the kernel returns in pieces of a page, not as of one moment.

The next piece begins after as many sockets as were in those before, so that it lacks one if any
process has closed another socket meanwhile.
"""


def children(pid: int) -> list[int]:
    """Return the IDs of the child processes of `pid`; an empty list if it has ended."""
    try:
        return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def listening(port: int) -> list[str]:
    """Return the inodes of the listening TCP and unconnected UDP sockets at a port.

    They are those of this network namespace.
    """
    found = dict[str, None]()
    for name, state in [*_TABLES.items()] * _READS:
        table = Path("/proc/net", name)
        rows = [it.split() for it in table.read_text().splitlines()[1:]] if table.exists() else []
        found |= {it[9]: None for it in rows if it[1].endswith(f":{port:04X}") and it[3] == state}
    return [*found]


def read_by(pid: int) -> set[str]:
    """Return the inodes of the sockets in the epoll sets of a process."""
    fds, inodes = Path(f"/proc/{pid}/fd"), set[str]()
    try:
        for info in Path(f"/proc/{pid}/fdinfo").iterdir():
            for fd in re.findall(r"^tfd:\s*(\d+)", info.read_text(), re.MULTILINE):
                inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(fds / fd)))
    except (FileNotFoundError, ProcessLookupError):  # closed, or the process ended, meanwhile
        return inodes
    return inodes


def is_whole(pid: int, port: int, number: int) -> bool:
    """Return whether `number` processes each read one UDP and one TCP socket of `port`.

    The processes are `pid` and its children. False if there are other sockets at the port.
    """
    sockets = listening(port)
    reading = {process: read_by(process) for process in (pid, *children(pid))}
    readers = [[it for it, inodes in reading.items() if inode in inodes] for inode in sockets]
    found = [reader[0] for reader in readers if len(reader) == 1]
    return len(sockets) == len(found) == 2 * number and len(set(found)) == number
