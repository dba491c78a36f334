"""Asking oneself whether a query that comes to our address gets an answer.

The question is a message of opcode STATUS, which no plugin sees: it is answered (NOTIMP) by the
listener itself, so it costs nobody anything, needs no upstream, and still goes the whole way
through the kernel, the socket and the event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from corepy.net.frames import frame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corepy.server.endpoint import Endpoint

ATTEMPT_TIMEOUT = 1.0
_STATUS = b"\x10\0\0\0\0\0\0\0\0\0"


async def unanswered(endpoints: Iterable[Endpoint], timeout: float) -> list[str]:
    """Ask all `endpoints` over UDP and TCP; return those that gave no answer within `timeout`
    seconds.
    """
    questions = [
        (f"{protocol} {endpoint.label}", _answers(endpoint, kind, timeout))
        for endpoint in endpoints
        for protocol, kind in (("udp", socket.SOCK_DGRAM), ("tcp", socket.SOCK_STREAM))
    ]
    answers = await asyncio.gather(*(question for _, question in questions))
    return [name for (name, _), answered in zip(questions, answers, strict=True) if not answered]


async def _answers(endpoint: Endpoint, kind: socket.SocketKind, timeout: float) -> bool:
    """Ask again and again until there is an answer or the time is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while (left := end - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(ATTEMPT_TIMEOUT, left)):
                if await _ask(endpoint, kind):
                    return True
        except (TimeoutError, OSError):
            await asyncio.sleep(0.01)
    return False


async def _ask(endpoint: Endpoint, kind: socket.SocketKind) -> bool:
    loop = asyncio.get_running_loop()
    listening = endpoint.sockets[0]
    question = os.urandom(2) + _STATUS
    with socket.socket(listening.family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
        await loop.sock_connect(sock, _reachable(endpoint))
        await loop.sock_sendall(sock, question if kind == socket.SOCK_DGRAM else frame(question))
        answer = await loop.sock_recv(sock, 512)
    return question[:2] in answer[:4]


def _reachable(endpoint: Endpoint) -> tuple[str | int, ...]:
    """Return where to reach an endpoint from this machine."""
    sockname: tuple[str | int, ...] = endpoint.sockets[0].getsockname()
    if endpoint.listen.host:
        return sockname
    return ("::1" if ":" in str(sockname[0]) else "127.0.0.1", endpoint.port)
