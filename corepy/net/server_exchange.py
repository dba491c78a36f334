"""One message to another DNS server, and the reply."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from corepy.net.frames import frame

if TYPE_CHECKING:
    from collections.abc import Callable


class _Receiver(asyncio.DatagramProtocol):
    """Waits for the first datagram that is a reply to the message."""

    def __init__(self, is_reply: Callable[[bytes], bool]) -> None:
        self._is_reply = is_reply
        self.reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _: Any) -> None:
        if not self.reply.done() and self._is_reply(data):
            self.reply.set_result(data)

    def error_received(self, error: Exception) -> None:
        """Fail, such as after ICMP's port unreachable: nothing listens there."""
        if not self.reply.done():
            self.reply.set_exception(error)


async def exchange_udp(
    message: bytes,
    address: tuple[str, int],
    is_reply: Callable[[bytes], bool],
    timeout: float,
    source: str = "",
) -> bytes:
    """Send `message` to an address (IP address, port), and return the reply.

    It waits up to `timeout` seconds for a datagram for which `is_reply` is true, from this address
    only; others are ignored. The message is sent from the IP address `source`, by default any.
    Raises TimeoutError, and OSError if it cannot be sent.
    """
    loop = asyncio.get_running_loop()
    transport, receiver = await loop.create_datagram_endpoint(
        lambda: _Receiver(is_reply),
        local_addr=(source, 0) if source else None,
        remote_addr=address,
    )
    try:
        transport.sendto(message)
        async with asyncio.timeout(timeout):
            return await receiver.reply
    finally:
        transport.close()


async def exchange_tcp(message: bytes, address: tuple[str, int], timeout: float) -> bytes:
    """Send `message` over TCP to an address (IP address, port), and return the first reply.

    Raises TimeoutError after `timeout` seconds, and OSError, also if the server closes the
    connection.
    """
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(frame(message))
            length = int.from_bytes(await reader.readexactly(2), "big")
            return await reader.readexactly(length)
        except asyncio.IncompleteReadError:
            raise ConnectionResetError("the server closed the connection") from None
        finally:
            writer.close()


def answers(query: bytes, end: int) -> Callable[[bytes], bool]:
    """Return a predicate that selects the replies to `query`, whose question ends at `end`.

    It compares ID, opcode and question, in any letter case.
    """
    question = query[12:end].lower()

    def is_reply(data: bytes) -> bool:
        return (
            len(data) >= end
            and data[:2] == query[:2]
            and data[2] & 0xF8 == 0x80 | query[2] & 0x78
            and data[4:6] == b"\0\1"
            and data[12:end].lower() == question
        )

    return is_reply
