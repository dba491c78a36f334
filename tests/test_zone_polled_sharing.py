"""Zones that are copied from an API in several processes: the leader lists, the others follow it."""

import asyncio
import socket
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from corepy.dns.names import from_text
from corepy.net.channel import Channel, Refusal
from corepy.testing import helper_module, until
from corepy.testing.process_groups import LinkedProcess
from corepy.zone import polled_sharing, polled_source
from corepy.zone.polled_api import PolledZone
from corepy.zone.polled_sharing import Publisher
from corepy.zone.polled_source import PolledSettings, PolledSource, leave_source

helpers = helper_module(__file__, "polled_zones")
API, polled, running = helpers.API, helpers.polled, helpers.running

A = ("A", "192.0.2.1")


def run(scenario):
    asyncio.run(scenario())


@pytest.fixture(autouse=True)
def sources_of_two_processes(monkeypatch):
    """The two processes of a test have one event loop, but not one source."""

    def join(settings, group):
        return PolledSource(settings, group)

    monkeypatch.setattr("corepy.zone.polled_handler.join_source", join)
    monkeypatch.setattr(polled_sharing, "PORTION", 3)


def records(handler):
    (copy,) = handler.copies
    return list(copy.current)


def test_a_follower_gets_the_zone_and_its_changes_without_lists_of_its_own():
    async def scenario():
        api, group = API(Z1=[(f"h{n}", 60, *A) for n in range(20)]), LinkedProcess()
        async with (
            running(polled(api, "Z1", refresh=0.001), group=group) as leader,
            running(polled(api, "Z1", refresh=0.001), group=LinkedProcess(group)) as follower,
        ):
            assert follower.ready()
            assert records(follower) == records(leader)
            assert api.clients == 1
            api.put("Z1", ("www", 60, *A))
            await until(lambda: len(records(follower)) == 3)
            api.failure = OSError("refused")
            await until(lambda: follower.copies[0].problem == "refused")
            assert follower.status() == {"state": "API failing"}
            assert leader.status()["records"] == 3
            api.failure = None
            await until(lambda: not follower.copies[0].problem)
            version = follower.inputs
            listed = api.lists
            await until(lambda: api.lists > listed + 2)
            assert follower.inputs == version

    run(scenario)


def test_a_follower_waits_for_the_first_list(monkeypatch):
    monkeypatch.setattr("corepy.zone.polled_copy.FIRST_RETRY", 0.001)

    async def scenario():
        api, group = API(Z1=[]), LinkedProcess()
        api.failure = OSError("refused")
        async with (
            running(polled(api, "Z1", refresh=0.001), group=group),
            running(polled(api, "Z1", refresh=0.001), group=LinkedProcess(group)) as follower,
        ):
            assert not follower.ready()
            assert follower.copies[0].problem == "refused"
            api.failure = None
            await until(follower.ready)

    run(scenario)


def test_a_follower_connects_again_and_asks_for_what_it_serves():
    async def scenario():
        api, group = API(Z1=[("www", 60, *A)], Z2=[]), LinkedProcess()
        settings = helpers.settings_for(api)
        zones = [PolledZone(from_text("example."), it) for it in ("Z1", "Z2")]
        member = SimpleNamespace(copy_changed=lambda copy: None, forget_copy=_forget)
        leader = PolledSource(settings, group)
        leader.join(member, zones)
        follower = PolledSource(settings, LinkedProcess(group))
        first, second = follower.join(member, zones)
        await until(lambda: first.current and second.current)
        (feed,) = leader._publisher._feeds
        feed.channel.close()
        follower.leave(member)
        assert leader._publisher._feeds == set()

        follower = PolledSource(settings, LinkedProcess(group))
        (copy,) = follower.join(member, zones[:1])
        await until(lambda: copy.current)
        (feed,) = leader._publisher._feeds
        feed.channel.close()
        await until(lambda: leader._publisher._feeds)
        (late,) = follower.join(member, zones[1:])
        await until(lambda: late.current)
        for source in (follower, leader):
            leave_source(source, member)
        assert api.closed == 1
        with pytest.raises(ConnectionRefusedError):
            await LinkedProcess(group).connect(settings.name)

    run(scenario)


async def _forget(copy, before):
    pass


def test_unknown_requests_and_zones_are_refused_or_ignored():
    async def scenario():
        group = LinkedProcess()
        publisher = Publisher(group, "polled", lambda zone: None)
        ours, theirs = socket.socketpair()
        group.listening["polled"](theirs)
        channel = Channel(ours, _refuse, lambda: None)
        with pytest.raises(Refusal, match="unknown request 'x'"):
            await channel.ask("x")
        zone = PolledZone(from_text("example."), "Z1")
        await channel.ask("follow", zone)
        publisher.listed(zone)
        await channel.ask("follow", zone)
        publisher.close()
        channel.close()

    run(scenario)


def test_a_follower_that_cannot_take_an_outcome_is_disconnected():
    """It connects again then; before, it got nothing any more."""

    async def scenario():
        group = LinkedProcess()
        copy: Any = SimpleNamespace(tried=asyncio.Event(), current=None, problem="", age=None)
        copy.is_missing, copy.ignored = False, 0
        copy.tried.set()
        publisher = Publisher(group, "polled", lambda zone: copy)
        ours, theirs = socket.socketpair()
        group.listening["polled"](theirs)
        closed = asyncio.Event()
        channel = Channel(ours, _refuse, closed.set)
        await channel.ask("follow", PolledZone(from_text("example."), "Z1"))
        await closed.wait()
        assert not publisher._feeds
        publisher.close()

    run(scenario)


async def _refuse(request, body, _):
    raise Refusal("nothing is expected")


@dataclass(frozen=True)
class Key:
    secret: str = field(repr=False)
    path: Path = Path("/x")
    inner: tuple[object, ...] = ()


def test_the_name_of_a_connection_differs_by_secrets_and_does_not_show_them():
    def name(key, refresh=60.0):
        return PolledSettings("polled", key, refresh, make_client=API).name

    names = {name(Key("a")), name(Key("b")), name(Key("a"), 1.0), name(Key("a", inner=(Key("c"),)))}
    assert len(names) == 4
    assert name(Key("a")) == name(Key("a"))
    assert all(len(it) == len("polled ") + 16 for it in names)
    assert polled_source._identity(Key("a")) != polled_source._identity(Key("b"))
