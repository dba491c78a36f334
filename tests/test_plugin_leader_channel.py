"""A follower stays connected with its leader."""

import asyncio
import math

import pytest

from corepy.net.backoff import Backoff
from corepy.net.channel import Channel
from corepy.plugin import leader_channel
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


@pytest.mark.parametrize("longest", [0.0, math.inf])
def test_the_delay_grows_unless_a_connection_has_lasted(longest, monkeypatch):
    """Before, a follower that refused what it got received everything 20 times a second."""
    monkeypatch.setattr(leader_channel, "LONGEST_DELAY", longest)
    monkeypatch.setattr(leader_channel, "Backoff", Recorded)
    leader, done = LinkedProcess(), asyncio.Event()
    Recorded.steps = steps = []

    def connected(sock):
        sock.close()  # it has ended as soon as it has begun

    def opened(_):
        steps.append("opened")
        if len(steps) > 6:
            done.set()

    async def refuse(*_):
        raise AssertionError("the leader asks for nothing")

    async def scenario():
        leader.listen("x", connected)
        link = LeaderChannel(LinkedProcess(leader), "x", refuse, opened=opened, task="follow")
        await done.wait()
        link.close()

    asyncio.run(scenario())
    again = ["opened", "reset", "delay"] if not longest else ["opened", "delay"]
    assert steps[: len(again) * 2] == again * 2


class Recorded(Backoff):
    """Notes what it is asked for, and causes no delay."""

    steps: list[str]

    def reset(self):
        self.steps.append("reset")

    def next_delay(self):
        self.steps.append("delay")
        return 0.0
