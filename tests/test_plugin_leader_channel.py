"""A follower stays connected with its leader."""

import asyncio

from corepy.net.channel import Channel
from corepy.plugin.leader_channel import LeaderChannel
from corepy.testing import until
from corepy.testing.process_groups import LinkedProcess


def test_the_channel_is_renewed_until_it_is_closed():
    leader, ends, received = LinkedProcess(), [], []

    def connected(sock):
        ends.append(Channel(sock, take, lambda: None))

    async def take(what, body, _):
        received.append((what, body))

    def opened(channel):
        channel.begin("all", len(ends))

    async def scenario():
        link = LeaderChannel(LinkedProcess(leader), "x", take, opened=opened, task="follow")
        link.begin("lost")
        await asyncio.sleep(0)  # it is refused
        leader.listen("x", connected)
        await until(lambda: received == [("all", 1)])
        link.begin("more", 5)
        await until(lambda: received[1:] == [("more", 5)])
        assert await ends[0].ask("from the leader") is None
        assert received[2:] == [("from the leader", None)]

        ends[0].close()
        await until(lambda: received[3:] == [("all", 2)])
        link.close()
        await until(lambda: not ends[1].is_open)
        link.begin("late")
        assert len(ends) == 2

    asyncio.run(scenario())
