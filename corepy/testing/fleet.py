"""Runs many upstreams in one thread, each with its own loopback address and behaviour."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from corepy.testing.behaviours import (
    BEHAVIOURS,
    WITHOUT_TCP,
    Act,
    Asked,
    Elsewhere,
    End,
    Pause,
    Raw,
)
from corepy.testing.tls import server_context
from corepy.testing.upstream import RESET, free_sockets

if TYPE_CHECKING:
    from types import TracebackType

    from corepy.testing.wire_message import Message

    Peer = tuple[str, int]

_IP_PKTINFO: Final = 8  # ip(7); the socket module has no name for it
_PKTINFO: Final = struct.Struct("@i4s4s")
_SPACE: Final = socket.CMSG_SPACE(_PKTINFO.size)


class Seen(NamedTuple):
    """One query received by an upstream."""

    proto: str
    """"udp", "tcp" or "tls"."""

    name: bytes
    """The QNAME, in wire form and lower case."""

    message: Message


class Place:
    """One upstream of a fleet; made by `Fleet.add`."""

    def __init__(self, fleet: Fleet, host: str, behaviour: str) -> None:
        self.host = host
        self.seen: list[Seen] = []
        """The queries received, in order."""
        self._fleet = fleet
        self._memory: dict[str, bytes] = {}
        self._names: dict[bytes, int] = {}
        self._closed = behaviour in WITHOUT_TCP
        self.behave(behaviour)

    @property
    def to(self) -> str:
        """The address in the syntax of *forward*; the TCP port is closed for some behaviours."""
        return f"{self.host}:{self._fleet.udp_port if self._closed else self._fleet.port}"

    @property
    def to_tls(self) -> str:
        """The address for TLS; the server uses the certificate of `corepy.testing.tls`."""
        return f"tls://{self.host}:{self._fleet.tls_port}"

    def behave(self, behaviour: str) -> None:
        """Switch to another behaviour; an open or closed TCP port stays as it is."""
        self._script = BEHAVIOURS[behaviour]
        self._names.clear()

    def acts(self, wire: bytes, proto: str) -> list[Act]:
        """Record a query and return the acts that follow."""
        asked = Asked(wire, "udp" if proto == "udp" else "tcp", memory=self._memory)
        name = asked.name.lower()
        self.seen.append(Seen(proto, name, asked.message))
        asked.before = self._names.get(name, 0)
        self._names[name] = asked.before + 1
        return list(self._script(asked))


class Fleet:
    """Runs upstreams on the loopback interface until the `with` block ends.

    All upstreams share their sockets, which are bound to all addresses; the destination address of
    a query selects the upstream. One UDP socket has a port whose TCP port is closed.
    """

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        (self._udp, tcp), (self._lone, closed), (spare, tls) = (_sockets() for _ in range(3))
        closed.close()
        spare.close()
        self._listeners = tcp, tls
        self.port, self.udp_port, self.tls_port = (
            sock.getsockname()[1] for sock in (tcp, self._lone, tls)
        )
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def add(self, behaviour: str) -> Place:
        """Add an upstream with the named behaviour and return it."""
        number = len(self._places) + 1
        host = f"127.77.{number >> 8}.{number & 255}"
        place = self._places[host] = Place(self, host, behaviour)
        return place

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        for udp in self._udp, self._lone:
            self._loop.add_reader(udp, self._on_datagram, udp)
        servers = [
            await asyncio.start_server(partial(self._talk, proto), sock=sock, ssl=context)
            for sock, proto, context in zip(
                self._listeners, ("tcp", "tls"), (None, server_context()), strict=True
            )
        ]
        await self._stop.wait()
        for udp in self._udp, self._lone:
            self._loop.remove_reader(udp)
            udp.close()
        for server in servers:
            server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        ends = (writer.wait_closed() for writer in self._writers)
        await asyncio.gather(*self._tasks, *ends, return_exceptions=True)

    def _on_datagram(self, udp: socket.socket) -> None:
        for _ in range(64):
            try:
                wire, control, _, peer = udp.recvmsg(65535, _SPACE)
            except BlockingIOError:
                return
            _, _, address = _PKTINFO.unpack(control[0][2][: _PKTINFO.size])
            place = self._places[socket.inet_ntoa(address)]
            coroutine = self._answer(udp, place, wire, peer)
            task = self._loop.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, udp: socket.socket, place: Place, wire: bytes, peer: Peer) -> None:
        info = _PKTINFO.pack(0, socket.inet_aton(place.host), bytes(4))
        control = [(socket.IPPROTO_IP, _IP_PKTINFO, info)]
        for act in place.acts(wire, "udp"):
            if isinstance(act, bytes):
                udp.sendmsg([act], control, 0, peer)
            elif isinstance(act, Pause):
                await asyncio.sleep(act.seconds)
            elif isinstance(act, Elsewhere):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                    other.bind((place.host, 0))
                    other.sendto(act.wire, peer)

    async def _talk(
        self, proto: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        place = self._places[writer.get_extra_info("sockname")[0]]
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                length = int.from_bytes(await reader.readexactly(2), "big")
                for act in place.acts(await reader.readexactly(length), proto):
                    await _perform(writer, act)
        self._writers.discard(writer)
        writer.close()


async def _perform(writer: asyncio.StreamWriter, act: Act) -> None:
    if isinstance(act, bytes):
        writer.write(len(act).to_bytes(2, "big") + act)
    elif isinstance(act, Raw):
        writer.write(act.data)
    elif isinstance(act, Pause):
        await writer.drain()
        await asyncio.sleep(act.seconds)
    elif act is End.RESET:
        await writer.drain()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
    elif act is End.CLOSE:
        writer.close()


def _sockets() -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a TCP socket at one free port, for all addresses of the loopback device."""
    udp, tcp = free_sockets("0.0.0.0", "lo")
    udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    udp.setblocking(False)
    return udp, tcp
