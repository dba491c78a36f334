"""Receives and sends datagrams in batches, with recvmmsg(2) and sendmmsg(2) through ctypes.

One system call moves up to `SLOTS` datagrams. Buffers, iovecs, addresses and control messages are
allocated once. Per packet, lengths and pointers are read and written as words of a memoryview over
the kernel's structures, never as ctypes attributes. A reply to a datagram of the current batch
reuses the address and packet information in that datagram's slot; a later reply carries its own
copies (`queue`).

This works only on 64-bit little-endian Linux, because the structure layouts are hard-coded.
`corepy.net.plain` has the same interface over ordinary socket calls for other platforms, and
`corepy.net.datagrams` chooses.

Use it only in the event loop's thread. `receive` overwrites the previous batch, so copy a
datagram's addresses (`address`, `local`) to use them later.
"""

from __future__ import annotations

import ctypes
import errno
import select
import struct
import sys
from array import array
from itertools import accumulate
from time import monotonic
from typing import TYPE_CHECKING, Final

from corepy.net.arena import Buffer
from corepy.net.packetinfo import AF_INET, IFINDEX, LEVEL, control_for, local_address

if TYPE_CHECKING:
    from collections.abc import Sequence
    from mmap import mmap
    from socket import socket

SLOTS: Final = 64
RECEIVE_SIZE: Final = 4096
"""Size of a receive buffer in bytes; a longer datagram is truncated and found malformed."""

SEND_SIZE: Final = 4096
"""Bytes of memory kept per datagram to be sent; a batch with a larger total gets its own memory."""

SEND_PATIENCE: Final = 0.01
"""Seconds to wait for a full socket to take the rest of a batch.

A short wait saves the replies and delays new queries; a longer one would block the event loop.
"""

NAME_SIZE: Final = 128
CONTROL_SIZE: Final = 64
MSG_DONTWAIT: Final = 0x40

_NAME_WORDS = NAME_SIZE // 4
_NAME_QUADS = NAME_SIZE // 8
_MAPPED = 0xFFFF0000
"""The first four of the last eight bytes of an IPv4-mapped address, as a number."""

# struct mmsghdr in 64-bit words: name, namelen, iov, iovlen, control, controllen, flags, received
# length
_WORDS: Final = 8
_STARTS: Final = range(0, SLOTS * RECEIVE_SIZE, RECEIVE_SIZE)
_NAME_STARTS: Final = range(0, SLOTS * NAME_SIZE, NAME_SIZE)
_NAME: Final = 0
_NAMELEN: Final = 1
_IOV: Final = 2
_IOVLEN: Final = 3
_CONTROL: Final = 4
_CONTROLLEN: Final = 5
_LENGTH: Final = 7


def supported() -> bool:
    """Return whether this platform has the layouts and system calls that `Batch` needs."""
    if sys.platform != "linux" or sys.byteorder != "little" or struct.calcsize("P") != 8:
        return False
    libc = ctypes.CDLL(None)
    return hasattr(libc, "recvmmsg") and hasattr(libc, "sendmmsg")


