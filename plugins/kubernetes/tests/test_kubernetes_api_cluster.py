"""One client for all directives, generations and processes with one configuration."""

import asyncio
import os
import socket
import threading

import pytest

from corepy.testing import helper_module, until
from corepy.testing.process_groups import GroupInProcess
from corepy_kubernetes import api_cluster, api_watch, following, snapshot
from corepy_kubernetes.api import Source
from corepy_kubernetes.api_store import PORTION, Store
from corepy_kubernetes.item_lines import Put, encode
from corepy_kubernetes.objects import Kind, Namespace, Needs, Serials

fake = helper_module(__file__, "kubernetes_api_server")
feeds = helper_module(__file__, "kubernetes_feed")

ONLY_SERVICES = Needs(slices=False)


@pytest.fixture(autouse=True)
def _without_delays(monkeypatch):
    monkeypatch.setattr(api_watch, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(api_watch, "LONGEST_DELAY", 0.001)
    monkeypatch.setattr(api_watch, "SHORTEST_WATCH", 0.0)


def run(main):
    asyncio.run(main())


class OtherProcess:
    """A source whose clusters are not those of this process."""

    def __init__(self, config, group):
        self.feed = feeds.RecordingFeed(config.needs)
        self.cluster = api_cluster.Cluster(config)
        self.receiver = self.cluster.attach(self.feed, "kubernetes.1")
        self.cluster.start(feeds.context(group))

    async def __aenter__(self):
        return self.feed

    async def __aexit__(self, *_):
        self.cluster.detach(self.receiver)
        await self.cluster.stop()


def test_directives_with_one_configuration_share_the_requests():
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            for number in range(2 * PORTION):
                api.put("services", fake.service(f"s{number}"))
            config = feeds.config_for(api.url, needs=ONLY_SERVICES)
            async with feeds.started(config) as first:
                await first.until_synced()
                await api.watched("services", "namespaces")
                before = len(api.requests)
                async with feeds.started(config) as second:
                    await second.until_synced()
                    assert second.objects == first.objects
                    api.put("services", fake.service("new"))
                    await second.until(lambda: "new" in second.names())
                    assert "new" in first.names()
                assert (len(api.requests), api.count_watches("services")) == (before, 1)
            await until(lambda: not api.watches)

    run(main)


def test_a_reload_asks_the_api_for_nothing_and_later_changes_arrive():
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            for number in range(3 * PORTION):
                api.put("services", fake.service(f"s{number}"))
            config = feeds.config_for(api.url, needs=ONLY_SERVICES)
            old = feeds.RecordingFeed(ONLY_SERVICES)
            old.serials = Serials(7, 8, 9)
            before = Source(config, old, "kubernetes.1")
            await before.start(feeds.context())
            await old.until_synced()
            await api.watched("services", "namespaces")
            count = len(api.requests)
            async with feeds.started(config) as new:
                assert not new.names()
                api.delete("services", "default", "s0")
                api.put("services", fake.service("late"))
                await old.until(lambda: "late" in old.names())
                await before.stop()
                await before.stop()
                await new.until_synced()
                assert new.serials == (7, 8, 9)
                api.put("services", fake.service("later"))
                await new.until(lambda: "later" in new.names())
                assert "s0" not in new.names()
                assert len(new.names()) == 3 * PORTION + 1
            assert len(api.requests) == count
            assert "later" not in old.names()

    run(main)


def test_another_configuration_has_another_client():
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            config = feeds.config_for(api.url, needs=ONLY_SERVICES)
            other = feeds.config_for(api.url, needs=Needs(slices=False, labels="app=web"))
            async with feeds.started(config), feeds.started(other):
                await api.watched("services", count=2)

    run(main)


def test_followers_get_the_objects_of_the_leader():
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            for number in range(3 * PORTION):
                api.put("services", fake.service(f"s{number}", addresses=["10.0.0.1"]))
            config = feeds.config_for(api.url)
            listening: dict[str, object] = {}
            async with (
                feeds.started(config, group=GroupInProcess(listening, is_leader=True)) as leader,
                OtherProcess(config, GroupInProcess(listening)) as early,
            ):
                await early.until_synced()
                async with OtherProcess(config, GroupInProcess(listening)) as late:
                    await late.until_synced()
                    await api.watched("services", "endpointslices")
                    triggered = "2026-11-30T08:00:00Z"
                    api.put("endpointslices", fake.endpoint_slice("a", "s0", triggered=triggered))
                    api.delete("services", "default", "s1")
                    for feed in (early, late):
                        await feed.until_names("a", kind=Kind.SLICE)
                        await feed.until(lambda it=feed: it.objects == leader.objects)
                        assert ("put", "a", 1796025600.0) in feed.calls
                    leader.serials = Serials(1, 2, 3)
                    api.put("services", fake.service("new"))
                    await until(lambda: early.serials == late.serials == (1, 2, 3))
            assert api.connections <= 6
            assert not listening

    run(main)


def test_a_follower_that_loses_the_leader_watches_without_a_gap(caplog):
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            api.put("services", fake.service("web"))
            config = feeds.config_for(api.url, needs=ONLY_SERVICES)
            listening: dict[str, object] = {}
            leader = Source(config, feeds.RecordingFeed(ONLY_SERVICES), "kubernetes.1")
            await leader.start(feeds.context(GroupInProcess(listening, is_leader=True)))
            async with OtherProcess(config, GroupInProcess(listening)) as follower:
                await follower.until_synced()
                assert api.count_watches("services") <= 1
                del follower.calls[:]
                await leader.stop()
                api.put("services", fake.service("new"))
                await follower.until_names("new", "web")
                await api.watched("services")
            assert follower.calls == [("put", "new", None)]

    run(main)


def test_a_leader_that_sends_anything_else_is_left(caplog):
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            api.put("services", fake.service("web"))
            config = feeds.config_for(api.url, needs=ONLY_SERVICES)
            group = GroupInProcess({})
            sent = [b'["put", "services", []]\n', b'["put", "pods", ["a", "b", [], []]]\n', b"{\n"]

            def connected(sock):
                sock.sendall(sent.pop())
                if not sent:
                    group.listening.clear()
                sock.close()

            group.listening = {f"kubernetes {api_cluster.fingerprint(config)}": connected}
            async with OtherProcess(config, group) as follower:
                await follower.until_names("web")

    run(main)
    assert sum("connection to the leader" in it.message for it in caplog.records) == 3


def test_a_follower_that_reads_slowly_gets_the_last_state():
    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            config = feeds.config_for(api.url, needs=ONLY_SERVICES)
            listening: dict[str, object] = {}
            async with feeds.started(
                config, group=GroupInProcess(listening, is_leader=True)
            ) as leader:
                await leader.until_synced()
                ours, theirs = socket.socketpair()
                (connected,) = listening.values()
                connected(theirs)
                cluster = leader.source._cluster
                await until(lambda: len(cluster.store.receivers) == 2)
                link = cluster.store.receivers[1]
                name = "x" * 60
                for number in range(2000):
                    item = fake.service(name, addresses=[f"10.0.{number // 250}.{number % 250}"])
                    item["spec"]["ports"] = [{"name": name, "port": port} for port in range(50)]
                    api.put("services", item)
                    if link._is_paused:
                        break
                    await asyncio.sleep(0)
                assert link._is_paused
                last = fake.service(name, addresses=["10.9.9.9"])
                api.put("services", last)
                await leader.until(
                    lambda: (
                        leader.objects[Kind.SERVICE]["default", name].addresses[0]
                        == b"\x0a\x09\x09\x09"
                    )
                )
                assert len(link._queue) == 1
                ours.setblocking(False)
                reader, writer = await asyncio.open_connection(sock=ours)
                wanted = encode(Put(Kind.SERVICE, leader.objects[Kind.SERVICE]["default", name]))
                while await reader.readline() != wanted:
                    pass
                writer.close()
                await until(lambda: len(cluster.store.receivers) == 1)

    run(main)


def test_a_follower_that_hangs_is_left(monkeypatch):
    """Otherwise the names of all objects that come and go would wait for it."""
    monkeypatch.setattr(following, "MOST_REMOVED", 3)

    async def main():
        store = Store((Kind.NAMESPACE,))
        ours, theirs = socket.socketpair()
        closed: list[object] = []
        link = following.FollowerLink(store, lambda: None, closed.append)
        await link.open(theirs)
        await until(lambda: store.receivers)
        link.pause_writing()
        for number in range(10):
            store.put(Namespace(f"n{number}"))
            store.remove(Kind.NAMESPACE, "", f"n{number}")
        await until(lambda: closed)
        assert store.receivers == []
        ours.close()

    run(main)


# -- the snapshot


@pytest.fixture
def kept(tmp_path):
    """A snapshot with one service, and its cluster's configuration."""
    path = tmp_path / "kept"

    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            config = feeds.config_for(api.url, needs=ONLY_SERVICES, keep=path)
            api.put("services", fake.service("web", addresses=["10.0.0.1"]))
            async with feeds.started(config) as feed:
                await feed.until_synced()
                feed.serials = Serials(1, 2, 3)
            return config

    return path, asyncio.run(main())


def test_a_server_that_starts_while_the_api_is_away_has_all_objects(kept):
    path, config = kept
    assert os.stat(path).st_mode & 0o777 == 0o600

    async def main():
        async with feeds.started(config) as feed:
            await feed.until_synced()
            assert (feed.names(), feed.serials) == (["web"], (1, 2, 3))
            await until(lambda: feed.source.status()["problems"])
            async with fake.serving(fake.FakeAPI(), config.access.endpoints[0].port) as api:
                api.put("services", fake.service("web", addresses=["10.0.0.1"]))
                api.put("services", fake.service("new"))
                await feed.until_names("new", "web")
                await api.watched("services")
                assert feed.calls.count(("put", "web", None)) == 1
                assert ("remove", "web") not in feed.calls

    run(main)


def test_a_snapshot_is_written_again_only_after_changes_and_only_when_synced(kept, monkeypatch):
    path, config = kept
    monkeypatch.setattr(api_cluster, "KEEP_INTERVAL", 0.0)
    before = path.read_bytes()

    async def main():
        async with feeds.started(config) as feed:
            await feed.until_synced()
            for _ in range(5):
                await asyncio.sleep(0)
        assert path.read_bytes() == before
        path.unlink()
        async with feeds.started(config) as feed:
            await until(lambda: feed.source.status()["problems"])
        assert not path.exists()

    run(main)


def test_a_snapshot_is_written_while_the_server_runs(tmp_path, monkeypatch):
    """A process that is killed writes none at its end."""
    monkeypatch.setattr(api_cluster, "KEEP_INTERVAL", 0.001)
    path = tmp_path / "kept"

    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            config = feeds.config_for(api.url, needs=ONLY_SERVICES, keep=path)
            async with feeds.started(config) as feed:
                await until(path.exists)
                await api.watched("services", "namespaces")
                api.put("services", fake.service("late"))
                await feed.until_names("late")
                await until(lambda: b'"late"' in path.read_bytes())

    run(main)


def _owned_by_another(path):
    os.chown(path, 65534, 65534)


def _linked(path):
    path.rename(path.with_name("target"))
    path.symlink_to("target")


def _changed(old, new):
    def change(path):
        path.write_bytes(path.read_bytes().replace(old, new))

    return change


def _signed(old, new):
    """A file with a valid SHA-256, as an attacker would make it."""

    def change(path):
        body = path.read_bytes()[:-65].replace(old, new)
        path.write_bytes(body + snapshot.hashlib.sha256(body).hexdigest().encode() + b"\n")

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(_owned_by_another, "belongs to another user", id="owner"),
        pytest.param(lambda it: it.chmod(0o622), "other users may write it", id="mode"),
        pytest.param(_linked, "it is a symbolic link", id="link"),
        pytest.param(lambda it: (it.unlink(), it.mkdir()), "it is not a regular file", id="folder"),
        pytest.param(lambda it: it.write_bytes(b""), "damaged or cut off", id="empty"),
        pytest.param(lambda it: it.write_bytes(it.read_bytes()[:-70]), "damaged", id="cut"),
        pytest.param(_changed(b"0a000001", b"0a000002"), "damaged", id="changed"),
        pytest.param(_signed(b"0a000001", b"0a0000"), "is not an address", id="address"),
        pytest.param(_signed(b'"put"', b'"set"'), "not one of a snapshot", id="word"),
        pytest.param(_signed(b'"services"', b'"secrets"'), "secrets", id="kind"),
        pytest.param(_signed(b'"services"', b'"pods"'), "malformed", id="other kind"),
        pytest.param(_signed(b"kubernetes 1", b"kubernetes 2"), "its format is", id="format"),
        pytest.param(_signed(b'"cluster": "', b'"cluster": "f'), "another cluster", id="cluster"),
        pytest.param(_signed(b'"written": ', b'"written": -'), "its first line", id="time"),
        pytest.param(_signed(b'["put"', b"[" * 99999), "", id="nested"),
    ],
)  # fmt: skip
def test_a_snapshot_with_a_mistake_is_ignored_as_a_whole(kept, change, problem, caplog):
    path, config = kept
    change(path)

    async def main():
        async with feeds.started(config) as feed:
            await until(lambda: feed.source.status()["problems"])
            assert not feed.calls

    run(main)
    (line,) = [it.message for it in caplog.records if "is ignored" in it.message]
    assert problem in line


