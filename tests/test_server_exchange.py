"""One message to another server, and the reply."""

import asyncio
import socket

import pytest

from corepy.net.server_exchange import exchange_udp

MESSAGE = b"a message"


@pytest.fixture
def server():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(60)
        yield sock


def test_a_cancellation_that_comes_together_with_the_reply_ends_the_task(server):
    """A task that followed a zone went on after the end of its generation (Python 3.11)."""

    async def main():
        loop = asyncio.get_running_loop()

        def is_reply(_data):
            loop.call_soon(task.cancel)  # before the task can take the reply
            return True

        task = asyncio.create_task(exchange_udp(MESSAGE, server.getsockname(), is_reply, 60))
        _, client = await asyncio.to_thread(server.recvfrom, 64)
        server.sendto(MESSAGE, client)
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())


def test_datagrams_that_are_not_the_reply_are_ignored(server):
    async def main():
        exchange = exchange_udp(MESSAGE, server.getsockname(), lambda it: it == b"2", 60)
        task = asyncio.create_task(exchange)
        _, client = await asyncio.to_thread(server.recvfrom, 64)
        for reply in (b"1", b"2", b"3"):
            server.sendto(reply, client)
        return await task

    assert asyncio.run(main()) == b"2"


def test_a_server_that_does_not_answer(server):
    with pytest.raises(TimeoutError):
        asyncio.run(exchange_udp(MESSAGE, server.getsockname(), lambda _: True, 0.01))


def test_a_port_without_a_server(server):
    address = server.getsockname()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(exchange_udp(MESSAGE, address, lambda _: True, 60))