class _Ring:
    """The buffers for `SLOTS` datagrams in one direction."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = Buffer(SLOTS * size)
        self.names = Buffer(SLOTS * NAME_SIZE)
        self.controls = Buffer(SLOTS * CONTROL_SIZE)
        self.headers = Buffer(SLOTS * _WORDS * 8)
        self.iovs = Buffer(SLOTS * 16)

    def point(self, slot: int) -> None:
        """Point the header of `slot` at its buffers, at their full size."""
        iov, words, base = self.iovs.words(), self.headers.words(), slot * _WORDS
        iov[slot * 2] = self.data.address + slot * self.size
        iov[slot * 2 + 1] = self.size
        words[base + _NAME] = self.names.address + slot * NAME_SIZE
        words[base + _NAMELEN] = NAME_SIZE
        words[base + _IOV] = self.iovs.address + slot * 16
        words[base + _IOVLEN] = 1
        words[base + _CONTROL] = self.controls.address + slot * CONTROL_SIZE
        words[base + _CONTROLLEN] = CONTROL_SIZE


class Batch:
    """A batch of datagrams and their replies; shared by all UDP sockets of an event loop."""

    def __init__(self, patience: float = SEND_PATIENCE) -> None:
        """`patience` is the time in seconds that `flush` waits for a full socket."""
        self._patience = patience
        libc = ctypes.CDLL(None, use_errno=True)
        self._recvmmsg = libc.recvmmsg
        self._sendmmsg = libc.sendmmsg
        pointer, number = ctypes.c_void_p, ctypes.c_int
        self._recvmmsg.argtypes = (number, pointer, ctypes.c_uint, number, pointer)
        self._sendmmsg.argtypes = (number, pointer, ctypes.c_uint, number)
        self._allocate()

    def _allocate(self) -> None:
        self._in = _Ring(RECEIVE_SIZE)
        self._out = _Ring(SEND_SIZE)
        for slot in range(SLOTS):
            self._in.point(slot)
            self._out.point(slot)
        self._in_headers, self._out_headers = self._in.headers.address, self._out.headers.address
        self._in_words, self._out_words = self._in.headers.words(), self._out.headers.words()
        self._out_iovs = self._out.iovs.words()
        self._payloads, self._names = self._in.data.memory, self._in.names.memory
        self._controls = self._in.controls.view
        names = self._in.names.view
        self._name_words, self._name_quads = names.cast("I"), names.cast("Q")
        # The queue: replies to the batch, with four words of header each, and later replies.
        self._datas: list[bytes] = []
        self._heads: list[int] = []
        self._late: list[tuple[bytes, bytes, bytes | None]] = []
        self._lost = 0
        """Datagrams lost in earlier flushes, which a full queue caused."""
        self._full_lengths = memoryview(array("Q", [NAME_SIZE] * SLOTS)).toreadonly()
        self._full_controls = memoryview(array("Q", [CONTROL_SIZE] * SLOTS)).toreadonly()
        self._zeros = memoryview(array("I", [0] * SLOTS)).toreadonly()
        self._prepare_answers()

    def _prepare_answers(self) -> None:
        """Build the headers for `answer_all`.

        Each one is addressed to the sender of a slot, with two iovecs: the query's ID and a reply's
        body.
        """
        headers, self._pairs = Buffer(SLOTS * _WORDS * 8), Buffer(SLOTS * 32)
        self._answer_headers, self._answer_words = headers.address, headers.words()
        self._idents: list[bytes] = []
        for slot in range(SLOTS):
            base, words = slot * _WORDS, self._answer_words
            words[base + _NAME] = self._in.names.address + slot * NAME_SIZE
            words[base + _IOV] = self._pairs.address + slot * 32
            words[base + _IOVLEN] = 2
            words[base + _CONTROL] = self._in.controls.address + slot * CONTROL_SIZE
            self._idents += struct.pack("=QQ", self._in.data.address + slot * RECEIVE_SIZE, 2), b""

    def receive(self, sock: socket) -> int:
        """Receive up to `SLOTS` pending datagrams from `sock`, and return their number.

        Return 0 also if the socket reports an error for an earlier datagram (ICMP). The call itself
        clears that error.
        """
        count: int = self._recvmmsg(sock.fileno(), self._in_headers, SLOTS, MSG_DONTWAIT, None)
        return count if count > 0 else 0

    def release(self, count: int) -> None:
        """Reset the lengths of the first `count` slots, which the kernel has shortened."""
        words, end = self._in_words, count * _WORDS
        words[_NAMELEN:end:_WORDS] = self._full_lengths[:count]
        words[_CONTROLLEN:end:_WORDS] = self._full_controls[:count]

    def keys(self, count: int) -> list[bytes]:
        """Return the first `count` datagrams without their first two bytes, the ID of a query."""
        memory = self._payloads
        lengths = self._in_words[_LENGTH : count * _WORDS : _WORDS].tolist()
        return [
            memory[start + 2 : start + length]
            for start, length in zip(_STARTS, lengths, strict=False)
        ]

    def answer_all(self, bodies: list[bytes], sock: socket) -> int:
        """Answer the first datagrams of the batch, each with its own first two bytes and a body.

        `bodies` are iovecs: address and size of the part after the ID, as two 64-bit words. The
        replies are sent at once. Return the number of replies that could not be sent.
        """
        count = len(bodies)
        parts = self._idents[: count * 2]
        parts[1::2] = bodies
        self._pairs.view[: count * 32] = b"".join(parts)
        answers, received, end = self._answer_words, self._in_words, count * _WORDS
        answers[_NAMELEN:end:_WORDS] = received[_NAMELEN:end:_WORDS]
        answers[_CONTROLLEN:end:_WORDS] = received[_CONTROLLEN:end:_WORDS]
        if received[_CONTROLLEN]:
            field = IFINDEX[self._controls[LEVEL]].start // 4
            step = CONTROL_SIZE // 4
            self._controls.cast("I")[field : count * step : step] = self._zeros[:count]
        return self._send(self._answer_headers, count, sock.fileno())

    def payloads(self, count: int) -> list[bytes]:
        """Return copies of the first `count` datagrams."""
        return self._copies(self._payloads, _STARTS, _LENGTH, count)

    def addresses(self, count: int) -> list[bytes]:
        """Return copies of the socket addresses of the first `count` senders."""
        return self._copies(self._names, _NAME_STARTS, _NAMELEN, count)

    def clients(self, count: int) -> list[int]:
        """Return the first `count` senders as `corepy.net.connection_limit.client_number` does.

        No address is copied, so it costs a tenth of `addresses`. All senders of a batch have the
        family of its socket.
        """
        if self._names[0] == AF_INET:
            return self._name_words[1 : count * _NAME_WORDS : _NAME_WORDS].tolist()
        end = count * _NAME_QUADS
        highs = self._name_quads[1:end:_NAME_QUADS].tolist()
        if all(highs):
            return [-high for high in highs]
        starts = self._name_words[4 : count * _NAME_WORDS : _NAME_WORDS].tolist()
        if starts.count(_MAPPED) == count and not any(highs):
            return self._name_words[5 : count * _NAME_WORDS : _NAME_WORDS].tolist()
        lows = self._name_quads[2:end:_NAME_QUADS].tolist()
        # Only IPv4-mapped addresses, and unroutable ones such as ::1, begin with 64 zeros.
        return [
            -high or (low >> 32 if low & 0xFFFFFFFF == _MAPPED else 0)
            for high, low in zip(highs, lows, strict=True)
        ]

    def _copies(self, memory: mmap, starts: range, field: int, count: int) -> list[bytes]:
        lengths = self._in_words[field : count * _WORDS : _WORDS].tolist()
        return [
            memory[start : start + (length & 0xFFFFFFFF)]
            for start, length in zip(starts, lengths, strict=False)
        ]

    def payload(self, slot: int) -> bytes:
        """Return a copy of the datagram in `slot`."""
        start = slot * RECEIVE_SIZE
        return self._payloads[
            start : start + (self._in_words[slot * _WORDS + _LENGTH] & 0xFFFFFFFF)
        ]

    def address(self, slot: int) -> bytes:
        """Return a copy of the sender's socket address in `slot`."""
        start = slot * NAME_SIZE
        return self._names[start : start + (self._in_words[slot * _WORDS + _NAMELEN] & 0xFFFFFFFF)]

    def local(self, slot: int, port: bytes) -> bytes | None:
        """Return the local address of the datagram in `slot`; None without packet information.

        `port` is the socket's own, as two bytes.
        """
        length = self._in_words[slot * _WORDS + _CONTROLLEN]
        start = slot * CONTROL_SIZE
        return local_address(self._controls[start : start + length].tobytes(), port)

    def reply(self, slot: int, data: bytes, sock: socket) -> None:
        """Queue `data` as the reply to the datagram in `slot` of the current batch, from `sock`."""
        if len(self._datas) == SLOTS:
            self._lost = self.flush(sock)
        words, source = self._in_words, slot * _WORDS
        length = words[source + _CONTROLLEN]
        if length:
            start = slot * CONTROL_SIZE
            control = self._controls[start : start + CONTROL_SIZE]
            control[IFINDEX[control[LEVEL]]] = b"\0\0\0\0"
        self._datas.append(data)
        self._heads += (
            self._in.names.address + slot * NAME_SIZE,
            words[source + _NAMELEN] & 0xFFFFFFFF,
            self._in.controls.address + slot * CONTROL_SIZE,
            length,
        )

    def queue(self, data: bytes, address: bytes, local: bytes | None, sock: socket) -> None:
        """Queue a datagram to `address`, from `local` if given. Send a full queue first.

        Raises `TypeError` for a value that cannot be a socket address: a plugin may have replaced
        it, and then `flush` would fail for the other datagrams, too.
        """
        if type(address) is not bytes or len(address) > NAME_SIZE:
            raise TypeError(f"{address!r:.100} is not a socket address")
        control = None if local is None else control_for(local)
        if len(self._late) == SLOTS:
            self._lost = self.flush(sock)
        self._late.append((data, address, control))

    def flush(self, sock: socket) -> int:
        """Send all queued datagrams through `sock`; return the number that could not be sent.

        This includes datagrams lost when a full queue was flushed earlier.

        A datagram that its receiver or the route refuses is skipped. A full socket is waited for up
        to `patience`; then the rest is dropped, as the network would drop it: DNS clients retry.
        """
        lost, self._lost = self._lost, 0
        if self._datas:
            lost += self._send_out(self._datas, self._heads, sock)
            self._datas.clear()
            self._heads.clear()
        if self._late:
            datas, addresses, controls = zip(*self._late, strict=True)
            lost += self._send_out(datas, self._address(addresses, controls), sock)
            self._late.clear()
        return lost

    def _address(
        self, addresses: Sequence[bytes], controls: Sequence[bytes | None]
    ) -> Sequence[int]:
        """Copy addresses into memory for the kernel; return four words for each header."""
        sizes = list(map(len, addresses))
        names, memory = self._out.names, self._out.controls
        names.view[: sum(sizes)] = b"".join(addresses)
        heads = [0] * (4 * len(sizes))
        heads[0::4] = list(accumulate(sizes[:-1], initial=names.address))
        heads[1::4] = sizes
        for slot, control in enumerate(controls):
            if control is not None:
                start = slot * CONTROL_SIZE
                memory.view[start : start + len(control)] = control
                heads[slot * 4 + 2 : slot * 4 + 4] = memory.address + start, len(control)
        return heads

    def _send_out(self, datas: Sequence[bytes], heads: Sequence[int], sock: socket) -> int:
        """Send datagrams with the headers `heads`, four words each.

        Each column of the headers is one slice assignment, which is much faster than single words.
        """
        count, sizes = len(datas), list(map(len, datas))
        total = sum(sizes)
        memory = self._out.data if total <= SLOTS * SEND_SIZE else Buffer(total)
        memory.view[:total] = b"".join(datas)
        starts = array("Q", accumulate(sizes[:-1], initial=memory.address))
        iovs, words, end = self._out_iovs, self._out_words, count * _WORDS
        iovs[0 : count * 2 : 2] = memoryview(starts)
        iovs[1 : count * 2 : 2] = memoryview(array("Q", sizes))
        columns = memoryview(array("Q", heads))
        words[_NAME:end:_WORDS] = columns[0::4]
        words[_NAMELEN:end:_WORDS] = columns[1::4]
        words[_CONTROL:end:_WORDS] = columns[2::4]
        words[_CONTROLLEN:end:_WORDS] = columns[3::4]
        return self._send(self._out_headers, count, sock.fileno())

    def _send(self, headers: int, count: int, fd: int) -> int:
        done, lost, deadline = 0, 0, 0.0
        while done < count:
            sent: int = self._sendmmsg(fd, headers + done * _WORDS * 8, count - done, MSG_DONTWAIT)
            if sent > 0:
                done += sent
            elif ctypes.get_errno() in (errno.EAGAIN, errno.ENOBUFS):
                deadline = deadline or monotonic() + self._patience
                if not _becomes_writable(fd, deadline):
                    return lost + count - done
            elif ctypes.get_errno() != errno.EINTR:
                lost += 1
                done += 1
        return lost


def _becomes_writable(fd: int, deadline: float) -> bool:
    left = deadline - monotonic()
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return left > 0 and bool(poll.poll(left * 1000))
