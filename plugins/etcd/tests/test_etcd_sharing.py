"""Several processes: the leader follows etcd, the others follow the leader."""

import asyncio
import json
import socket
from types import SimpleNamespace
from typing import Any

from corepy.http.http_client import parse_url
from corepy.net.channel import Channel, Refusal
from corepy.testing import helper_module, until
from corepy.testing.process_groups import LinkedProcess
from corepy_etcd import sharing, source
from corepy_etcd.sharing import LeaderState, Publisher, Subscriber
from corepy_etcd.source import Settings, Source
from corepy_etcd.store import Store

key_of = helper_module(__file__, "etcd_copy").key_of


class Leader:
    """The leader's part, without etcd."""

    def __init__(self):
        self.group = LinkedProcess()
        self.state = LeaderState(False, 0)
        self.store = Store("/skydns/", self._changed)
        self.publisher = Publisher(self.group, "etcd", self.store, lambda: self.state)

    def _changed(self, key):
        self.publisher.changed(key)

    def put(self, name, lease=0):
        value = json.dumps({"host": "192.0.2.1", "text": name}).encode()
        self.store.put(key_of(name), value, lease)

    def sync(self, serial):
        self.state = LeaderState(True, serial)
        self.publisher.synced()


class AnyZone:
    """A handler for all names."""

    def has_zone_of(self, name):
        return True


def run(scenario):
    asyncio.run(scenario())


def test_a_follower_gets_all_and_then_the_changes(monkeypatch):
    monkeypatch.setattr(sharing, "PORTION", 3)

    async def scenario():
        leader = Leader()
        for number in range(10):
            leader.put(f"n{number}.test", lease=number % 2)
        leader.store.leases.ends[1] = 123.0
        completed: list[int] = []
        changed: list[bytes] = []
        store = Store("/skydns/", changed.append)
        store.put(key_of("old.test"), b"{}", 0)
        follower = Subscriber(LinkedProcess(leader.group), "etcd", store, completed.append)
        await until(lambda: len(store) == 11)
        assert not completed  # the leader is not synchronized itself
        leader.sync(9)
        await until(lambda: completed == [9])
        assert store.entries == leader.store.entries  # and nothing that the leader does not have
        assert store.leases.ends == {1: 123.0}
        leader.put("more.test")
        leader.store.remove(key_of("n3.test"))
        leader.store.leases.ends[1] = 456.0
        leader.publisher.lease_checked(1)
        await until(lambda: store.entries == leader.store.entries)
        await until(lambda: store.leases.ends == {1: 456.0})
        assert key_of("more.test") in changed
        follower.close()
        leader.publisher.close()

    run(scenario)


def test_a_follower_connects_again_and_keeps_what_it_has(monkeypatch):
    async def scenario():
        leader = Leader()
        completed: list[int] = []
        store = Store("/skydns/", lambda key: None)
        leader.put("a.test")
        leader.sync(1)
        follower = Subscriber(LinkedProcess(leader.group), "etcd", store, completed.append)
        await until(lambda: completed)
        leader.publisher.close()
        leader.store.remove(key_of("a.test"))
        leader.put("b.test")
        await asyncio.sleep(0)
        assert list(store.entries) == [key_of("a.test")]
        leader.publisher = Publisher(leader.group, "etcd", leader.store, lambda: leader.state)
        await until(lambda: list(store.entries) == [key_of("b.test")])
        follower.close()
        leader.publisher.close()

    run(scenario)


def test_a_follower_that_cannot_take_a_portion_is_disconnected():
    """It connects again then; before, it got nothing any more."""

    async def refuse(*_):
        raise Refusal("a fault")

    async def scenario():
        leader = Leader()
        ours, theirs = socket.socketpair()
        leader.group.listening["etcd"](theirs)
        closed = asyncio.Event()
        Channel(ours, refuse, closed.set)
        await closed.wait()
        assert not leader.publisher._followers
        leader.publisher.close()

    run(scenario)


