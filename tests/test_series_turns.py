"""Series of many clients at the same time share the turns of the event loop."""

import asyncio
import socket
from collections import Counter

from corepy.net.frames import frame
from corepy.plugin import Cacheability, Handler
from corepy.testing import query, serve, with_handlers
from corepy.testing.client import read_frame

CLIENTS, MESSAGES = 12, 5


class Counting(Handler):
    """Answers with a series, and counts the messages that are made in each turn."""

    name = "counting"
    cacheability = Cacheability.UNSAFE

    def __init__(self):
        self.turn = 0
        self.made = Counter[int]()
        self.asked = 0
        self.all_asked = asyncio.Event()

    def next_turn(self):
        self.turn += 1
        if self.made.total() < CLIENTS * MESSAGES:
            asyncio.get_running_loop().call_soon(self.next_turn)

    async def serve_dns(self, request):
        self.asked += 1
        if self.asked == CLIENTS:
            self.next_turn()
            self.all_asked.set()
        await self.all_asked.wait()
        return request.reply_series(self.messages(request))

    def messages(self, request):
        for _ in range(MESSAGES):
            self.made[self.turn] += 1
            yield request.error(0)


def test_few_messages_are_made_in_one_turn_for_many_clients():
    with serve(". {\n counting\n}", plugins=with_handlers(counting=Counting)) as server:
        clients = [socket.create_connection(server.address, 30) for _ in range(CLIENTS)]
        for client in clients:
            client.sendall(frame(query("series.test.", "AXFR")))
        for client in clients:
            for _ in range(MESSAGES):
                assert read_frame(client)
            client.close()
        (handler,) = server.plugins(Counting)
        assert handler.made.total() == CLIENTS * MESSAGES
        assert max(handler.made.values()) <= 2  # a turn ends between those of two series
