"""Chains that wait: interrupted, expired, given up, and delivered exactly once.

No sockets and no clock: `ChainRunner` starts a chain in an event loop of the test, which holds the
futures that the chain waits for.
"""

import asyncio

import pytest

from corepy.dns.constants import NOERROR, REFUSED, SERVFAIL
from corepy.dns.reply_validation import reply_problem
from corepy.plugin import FastHandler, Handler, Pending, Wakeups
from corepy.server.listen import chain_runner
from corepy.server.listen.chain_runner import ChainRunner
from corepy.server.listen.chain_task import task_set_aside
from corepy.testing import make_request, serve, with_handlers

LIMIT = 60.0  # seconds after which a test has failed for good


class Chain(Handler):
    """Runs the coroutine function of a test."""

    name = "chain"

    def __init__(self, work):
        self.work = work
        self.task = None

    async def serve_dns(self, request):
        self.task = asyncio.current_task()
        await self.work()
        return request.error(NOERROR)


class Delivered(list[int]):
    """The rcodes of the replies that a runner has delivered."""

    def __init__(self):
        super().__init__()
        self.event = asyncio.Event()
        self.runner = ChainRunner(self.take)

    def take(self, query, reply):
        assert query.is_done
        assert query not in self.runner.waiting
        self.append(reply.rcode)
        self.event.set()

    def start(self, work):
        """Start a chain that has to wait; returns its query."""
        chain = Chain(work)
        with task_set_aside():  # a listener starts chains in callbacks
            assert self.runner.start(chain, make_request("example.org.")) is None
        (query,) = self.runner.waiting
        assert query is chain.task
        return query

    async def wait(self):
        await asyncio.wait_for(self.event.wait(), LIMIT)


def expire(query):
    with task_set_aside():  # the server's timer is a callback
        query.expire()


async def until(done):
    while not done():  # noqa: ASYNC110  # turns of the loop, no time
        await asyncio.sleep(0)


def run(test):
    """Run a coroutine function with what its chains deliver; nothing is delivered twice."""

    async def main():
        delivered = Delivered()
        await asyncio.wait_for(test(delivered), LIMIT)
        for _ in range(5):  # whatever else is scheduled
            await asyncio.sleep(0)
        assert len(delivered) == 1
        assert not delivered.runner.waiting

    asyncio.run(main())


def test_a_chain_that_waits_is_delivered_once_its_future_is_there():
    async def test(delivered):
        future = asyncio.get_running_loop().create_future()

        async def work():
            assert await future == "news"

        delivered.start(work)
        assert delivered == []
        future.set_result("news")
        await delivered.wait()
        assert delivered == [NOERROR]

    run(test)


def test_cancel_interrupts_the_future_that_is_awaited():
    async def test(delivered):
        future = asyncio.get_running_loop().create_future()

        async def work():
            await future

        delivered.start(work)
        delivered.runner.cancel()
        assert future.cancelled()
        await delivered.wait()
        assert delivered == [SERVFAIL]

    run(test)


def test_cancel_between_two_turns_interrupts_the_next():
    async def test(delivered):
        turns = []

        async def work():
            while True:
                turns.append(1)
                await asyncio.sleep(0)

        delivered.start(work)
        delivered.runner.cancel()
        await delivered.wait()
        assert (delivered, turns) == ([SERVFAIL], [1])

    run(test)


def test_a_chain_that_cancels_itself_is_interrupted_where_it_waits_next():
    """As asyncio.timeout does when its time is over before it is entered."""

    async def test(delivered):
        future, later = (asyncio.get_running_loop().create_future() for _ in range(2))
        interrupted = []

        async def work():
            task = asyncio.current_task()
            task.cancel("from within")
            try:
                await future
            except asyncio.CancelledError as error:
                interrupted.append((str(error), task.uncancel()))
            await later  # the interruption is used up

        delivered.start(work)
        assert future.cancelled()
        await until(lambda: interrupted)
        assert interrupted == [("from within", 0)]
        later.set_result(None)
        await delivered.wait()
        assert delivered == [NOERROR]

    run(test)


