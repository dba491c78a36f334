"""Selects which member of an SO_REUSEPORT group of UDP sockets receives a datagram.

By default the kernel selects it by a hash of both addresses and ports. With 200 client ports and
four sockets, the standard deviation of a socket's share is 12 % of the share. A classic BPF program
selects it at random instead, for each datagram (socket(7), SO_ATTACH_REUSEPORT_CBPF). The program
belongs to the group; every process with a socket of the group can replace it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    Instruction = tuple[int, int, int, int]

SO_ATTACH_REUSEPORT_CBPF: Final = 51

_LOAD, _MODULO, _RETURN_A, _RETURN_K = 0x20, 0x94, 0x16, 0x06
"""BPF_LD|BPF_W|BPF_ABS, BPF_ALU|BPF_MOD|BPF_K, BPF_RET|BPF_A, BPF_RET|BPF_K (linux/filter.h)."""

_RANDOM: Final = 0xFFFFF000 + 56
"""SKF_AD_OFF + SKF_AD_RANDOM: loads a random number."""

_NO_MEMBER: Final = 0xFFFFFFFF
"""The kernel selects by the hash if a program returns the index of no member."""


def share_evenly(sock: socket.socket, members: int) -> bool:
    """Give each of the `members` sockets in the group of `sock` the same share of the datagrams.

    Return whether it worked: the kernel may not support it, and the socket may be in no group.
    """
    return _attach(sock, ((_LOAD, 0, 0, _RANDOM), (_MODULO, 0, 0, members), (_RETURN_A, 0, 0, 0)))


def share_by_hash(sock: socket.socket) -> bool:
    """Return to the kernel's default; it skips connected sockets, which a program may select.

    The program is replaced, because removing it needs Linux 5.3. Return as `share_evenly`.
    """
    return _attach(sock, ((_RETURN_K, 0, 0, _NO_MEMBER),))


def members(sock: socket.socket) -> int:
    """Return the number of UDP sockets at the address of `sock`, of all processes.

    It includes those that have left the group but are still open. 0 if /proc does not show `sock`.
    """
    table = Path("/proc/net", "udp6" if sock.family == socket.AF_INET6 else "udp")
    try:
        rows = [row.split() for row in table.read_text(encoding="ascii").splitlines()[1:]]
        inode = str(os.fstat(sock.fileno()).st_ino)
    except OSError:
        return 0
    own = [row[1] for row in rows if row[9] == inode]
    return sum(row[1] in own for row in rows)


def _attach(sock: socket.socket, program: Sequence[Instruction]) -> bool:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *it) for it in program))
    filters = struct.pack("@HP", len(program), ctypes.addressof(code))  # struct sock_fprog
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, filters)
    except OSError:
        return False
    return True
