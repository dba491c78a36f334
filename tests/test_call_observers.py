"""Handlers that observe the calls of those below them: which calls, and that they cost no answer."""

import asyncio
import copy

import pytest

from corepy.dns.constants import NOERROR, SERVFAIL
from corepy.dns.names import from_text
from corepy.plugin import (
    CallObserver,
    FastHandler,
    Handler,
    ObservingHandler,
    Pending,
    Wakeups,
    handlers_below,
    lookup,
)
from corepy.server.build.handler_chain import observing_first
from corepy.testing import Recorder, link, make_request, serve, with_handlers

LABEL = "watch/query"


class Watch(FastHandler, CallObserver):
    """Observes each query whose name does not begin with "unwatched", and records its calls."""

    name = "watch"
    call_label = LABEL

    def __init__(self):
        self.calls = []

    def begin_dns(self, request):
        if not request.name.startswith("unwatched"):
            request.metadata.setdefault(LABEL, True)
        return self.next.begin_dns(request)

    def begin_call(self, handler, request):
        self.calls.append(f"{handler} {request.name}")
        return handler

    def end_call(self, call, request, reply):
        self.calls.append(f"{call} ended: {None if reply is None else reply.rcode}")


class Middle(Handler):
    """Passes queries on with a coroutine."""

    name = "middle"

    async def serve_dns(self, request):
        return await self.next.serve_dns(request)


class Below(FastHandler):
    """Passes queries on without one."""

    name = "below"

    def begin_dns(self, request):
        return self.next.begin_dns(request)


class Last(FastHandler):
    """Answers with a function of the test, as `begin_dns` does."""

    name = "last"

    def __init__(self, answer):
        setattr(self, "begin_dns", answer)  # noqa: B010  # mypy refuses to assign a method


def answer_of(request, *handlers):
    """Return the reply to `request` of guarded handlers, whose first is called as by a server."""

    async def run():
        answer = link(handlers, guarded=True).begin_dns(request)
        return await answer if hasattr(answer, "__await__") else answer

    return asyncio.run(run())


def pending(request, error=None):
    wakeups = Wakeups(asyncio.get_running_loop())

    def conclude(_):
        if error is not None:
            raise error
        return request.error(NOERROR)

    answer = Pending(wakeups, conclude)
    answer.wake()
    return answer


async def later(request, error=None):
    await asyncio.sleep(0)
    if error is not None:
        raise error
    return request.error(NOERROR)


def at_once(request, error=None):
    if error is not None:
        raise error
    return request.error(NOERROR)


ANSWERS = pytest.mark.parametrize("answer", [at_once, pending, later])
BETWEEN = pytest.mark.parametrize("between", [Middle, Below])


@ANSWERS
@BETWEEN
def test_calls_are_nested(answer, between):
    watch = Watch()
    reply = answer_of(make_request("a.test."), watch, between(), Last(answer))
    assert (reply.rcode, reply.answered_by) == (NOERROR, "last")
    name = between.name
    assert watch.calls == [f"{name} a.test.", "last a.test.", "last ended: 0", f"{name} ended: 0"]


@ANSWERS
@BETWEEN
def test_other_queries_are_not_observed(answer, between):
    watch = Watch()
    reply = answer_of(make_request("unwatched.test."), watch, between(), Last(answer))
    assert (reply.rcode, reply.answered_by, watch.calls) == (NOERROR, "last", [])


@ANSWERS
@BETWEEN
def test_the_end_of_a_call_that_fails_is_observed(answer, between):
    watch = Watch()
    last = Last(lambda request: answer(request, LookupError("no data")))
    with pytest.raises(LookupError):
        answer_of(make_request("a.test."), watch, between(), last)
    assert watch.calls[1:] == ["last a.test.", "last ended: None", f"{between.name} ended: None"]


@ANSWERS
@pytest.mark.parametrize("method", ["begin_call", "end_call"])
def test_an_observer_that_fails_costs_no_answer(answer, method, caplog):
    watch = Watch()

    def fail(*_):
        raise LookupError("a mistake")

    setattr(watch, method, fail)
    reply = answer_of(make_request("a.test."), watch, Middle(), Last(answer))
    assert (reply.rcode, reply.answered_by) == (NOERROR, "last")
    assert {record.name for record in caplog.records} == {"corepy.plugin.watch"}
    assert "LookupError: a mistake" in caplog.text


def test_a_call_without_a_mark_has_no_end():
    watch = Watch()
    setattr(watch, "begin_call", lambda handler, request: None)  # noqa: B010  # as above
    assert answer_of(make_request("a.test."), watch, Recorder()).rcode == NOERROR
    assert watch.calls == []


def test_handlers_above_are_not_observed_and_several_may_observe():
    first, second = Watch(), Watch()
    chain = (Middle(), first, second, Recorder())
    assert answer_of(make_request("a.test."), *chain).rcode == NOERROR
    assert first.calls[0] == "watch a.test."
    assert second.calls == ["recorder a.test.", "recorder ended: 0"]
    assert [it.name for it in handlers_below(chain[0])] == ["watch", "watch", "recorder"]


def test_a_failing_handler_below_is_named():
    class Exits(Handler):
        name = "exits"

        async def serve_dns(self, request):
            raise SystemExit(1)

    with serve(
        ". {\nwatch\nbroken\n}",
        plugins=with_handlers(watch=Watch, broken=Exits),
        order="watch before broken",
    ) as server:
        assert server.ask("a.test.").header.rcode == SERVFAIL
        (watch,) = server.plugins(Watch)
        assert watch.calls == ["exits a.test.", "exits ended: None"]


class Count(ObservingHandler):
    name = "count"
    seen = 0

    def observe(self, request, reply):
        self.seen += 1


def test_observing_handlers_are_moved_above():
    names = {"w": Watch(), "c": Count(), "d": Count(), "m": Middle()}

    def moved(text):
        chain = observing_first([names[letter] for letter in text])
        return "".join(letter for it in chain for letter in names if names[letter] is it)

    assert moved("wcdm") == "cdwm"
    assert moved("mwcm") == "mcwm"
    assert moved("wmc") == "wmc"
    assert moved("cwd") == "cdw"


class Alias(Handler):
    """Answers "alias" with a look-up of "target"."""

    name = "alias"

    async def serve_dns(self, request):
        if request.name.startswith("alias"):
            found = await lookup(request, from_text("target.test."))
            return request.error(found.rcode)
        return request.error(NOERROR)


def test_look_ups_are_observed_and_explained_questions_are_answered():
    plugins = with_handlers(watch=Watch, alias=Alias, count=Count)
    order = "watch before count\ncount before alias"
    with serve(". {\nwatch\ncount\nalias\n}", plugins=plugins, order=order) as server:
        assert server.ask("alias.test.").header.rcode == NOERROR
        (watch,), (count,) = server.plugins(Watch), server.plugins(Count)
        assert watch.calls == [
            "alias alias.test.", "alias target.test.", "alias ended: 0", "alias ended: 0",
        ]  # fmt: skip
        assert count.seen == 2
        assert server.ask("unwatched.test.").header.rcode == NOERROR
        assert len(watch.calls) == 4
        top = watch.next
        copied = top.copy_for_trace(copy.copy(top.next))
        assert (copied.name, copied.next.name) == ("alias", "alias")