def test_a_chain_that_cancels_itself_and_awaits_what_has_ended_is_interrupted():
    """The future takes no cancellation any more, and the chain waits only for its callbacks."""

    async def test(delivered):
        class Ended(asyncio.Future[str]):
            def cancel(self, msg=None):
                return False

        seen = []

        async def work():
            asyncio.current_task().cancel("from within")
            ended = Ended()
            asyncio.get_running_loop().call_soon(ended.set_result, "news")
            try:
                await ended
            except asyncio.CancelledError as error:
                seen.append(str(error))

        delivered.start(work)
        await delivered.wait()
        assert seen == ["from within"]

    run(test)


def test_a_chain_that_cancels_itself_gets_the_result_of_a_task_that_goes_on():
    """The task has used up the cancellation."""

    async def test(delivered):
        async def absorb():
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                return "done all the same"

        task = asyncio.create_task(absorb())
        await asyncio.sleep(0)
        seen = []

        async def work():
            asyncio.current_task().cancel()
            seen.append(await task)

        delivered.start(work)
        await delivered.wait()
        assert (delivered, seen) == ([NOERROR], ["done all the same"])

    run(test)


def test_a_task_that_is_set_aside_is_the_current_one_again():
    async def main():
        task = asyncio.current_task()
        seen: list[object] = []

        def look():
            with task_set_aside():
                seen.append(asyncio.current_task())
                raise ValueError("within")

        with pytest.raises(ValueError, match="within"):
            look()
        assert asyncio.current_task() is task
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: seen.append(str(context["exception"])))
        loop.call_soon(look)  # a callback has no task
        await until(lambda: len(seen) == 3)
        assert seen == [None, None, "within"]

    asyncio.run(main())


class Yields:
    """Awaits a future, and then yields something to the event loop by itself."""

    def __init__(self, future, thing):
        self.future, self.thing = future, thing

    def __await__(self):
        yield from self.future.__await__()
        yield self.thing


@pytest.mark.parametrize("is_future", [False, True])
def test_a_chain_that_yields_what_nobody_can_wait_for(is_future, caplog):
    """A future has to be awaited: yielded by itself, it is a mistake as in a task of asyncio."""

    async def test(delivered):
        future = asyncio.get_running_loop().create_future()
        yielded = Yields(future, future if is_future else 5)

        async def work():
            await yielded

        delivered.start(work)
        future.set_result(None)
        await delivered.wait()
        assert delivered == [SERVFAIL]
        name = repr(yielded.thing)
        assert f"the chain awaits {name}, which is not an asyncio future" in caplog.text

    run(test)


def test_an_exception_of_what_is_awaited_is_raised_in_the_chain():
    async def test(delivered):
        future = asyncio.get_running_loop().create_future()

        class Bare:
            def __await__(self):
                future._asyncio_future_blocking = True
                yield future  # its result is not asked for

        async def work():
            with pytest.raises(KeyError, match="broken"):
                await Bare()

        delivered.start(work)
        future.set_exception(KeyError("broken"))
        await delivered.wait()
        assert delivered == [NOERROR]

    run(test)


@pytest.mark.parametrize("message", [None, "stop it"])
def test_the_message_of_a_cancellation(message):
    async def test(delivered):
        seen = []

        async def work():
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                seen.append(error.args)

        query = delivered.start(work)
        assert query.cancel(message) is True
        await delivered.wait()
        assert (delivered, seen) == ([NOERROR], [() if message is None else (message,)])

    run(test)


def test_an_interruption_that_comes_too_late_for_a_future_is_kept():
    async def test(delivered):
        done = asyncio.get_running_loop().create_future()
        interrupted = []

        async def work():
            try:
                await done
            except asyncio.CancelledError:
                interrupted.append(True)
                raise

        query = delivered.start(work)
        done.set_result(None)  # the chain goes on in the next turn
        query.cancel()
        await delivered.wait()
        assert (delivered, interrupted) == ([SERVFAIL], [True])

    run(test)


def test_a_timeout_within_a_chain_ends_there():
    async def test(delivered):
        never, release = (asyncio.get_running_loop().create_future() for _ in range(2))
        states = []

        async def work():
            task = asyncio.current_task()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await never
            states.append((task.cancelling(), task.uncancel()))
            await release

        query = delivered.start(work)
        await until(lambda: states)
        assert states == [(0, 0)]
        query.cancel()  # a real one still works
        await delivered.wait()
        assert (delivered, release.cancelled()) == ([SERVFAIL], True)

    run(test)


