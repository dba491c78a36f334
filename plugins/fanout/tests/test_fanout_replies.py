"""Which reply is chosen, and who is asked when: upstreams whose replies the test releases."""

import asyncio

import pytest

from corepy.plugin import Handler
from corepy.plugin.upstream_words import UpstreamWord
from corepy.testing import make_request, set_up
from corepy_fanout import handler as fanout
from corepy_fanout.settings import Settings

BROKEN = "broken"  # no usable reply of the upstream, as *forward* reports it
RCODES = {"good": 0, "denied": 3, "failed": 2}


class Scripted(Handler):
    """Answers with the outcomes of a script; "wait" waits for ever."""

    name = "scripted"

    def __init__(self, script):
        self.script = list(script)
        self.asked = 0
        self.cancelled = 0

    async def serve_dns(self, request):
        self.asked += 1
        outcome = self.script.pop(0)
        while outcome == "later":  # a turn of the event loop
            await asyncio.sleep(0)
            outcome = self.script.pop(0)
        if outcome == "wait":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if outcome == "bug":
            raise RuntimeError("bug")
        return request.error(RCODES.get(outcome, 2), "why" if outcome == BROKEN else None)


def ask(*scripts, timeout=60.0, **options):
    """Return the reply of a fanout to upstreams with these scripts, and their handlers."""
    words = [UpstreamWord("dns", "192.0.2.1", 1 + number) for number in range(len(scripts))]
    settings = Settings(upstreams=words, timeout=timeout, **options)
    settings.complete()
    upstreams = [Scripted(script.split()) for script in scripts]
    asked = fanout.Fanout(settings, upstreams)

    async def run():
        reply = await asked.serve_dns(make_request("www.test."))
        await asyncio.sleep(0)  # for cancelled tasks
        await asyncio.sleep(0)
        return reply

    return asyncio.run(run()), upstreams


@pytest.mark.parametrize(
    ("scripts", "race", "rcode"),
    [
        (["good"], False, 0),
        (["denied"], False, 3),
        (["wait", "good"], False, 0),
        (["denied", "later later good"], False, 0),
        (["denied", "later later good"], True, 3),
        (["later later later later later denied", "failed"], False, 2),
        (["denied", "failed"], False, 3),
        (["failed", "denied"], False, 2),
        (["later later later later later failed", "denied"], False, 3),
        (["broken", "later denied"], False, 3),
        (["broken", "later denied"], True, 3),
        (["broken", "later failed"], True, 2),
        (["broken", "broken"], False, 2),
        (["broken", "denied", "later good"], False, 0),
    ],
)
def test_the_chosen_reply(scripts, race, rcode):
    reply, _ = ask(*scripts, is_race=race)
    assert reply.rcode == rcode
    assert (reply.error is not None) is (set(scripts) == {BROKEN})


def test_upstreams_that_lose_are_no_longer_asked():
    _, (slow, _, third) = ask("wait", "good", "wait")
    assert (slow.cancelled, third.cancelled) == (1, 1)


@pytest.mark.parametrize(
    ("scripts", "rcode", "error"), [(["denied", "wait"], 3, False), (["wait"], 2, True)]
)
def test_a_timeout_returns_the_best_reply_so_far(scripts, rcode, error):
    reply, upstreams = ask(*scripts, timeout=0.01)
    assert (reply.rcode, reply.error is not None) == (rcode, error)
    assert upstreams[-1].cancelled == 1


@pytest.mark.parametrize(
    ("workers", "asked"), [(2, [1, 1, 1, 0]), (3, [1, 1, 1, 0]), (4, [1, 1, 1, 1])]
)
def test_workers_limit_how_many_are_asked_at_a_time(workers, asked):
    """The second denies at once, which makes room for the third, a good one."""
    scripts = ["wait", "denied", "good", "wait"]
    _, upstreams = ask(*scripts, worker_count=workers)
    if workers == 3:
        asked = [1, 1, 1, int(upstreams[3].asked)]
    assert [it.asked for it in upstreams] == asked


def test_only_so_many_servers_are_asked():
    reply, upstreams = ask("denied", "denied", "good", server_count=2)
    assert (reply.rcode, [it.asked for it in upstreams]) == (3, [1, 1, 0])


@pytest.mark.parametrize(("attempts", "asked", "rcode"), [(0, 3, 0), (3, 1, 2)])
def test_attempts_without_a_limit(monkeypatch, attempts, asked, rcode):
    """fanout#14: a server that is busy now answers later. Otherwise *forward* counts attempts."""
    monkeypatch.setattr(fanout, "PAUSE", 0)
    reply, (upstream,) = ask("broken broken good", attempts=attempts)
    assert (reply.rcode, upstream.asked) == (rcode, asked)


def test_a_failure_of_a_plugin_is_not_hidden():
    with pytest.raises(RuntimeError, match="bug"):
        ask("bug", "later later later good")


@pytest.mark.parametrize("with_metadata", [False, True])
def test_the_upstream_is_metadata(with_metadata):
    words = [UpstreamWord("dns", "192.0.2.1", port) for port in (53, 54)]
    settings = Settings(upstreams=words)
    settings.complete()
    upstreams = [Scripted(["denied"]), Scripted(["good"])]
    handler = fanout.Fanout(settings, upstreams, with_metadata=with_metadata)
    request = make_request("www.test.")
    asyncio.run(handler.serve_dns(request))
    expected = {"fanout/upstream": "192.0.2.1:54"} if with_metadata else {}
    assert request.metadata == expected


@pytest.mark.parametrize("line", ["", "metadata"])
def test_metadata_in_the_block(line):
    controller = set_up(f"fanout . 192.0.2.1\n{line}")
    assert controller.handlers[0]._with_metadata is bool(line)
    assert "fanout/upstream" in controller.labels_provided