def test_a_disk_that_hangs_does_not_keep_the_objects_away(kept, monkeypatch, caplog):
    path, config = kept
    released = threading.Event()
    monkeypatch.setattr(snapshot, "LONGEST_READ", 0.0)
    monkeypatch.setattr(snapshot, "_content", lambda path: released.wait())

    async def main():
        async with fake.serving(fake.FakeAPI(), config.access.endpoints[0].port):
            try:
                async with feeds.started(config) as feed:
                    await feed.until_synced()
            finally:
                released.set()

    run(main)
    assert f"{path} is ignored: the disk takes too long" in caplog.text


def test_a_file_that_is_no_snapshot_is_not_replaced(tmp_path, caplog):
    path = tmp_path / "Corefile"
    path.write_text(". { whoami }")

    async def main():
        async with fake.serving(fake.FakeAPI()) as api:
            config = feeds.config_for(api.url, needs=ONLY_SERVICES, keep=path)
            async with feeds.started(config) as feed:
                await feed.until_synced()

    run(main)
    assert path.read_text() == ". { whoami }"
    assert "cannot be written: " in caplog.text
    assert [it.name for it in tmp_path.iterdir()] == ["Corefile"]


def test_a_snapshot_of_another_configuration_is_ignored(kept, caplog):
    path, config = kept

    async def main():
        other = feeds.config_for(
            config.access.endpoints[0].url, needs=Needs(slices=False, labels="a=b"), keep=path
        )
        async with feeds.started(other) as feed:
            await until(lambda: feed.source.status()["problems"])
            assert not feed.calls

    run(main)
    assert "another cluster, or of other options" in caplog.text


def test_explain_reads_the_snapshot_only(kept):
    _, config = kept

    async def main():
        feed = feeds.RecordingFeed(ONLY_SERVICES)
        source = Source(config, feed, "kubernetes.1")
        await source.start(feeds.context(offline=True))
        await feed.until_synced()
        await source.stop()
        assert (feed.names(), source.status()["state"]) == (["web"], "stopped")

    run(main)


def test_after_a_reload_with_other_options_the_file_is_that_of_the_new_ones(kept):
    path, config = kept

    async def main():
        async with fake.serving(fake.FakeAPI(), config.access.endpoints[0].port) as api:
            api.put("services", fake.service("web"))
            other = feeds.config_for(api.url, needs=Needs(slices=False, labels="a=b"), keep=path)
            old, new = (Source(it, feeds.RecordingFeed(it.needs), "x") for it in (config, other))
            await old.start(feeds.context())
            await old._feed.until_synced()
            api.put("services", fake.service("late"))
            await old._feed.until_names("late", "web")
            await new.start(feeds.context())
            await new._feed.until_synced()
            before = path.read_bytes()
            await old.stop()
            assert path.read_bytes() == before
            await new.stop()
            assert path.read_bytes() != before

    run(main)