def test_cancellations_are_counted():
    async def test(delivered):
        future = asyncio.get_running_loop().create_future()

        async def work():
            await future

        query = delivered.start(work)
        query.cancel()
        query.cancel()
        assert (query.cancelling(), query.uncancel(), query.uncancel()) == (2, 1, 0)
        assert query.uncancel() == 0
        query.cancel()
        await delivered.wait()

    run(test)


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, ValueError])
def test_a_chain_that_raises_is_reported(error, caplog):
    """A CancelledError that was not asked for is a mistake of the plugin like any other."""

    async def test(delivered):
        future = asyncio.get_running_loop().create_future()

        async def work():
            await future
            raise error("its own")

        delivered.start(work)
        future.set_result(None)
        await delivered.wait()
        assert delivered == [SERVFAIL]

    run(test)
    assert error.__name__ in caplog.text


def test_a_chain_that_expires_may_still_answer():
    async def test(delivered):
        future = asyncio.get_running_loop().create_future()

        async def work():
            try:
                await future
            except asyncio.CancelledError:
                pass  # it has an answer all the same

        query = delivered.start(work)
        assert not query.has_timed_out
        expire(query)
        assert query.has_timed_out
        assert delivered == []
        await delivered.wait()
        assert delivered == [NOERROR]

    run(test)


@pytest.mark.parametrize("waits", ["future", "turn"])
def test_a_chain_that_cannot_be_interrupted_is_given_up(waits):
    async def test(delivered):
        future = asyncio.get_running_loop().create_future()
        closed = []

        async def work():
            try:
                while True:
                    try:
                        await (asyncio.shield(future) if waits == "future" else asyncio.sleep(0))
                    except asyncio.CancelledError:
                        pass
            finally:
                closed.append(asyncio.current_task())
                raise ValueError("in the end")  # the client has its answer already

        query = delivered.start(work)
        expire(query)
        for _ in range(3):
            await asyncio.sleep(0)
        assert (delivered, closed) == ([], [])
        expire(query)
        assert (delivered, closed) == ([SERVFAIL], [query])
        future.set_result(None)  # too late

    run(test)


def test_a_chain_that_is_given_up_leaves_what_it_waited_for():
    """The future may never end, and would keep the query."""

    async def test(delivered):
        class Endless(asyncio.Future[str]):
            def cancel(self, msg=None):
                return False

        future = Endless()

        async def work():
            await future

        query = delivered.start(work)
        expire(query)
        expire(query)
        assert delivered == [SERVFAIL]
        assert future.remove_done_callback(query._resume) == 0

    run(test)


def test_a_pending_reply_that_comes_after_it_was_given_up():
    async def test(delivered):
        request = make_request("example.org.")
        pending = Pending(Wakeups(asyncio.get_running_loop()), lambda _: request.error(NOERROR))

        class Asks(Handler):
            name = "asks"

            def begin_dns(self, request):
                return pending

            async def serve_dns(self, request):
                return await pending

        assert delivered.runner.start(Asks(), request) is None
        delivered.runner.cancel()
        pending.wake()
        await delivered.wait()
        assert delivered == [SERVFAIL]

    run(test)


class Begins(Handler):
    """Answers with what a test gives it, without a coroutine of its own."""

    name = "begins"

    def __init__(self, answer):
        self.answer = answer

    def begin_dns(self, request):
        return self.answer

    async def serve_dns(self, request):
        return await self.answer


def pending_for(request, step):
    return Pending(Wakeups(asyncio.get_running_loop()), step)


@pytest.mark.parametrize("is_named", [False, True])
def test_a_pending_reply_that_comes(is_named):
    async def test(delivered):
        request = make_request("example.org.")
        pending = pending_for(request, lambda _: request.error(REFUSED))
        below, chain = Begins(None), Begins(pending)
        pending.handler = below if is_named else None
        assert delivered.runner.start(chain, request) is None
        assert pending.handler is (below if is_named else chain)
        (query,) = delivered.runner.waiting
        assert query.request is request
        pending.wake()
        await delivered.wait()
        assert delivered == [REFUSED]

    run(test)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("broken"), "ValueError: broken"),
        (asyncio.CancelledError("its own"), "CancelledError: its own"),
        (None, "returned NoneType instead of a Reply"),
    ],
)
def test_a_pending_reply_that_fails(error, text, caplog):
    async def test(delivered):
        request = make_request("example.org.")

        def fails(_):
            if error is not None:
                raise error

        pending = pending_for(request, fails)
        assert delivered.runner.start(Begins(pending), request) is None
        pending.wake()
        await delivered.wait()
        assert delivered == [SERVFAIL]

    run(test)
    assert text in caplog.text


