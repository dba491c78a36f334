"""Checks that a query sent to the server's own addresses gets an answer.

The query is a message of opcode STATUS. The listener itself answers it (NOTIMP): no plugin sees it
and no upstream is needed, yet it passes through the kernel, the socket and the event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from corepy.net.frames import frame
from corepy.net.own_connections import connected
from corepy.net.sockets import own_address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.server.listen.endpoint import Endpoint

    SocketAddress = tuple[str | int, ...]

ATTEMPT_TIMEOUT = 1.0
_STATUS = b"\x10\0\0\0\0\0\0\0\0\0"


async def unanswered(
    endpoints: Iterable[Endpoint], timeout: float, attempt: float = ATTEMPT_TIMEOUT
) -> list[str]:
    """Query all `endpoints` over UDP and TCP; return those that did not answer.

    Each has `timeout` seconds to answer, and is queried again every `attempt` seconds; at an
    address with several sockets the next query may reach another one. An endpoint whose address is
    on no interface is skipped.
    """
    questions = [
        (f"{protocol} {endpoint.label}", _answers(address, kind, timeout, attempt))
        for endpoint in endpoints
        if (address := own_address(endpoint.sockets[0])) is not None
        for protocol, kind in (("udp", socket.SOCK_DGRAM), ("tcp", socket.SOCK_STREAM))
    ]
    answers = await asyncio.gather(*(question for _, question in questions))
    return [name for (name, _), answered in zip(questions, answers, strict=True) if not answered]


async def _answers(
    address: SocketAddress, kind: socket.SocketKind, timeout: float, attempt: float
) -> bool:
    """Repeat the query until there is an answer or `timeout` seconds are over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while (left := end - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(attempt, left)):
                if await _ask(address, kind):
                    return True
        except (TimeoutError, OSError):
            await asyncio.sleep(0.01)
    return False


async def _ask(address: SocketAddress, kind: socket.SocketKind) -> bool:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET
    question = os.urandom(2) + _STATUS
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with sock, connected(sock, address):
        await loop.sock_sendall(sock, question if kind == socket.SOCK_DGRAM else frame(question))
        answer = await loop.sock_recv(sock, 512)
    return question[:2] in answer[:4]
