"""Replies that callbacks bring, awaited and delivered; observing handlers, who see them."""

import asyncio
from typing import Any

import pytest

from corepy.dns import Reply
from corepy.plugin import ObservingHandler, Pending, Wakeups
from corepy.server.build.builder import enter, link
from corepy.testing import Recorder, make_request, run_chain

REPLY = Reply(b"reply")


def first(_reply):
    return REPLY


def in_loop(test):
    """Run `test(wakeups)` in an event loop."""

    async def run():
        return await test(Wakeups(asyncio.get_running_loop()))

    return asyncio.run(run())


def test_it_is_awaited_like_a_future():
    async def test(wakeups):
        pending = Pending(wakeups, first)
        asyncio.get_running_loop().call_soon(pending.wake)
        return await asyncio.wait_for(asyncio.ensure_future(ask(pending)), 60)

    async def ask(pending):
        return await pending

    assert in_loop(test) is REPLY


def test_steps_are_taken_in_order_and_once():
    seen: list[Any] = []

    async def test(wakeups):
        pending = Pending(wakeups, first)
        pending.steps.append(lambda reply: seen.append(reply) or reply)
        delivered: list[Any] = []
        pending.deliver(delivered.append)
        pending.wake()
        pending.wake()
        assert not delivered  # in the next turn, or when it is released
        await asyncio.sleep(0)
        pending.go_on()
        return delivered[0].result(), len(delivered)

    assert in_loop(test) == (REPLY, 1)
    assert seen == [REPLY]


def test_what_is_held_goes_on_when_it_is_released():
    async def test(wakeups):
        delivered: list[Any] = []
        several = [Pending(wakeups, first) for _ in range(3)]
        wakeups.hold()
        for pending in several:
            pending.deliver(delivered.append)
            pending.wake()
        wakeups.release()
        return delivered == several

    assert in_loop(test)


def test_a_step_that_raises_is_the_outcome_and_the_others_learn_of_it():
    seen: list[Any] = []

    def broken(_reply):
        raise ValueError("broken")

    async def test(wakeups):
        pending = Pending(wakeups, first)
        pending.steps += [broken, seen.append]
        pending.wake()
        with pytest.raises(ValueError, match="broken"):
            await pending

    in_loop(test)
    assert seen == [None]


def test_cancelled_it_takes_its_steps_without_a_reply():
    seen: list[Any] = []

    async def test(wakeups):
        pending = Pending(wakeups, lambda reply: seen.append(reply))

        async def ask():
            await pending

        task = asyncio.ensure_future(ask())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert pending.cancelled()
        assert pending.done()
        assert not pending.cancel()
        return task.cancelled()

    assert in_loop(test)
    assert seen == [None]


class Watcher(ObservingHandler):
    name = "watcher"

    def __init__(self):
        self.seen = []

    def observe(self, request, reply):
        self.seen.append((request.name, reply.rcode, reply.is_substitute))


def test_onlookers_on_top_are_no_links_for_a_query():
    upper, lower, between = Watcher(), Watcher(), Watcher()
    recorder = Recorder()
    recorder.next = between
    top = link([upper, lower, recorder, between])
    assert enter(top) == (recorder, (lower, upper))
    assert enter(link([upper]))[1] == (upper,)
    assert enter(None) == (None, ())


def test_an_onlooker_further_down_sees_what_passes():
    watcher = Watcher()
    run_chain(make_request("a.example"), watcher, Recorder(lambda request: request.error(5)))

    def broken(_request):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run_chain(make_request("b.example"), watcher, Recorder(broken))
    assert watcher.seen == [("a.example.", 5, False), ("b.example.", 2, True)]