def test_a_follower_that_does_not_read_costs_no_more_than_its_keys():
    async def scenario():
        leader = Leader()
        ours, theirs = socket.socketpair()
        leader.group.listening["etcd"](theirs)
        for _ in range(3):
            for number in range(1000):
                leader.store.remove(key_of(f"n{number}.test"))
                leader.put(f"n{number}.test")
            await asyncio.sleep(0)
        (feed,) = leader.publisher._followers
        assert len(feed.keys) <= 1000
        ours.close()
        await until(lambda: not leader.publisher._followers)
        leader.publisher.close()

    run(scenario)


def test_a_follower_that_hangs_is_left(monkeypatch):
    """Otherwise all keys that come and go would wait for it."""
    monkeypatch.setattr(sharing, "MOST_REMOVED", 3)

    async def scenario():
        leader = Leader()
        follower = await LinkedProcess(leader.group).connect("etcd")
        for number in range(100):
            leader.put(f"n{number}.test")
            leader.store.remove(key_of(f"n{number}.test"))
        assert not leader.publisher._followers
        leader.publisher.close()
        follower.close()

    run(scenario)


def test_the_processes_of_a_server(monkeypatch):
    """The leader alone asks etcd; both remove changed names from their caches."""
    followed = []

    class Quiet:
        revision, problem = 5, ""

        def __init__(self, gateway, store, synced, lease_checked):
            self.has_tried = asyncio.Event()
            followed.append((store, synced))

        def start(self):
            self.has_tried.set()

        def stop(self):
            followed.clear()

    monkeypatch.setattr(source, "Watcher", Quiet)
    monkeypatch.setattr(source, "SPACING", 0.0)

    async def scenario():
        forgotten: dict[str, list[Any]] = {"leader": [], "follower": []}

        def member(name):
            async def forget_names(predicate):
                forgotten[name].append(predicate)

            return AnyZone(), SimpleNamespace(forget_names=forget_names)

        settings = Settings((parse_url("http://a"),))
        group = LinkedProcess()
        leader, follower = Source(settings, group), Source(settings, LinkedProcess(group))
        members = {}
        for name, each in (("leader", leader), ("follower", follower)):
            members[name], context = member(name)
            each.join(members[name], context)
        ((store, synced),) = followed
        store.put(key_of("a.test"), b'{"host": "192.0.2.1"}', 0)
        synced()
        await follower.wait(60)
        assert follower.is_synced
        assert (follower.serial, leader.serial) == (5, 5)
        await until(lambda: all(forgotten.values()))
        for each in (leader, follower):
            each.note_pattern(b"\1*\4test\0")
        store.put(key_of("b.a.test"), b'{"host": "192.0.2.1"}', 0)
        for name in forgotten:
            await until(lambda name=name: forgotten[name][-1](b"\1b\1a\4test\0"))
            is_changed = forgotten[name][-1]
            affected = [b"\1a\4test\0", b"\4test\0", b"\1*\4test\0"]
            assert all(map(is_changed, affected))
            assert not is_changed(b"\1x\1b\1a\4test\0")
            assert not is_changed(b"\1x\3any\4test\0")
        assert leader.leave(members["leader"])
        assert follower.leave(members["follower"])
        assert not group.listening
        assert not followed

    run(scenario)


def test_many_changes_remove_all_names_of_the_zones(monkeypatch):
    monkeypatch.setattr(source, "MOST_NAMES", 3)
    monkeypatch.setattr(source, "SPACING", 0.0)

    async def scenario():
        forgotten = []

        async def forget_names(predicate):
            forgotten.append(predicate)

        leader = Leader()
        follower = Source(Settings((parse_url("http://a"),)), LinkedProcess(leader.group))
        member = AnyZone()
        context: Any = SimpleNamespace(forget_names=forget_names)
        follower.join(member, context)
        follower._on_complete(1)
        for number in range(9):
            follower.note_pattern(b"\1*\1%d\0" % number)
        assert len(follower._patterns) == 4
        follower._on_change(b"/skydns/a")
        await until(lambda: forgotten)
        assert forgotten == [member.has_zone_of]
        assert not follower._patterns
        for number in range(9):
            follower._on_change(b"/skydns/%d" % number)
        await until(lambda: len(forgotten) == 2)
        assert forgotten[1] == member.has_zone_of
        follower.leave(member)
        leader.publisher.close()

    run(scenario)
