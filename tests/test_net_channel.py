"""Messages and descriptors between two ends of a channel."""

import asyncio
import os
import socket
from contextlib import asynccontextmanager

import pytest

from corepy.net.channel import Channel, ChannelClosed, Refusal


class End:
    """One end that answers everything with what it got."""

    def __init__(self, sock):
        self.closed = 0
        self.fds = []
        self.channel = Channel(sock, self.answer, self.close)

    async def answer(self, what, body, fds):
        self.fds += fds
        if what == "refuse":
            raise Refusal("no")
        if what == "wait":
            await asyncio.Event().wait()
        if what == "fail":
            raise ValueError("a fault")
        if what == "cancel":
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        if what == "lambda":
            return lambda: None
        return what, body, len(fds)

    def close(self):
        self.closed += 1


@asynccontextmanager
async def two_ends():
    ends = [End(sock) for sock in socket.socketpair()]
    try:
        yield ends
    finally:
        for end in ends:
            end.channel.close()
            for fd in end.fds:
                os.close(fd)


def test_both_sides_may_ask():
    async def run():
        async with two_ends() as (one, two):
            assert await one.channel.ask("a", {"b": (1, None)}) == ("a", {"b": (1, None)}, 0)
            assert await two.channel.ask("c") == ("c", None, 0)

    asyncio.run(run())


def test_answers_come_to_those_who_asked():
    async def run():
        async with two_ends() as (one, _):
            waiting = asyncio.create_task(one.channel.ask("wait"))
            answers = await asyncio.gather(*(one.channel.ask("n", n) for n in range(50)))
            assert answers == [("n", n, 0) for n in range(50)]
            assert not waiting.done()
            waiting.cancel()

    asyncio.run(run())


def test_a_refusal_has_its_text():
    async def run():
        async with two_ends() as (one, _):
            with pytest.raises(Refusal, match="no"):
                await one.channel.ask("refuse")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "text"),
    [("fail", "ValueError: a fault"), ("cancel", "CancelledError: "), ("lambda", "Can't pickle")],
)
def test_the_other_side_does_not_wait_for_a_handler_that_fails(fault, text):
    async def run():
        loop, reported = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: reported.append(context))
        async with two_ends() as (one, _):
            with pytest.raises(Refusal, match=text):
                await one.channel.ask(fault)

    asyncio.run(run())


@pytest.mark.parametrize("count", [1, 2, 450])
def test_descriptors_come_along_in_order(count):
    async def run():
        async with two_ends() as (one, two):
            pairs = [os.pipe() for _ in range(count)]
            for at, (_, end) in enumerate(pairs):
                os.write(end, b"%d" % at)
            asked = [one.channel.begin("x", "y" * 10, [it[0]]) for it in pairs[:-1]]
            asked.append(one.channel.begin("many", None, [it[0] for it in pairs]))
            await asyncio.gather(*asked)
            numbers = [*range(count - 1), *range(count)]
            assert len(two.fds) == len(numbers)
            assert not any(os.get_inheritable(fd) for fd in two.fds)
            told = [os.fstat(pairs[at][0]).st_ino for at in numbers]
            assert [os.fstat(fd).st_ino for fd in two.fds] == told
            for end in (end for pair in pairs for end in pair):
                os.close(end)

    asyncio.run(run())


def test_what_does_not_fit_into_the_socket_arrives_all_the_same():
    async def run():
        async with two_ends() as (one, two):
            body = b"0123456789" * 500_000
            first, second = await asyncio.gather(
                one.channel.ask("a", body), two.channel.ask("b", body)
            )
            assert first[1] == second[1] == body

    asyncio.run(run())


def test_the_end_of_one_side_is_heard_on_the_other():
    async def run():
        async with two_ends() as (one, two):
            waiting = asyncio.create_task(one.channel.ask("wait"))
            await one.channel.ask("a")
            two.channel.close()
            with pytest.raises(ChannelClosed):
                await waiting
            with pytest.raises(ChannelClosed):
                await one.channel.ask("a")
            assert (one.closed, two.closed) == (1, 1)

    asyncio.run(run())


def test_who_does_not_answer_is_not_waited_for():
    async def run():
        async with two_ends() as (one, _):
            with pytest.raises(TimeoutError):
                await one.channel.ask("wait", timeout=0.01)

    asyncio.run(run())
