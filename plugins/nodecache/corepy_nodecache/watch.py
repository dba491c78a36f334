"""Detect changes of links, addresses and rules by other programs, at almost no cost.

For links, addresses and nftables the kernel sends netlink notifications. The event loop reads one
socket for each, and discards the contents: any notification triggers a check. A socket filter in
the kernel passes one nftables message per transaction, so a kube-proxy that rewrites ten thousand
rules wakes the process once. Legacy tables have no notifications. For them the number of rules and
the size of each table are compared twice a second, with one getsockopt per table. A rewrite that
leaves both equal is found by the slower poll of the reconciler.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from corepy_nodecache.legacy import existing_tables
from corepy_nodecache.model import TABLES
from corepy_nodecache.tables import FAMILIES

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from corepy_nodecache.model import Family

_RTMGRP: Final = 0x1 | 0x10 | 0x100  # links, IPv4 addresses, IPv6 addresses
_NETLINK_NETFILTER: Final = 12
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NFNLGRP_NFTABLES: Final = 7
_NFT_MSG_NEWGEN: Final = (
    0x0A0F  # subsystem nftables (10), message NEWGEN (15): end of a transaction
)
_SO_ATTACH_FILTER: Final = 26
_GET_INFO: Final = 64  # IPT_SO_GET_INFO and IP6T_SO_GET_INFO
_INFO: Final = struct.Struct("=32s52x")  # struct ipt_getinfo: name, hooks, number of entries, size
_READS_PER_WAKE: Final = 64

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Calls `changed` from the event loop whenever links, addresses or nftables change."""

    def __init__(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        self._loop = loop
        self._changed = changed
        self._sockets: list[socket.socket] = []
        self._add(_rtnetlink_socket())

    def add_nftables(self) -> None:
        """Watch nftables as well; has no effect if the kernel lacks it."""
        sock = _nftables_socket()
        if sock:
            self._add(sock)

    def _add(self, sock: socket.socket) -> None:
        self._sockets.append(sock)
        self._loop.add_reader(sock, self._drain, sock)

    def close(self) -> None:
        """Stop watching."""
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets = []

    def _drain(self, sock: socket.socket) -> None:
        for _ in range(_READS_PER_WAKE):
            try:
                sock.recv(1)  # the kernel drops the rest of the message
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: messages were lost, so a check is due in any case
                continue
        self._changed()


def _rtnetlink_socket() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    sock.setblocking(False)
    sock.bind((0, _RTMGRP))
    return sock


def _nftables_socket() -> socket.socket | None:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    try:
        sock.setblocking(False)
        _pass_only(sock, _NFT_MSG_NEWGEN)
        sock.bind((0, 0))
        sock.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
    except OSError:
        sock.close()
        return None
    return sock


def _pass_only(sock: socket.socket, message_type: int) -> None:
    """Let the kernel drop netlink messages of other types (classic BPF)."""
    program = b"".join(
        (
            struct.pack("=HBBI", 0x28, 0, 0, 4),  # load the half-word nlmsg_type, as big-endian
            struct.pack("=HBBI", 0x15, 0, 1, socket.htons(message_type)),  # equal?
            struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF),  # keep
            struct.pack("=HBBI", 0x06, 0, 0, 0),  # drop
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)


class LegacyFingerprint:
    """The sizes of the legacy raw and filter tables; used by one thread at a time."""

    def __init__(self) -> None:
        self._sockets: dict[Family, socket.socket] = {}

    def read(self) -> tuple[bytes, ...]:
        """Return a value that changes if a table grows, shrinks or disappears; creates no table."""
        return tuple(
            self._info(family, table)
            for family in FAMILIES
            for table in TABLES
            if table in existing_tables(family)
        )

    def close(self) -> None:
        """Close the sockets."""
        while self._sockets:
            self._sockets.popitem()[1].close()

    def _info(self, family: Family, table: str) -> bytes:
        sock = self._socket(family)
        if sock is None:
            return b""
        buffer = ctypes.create_string_buffer(_INFO.pack(table.encode()), _INFO.size)
        size = ctypes.c_uint32(_INFO.size)
        level = socket.IPPROTO_IPV6 if family == 6 else socket.IPPROTO_IP
        failed = _libc.getsockopt(sock.fileno(), level, _GET_INFO, buffer, ctypes.byref(size))
        return os.strerror(ctypes.get_errno()).encode() if failed else buffer.raw

    def _socket(self, family: Family) -> socket.socket | None:
        if family not in self._sockets:
            with contextlib.suppress(OSError):
                kind = socket.AF_INET6 if family == 6 else socket.AF_INET
                self._sockets[family] = socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW)
        return self._sockets.get(family)
