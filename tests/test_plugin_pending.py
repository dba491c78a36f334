"""Replies that callbacks bring, awaited and delivered; observing handlers, who see them."""

import asyncio
from typing import Any

import pytest

from corepy.dns import Reply
from corepy.plugin import FastHandler, ObservingHandler, Pending, Wakeups, apply_step
from corepy.plugin.discarding import discard
from corepy.server.build.handler_chain import enter, link
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


# -- `apply_step`


OTHER = Reply(b"other")
REQUEST = make_request("a.example")


class Steps:
    """A step that records its arguments and returns `result`, or raises it."""

    def __init__(self, result=OTHER):
        self.result = result
        self.seen = []

    def __call__(self, request, reply):
        assert request is REQUEST
        self.seen.append(reply)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result if reply is not None else None


def now(outcome):
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def pending(outcome):
    answer = Pending(Wakeups(asyncio.get_running_loop()), lambda _: now(outcome))
    answer.wake()
    return answer


async def later(outcome):
    await asyncio.sleep(0)
    return now(outcome)


async def outcome_of(answer):
    """The reply, or the exception."""
    try:
        return answer if type(answer) is Reply else await answer
    except BaseException as error:
        return error


def applied(kind, outcome, step):
    """Apply `step` to an answer of the kind; return the final outcome."""

    async def run():
        try:
            answer = apply_step(kind(outcome), step, REQUEST)
        except BaseException as error:
            return error
        assert (kind is now) is (type(answer) is Reply)
        assert (kind is pending) is (type(answer) is Pending)
        return await outcome_of(answer)

    return asyncio.run(run())


@pytest.mark.parametrize("kind", [now, pending, later])
def test_a_step_replaces_the_reply(kind):
    step = Steps()
    assert applied(kind, REPLY, step) is OTHER
    assert step.seen == [REPLY]


@pytest.mark.parametrize("kind", [pending, later])
@pytest.mark.parametrize("error", [ValueError("below"), SystemExit(1), asyncio.CancelledError()])
def test_a_step_gets_none_after_a_failure_below(kind, error):
    step = Steps()
    assert applied(kind, error, step) is error
    assert step.seen == [None]


@pytest.mark.parametrize("kind", [now, pending, later])
def test_the_exception_of_a_step_is_raised(kind):
    step = Steps(ValueError("step"))
    assert applied(kind, REPLY, step) is step.result
    assert step.seen == [REPLY]


@pytest.mark.parametrize("kind", [now, later])
def test_a_step_that_loses_the_reply_is_reported(kind):
    error = applied(kind, REPLY, Steps(None))
    assert type(error) is TypeError
    assert "returned None in place of a reply" in str(error)


@pytest.mark.parametrize("is_pending", [False, True])
def test_a_step_gets_none_if_the_query_is_cancelled(is_pending):
    step = Steps()

    async def run():
        loop = asyncio.get_running_loop()
        below = Pending(Wakeups(loop), lambda _: None) if is_pending else later_than(loop)
        task = asyncio.ensure_future(outcome_of(apply_step(below, step, REQUEST)))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    async def later_than(loop):
        await loop.create_future()

    assert isinstance(asyncio.run(run()), asyncio.CancelledError)
    assert step.seen == [None]


def test_a_coroutine_that_is_discarded_runs_no_step():
    step = Steps()
    not_begun = apply_step(later(REPLY), step, REQUEST)
    discard(not_begun)
    begun = apply_step(later(REPLY), step, REQUEST)
    begun.send(None)
    begun.close()
    assert step.seen == []


class Changer(FastHandler):
    name = "changer"

    def begin_dns(self, request):
        return apply_step(self.next.begin_dns(request), self.change, request)

    def change(self, request, reply):
        return None if reply is None else request.error(reply.rcode + 1)


class Below(FastHandler):
    name = "below"

    def __init__(self, kind):
        self.kind = kind

    def begin_dns(self, request):
        return self.kind(request.error(2))


@pytest.mark.parametrize("kind", [now, pending, later])
def test_the_steps_of_several_handlers_run_from_the_lowest_up(kind):
    watcher = Watcher()
    reply = run_chain(REQUEST, Changer(), watcher, Changer(), Below(kind))
    assert reply.rcode == 4
    assert watcher.seen == [("a.example.", 3, False)]