def test_a_pending_reply_that_was_cancelled_is_no_failure_of_a_plugin(caplog):
    async def test(delivered):
        request = make_request("example.org.")
        pending = pending_for(request, lambda _: request.error(NOERROR))
        assert delivered.runner.start(Begins(pending), request) is None
        delivered.runner.cancel()
        await delivered.wait()
        assert delivered == [SERVFAIL]

    run(test)
    assert caplog.text == ""


def test_a_pending_reply_that_expires_twice_and_comes_then():
    async def test(delivered):
        request = make_request("example.org.")
        pending = pending_for(request, lambda _: request.error(NOERROR))
        assert delivered.runner.start(Begins(pending), request) is None
        (query,) = delivered.runner.waiting
        delivered.runner.remove(query)
        assert query.is_done
        query.arrive(pending)  # too late
        assert delivered == []
        delivered.take(query, request.error(REFUSED))

    run(test)


@pytest.mark.parametrize("kind", ["future", "task"])
def test_an_awaitable_that_is_no_coroutine(kind):
    async def test(delivered):
        request = make_request("example.org.")
        future = asyncio.get_running_loop().create_future()

        async def wait():
            return await future

        awaitable = future if kind == "future" else asyncio.create_task(wait())
        with task_set_aside():
            assert delivered.runner.start(Begins(awaitable), request) is None
        future.set_result(request.error(REFUSED))
        await delivered.wait()
        assert delivered == [REFUSED]

    run(test)


INVALID = [
    {"wire": b""},
    {"validated_for": b""},
    {"options": ""},
    {"deadline": "soon"},
    {"since": None},
    {"hit_counters": []},
    {"extended_rcode": -1},
]


@pytest.mark.pure_form("replaces a function, and sets values of other types")
@pytest.mark.parametrize("changes", [{}, *INVALID], ids=str)
def test_a_reply_at_once_is_validated_unless_it_was(monkeypatch, changes):
    """By a guard, and not changed since."""
    request = make_request("example.org.")
    reply = request.error(REFUSED)
    assert reply_problem(request, reply) is None
    for name, value in changes.items():
        setattr(reply, name, value)
    checked = []

    def validated(request, reply, handler):
        checked.append(reply)
        return reply

    class Answers(FastHandler):
        name = "answers"

        def begin_dns(self, request):
            return reply

    async def main():
        runner = ChainRunner(lambda *_: None)
        with monkeypatch.context() as patch:
            patch.setattr(chain_runner, "validated", validated)
            assert runner.start(Answers(), request) is reply
        assert checked == [reply] * bool(changes)
        with task_set_aside():
            found = runner.start(Answers(), request)
        assert found.rcode == (SERVFAIL if changes.keys() - {"validated_for"} else REFUSED)
        assert not runner.waiting

    asyncio.run(main())


def test_a_reply_at_once_that_has_to_be_delivered():
    async def test(delivered):
        request = make_request("example.org.")
        seen = []
        runner = ChainRunner(lambda query, reply: seen.append((query.request, reply)))
        reply = request.error(REFUSED)
        runner.deliver(request, reply)
        assert (seen, runner.waiting) == ([(request, reply)], set())
        delivered.append(reply.rcode)

    run(test)


def test_a_query_that_was_cancelled_is_not_used_for_the_next():
    async def test(delivered):
        first = asyncio.get_running_loop().create_future()

        async def work():
            await first

        class Cancels(Handler):
            name = "cancels"

            async def serve_dns(self, request):
                asyncio.current_task().cancel()
                return request.error(REFUSED)

        with task_set_aside():
            reply = delivered.runner.start(Cancels(), make_request("example.org."))
        assert reply.rcode == REFUSED
        delivered.start(work)
        first.set_result(None)
        await delivered.wait()
        assert delivered == [NOERROR]

    run(test)


def test_a_lookup_of_a_name_in_no_zone_is_refused():
    class Looks(Handler):
        name = "looks"

        async def serve_dns(self, request):
            from corepy.dns.names import from_text
            from corepy.plugin import lookup

            reply = await lookup(request, from_text("www.example.com."))
            return request.error(reply.rcode)

    with serve("example.org {\nlooks\n}", plugins=with_handlers(looks=Looks)) as server:
        assert server.ask("www.example.org.").header.rcode == REFUSED
