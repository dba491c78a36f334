"""Zones on disk: a restart answers at once, and half written files are never read."""

import asyncio
import os
import time
from typing import Any

import pytest

from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.testing import helper_module, serve
from corepy.testing.command import wait_until
from corepy.zone import ServedZone, ZoneError
from corepy_secondary import follower
from corepy_secondary.secondary import Secondary
from corepy_secondary.store import Store

zones = helper_module(__file__, "secondary_zones")
build_zone, primary = zones.build_zone, zones.primary

ORIGIN = from_text("example.org.")


def version(serial, hosts=3):
    return build_zone("example.org.", serial, hosts=hosts)


def corefile(address, folder):
    return (
        "example.org {\nbind 127.0.0.1\n"
        f"secondary {{\ntransfer from {address}\nstore {folder}\n}}\n}}\n"
    )


def serial(server):
    (handler,) = server.plugins(Secondary)
    zone = handler.followers[ORIGIN].served.current
    return None if zone is None else zone.serial


def age(path, seconds):
    """Let the file be confirmed a while ago."""
    when = time.time() - seconds
    os.utime(path, (when, when))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "zones")


def test_a_zone_is_written_and_read(store):
    assert store.read(ORIGIN) is None
    zone = version(7)
    store.write(zone)
    found = store.read(ORIGIN)
    assert list(found.zone.wires()) == list(zone.wires())
    assert 0 <= found.age < 600
    age(store.path(ORIGIN), 5000)
    assert 5000 <= store.read(ORIGIN).age < 5600
    store.confirm(ORIGIN)
    assert store.read(ORIGIN).age < 600
    assert [it.name for it in store.folder.iterdir()] == ["example.org.zone"]
    store.remove(ORIGIN)
    store.remove(ORIGIN)
    store.confirm(ORIGIN)
    assert store.read(ORIGIN) is None


def test_a_write_that_fails_leaves_the_file(store, monkeypatch):
    def failing(zone):
        yield "line"
        raise ValueError(zone)

    store.write(version(7))
    monkeypatch.setattr("corepy_secondary.store.zone_to_text", failing)
    with pytest.raises(ValueError, match="Zone"):
        store.write(version(8))
    assert store.read(ORIGIN).zone.serial == 7
    assert [it.name for it in store.folder.iterdir()] == ["example.org.zone"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (b"\0", "..zone"),
        (from_text("Example.ORG.").lower(), "example.org.zone"),
        (from_text("0/25.2.0.192.in-addr.arpa."), "0%2f25.2.0.192.in-addr.arpa.zone"),
        (b"\2..\0", "%5c.%5c..zone"),
    ],
)
def test_the_names_of_files(store, name, file):
    assert store.path(name) == store.folder / file


def test_names_that_are_too_long_for_a_file_differ(store):
    names = [from_text(f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 40}{it}.") for it in "xy"]
    files = {store.path(name).name for name in names}
    assert len(files) == 2
    assert max(map(len, files)) < 250


def test_a_broken_file_is_an_error(store):
    store.folder.mkdir()
    store.path(ORIGIN).write_text("example.org. 60 IN A 192.0.2.1\n")
    with pytest.raises(ZoneError):
        store.read(ORIGIN)


def test_the_time_of_the_confirmation_is_kept(store):
    store.write(version(7), 5000.0)
    assert 5000 <= store.read(ORIGIN).age < 5600


class Context:
    async def forget_names(self, matches):
        pass


def follow(store, zone):
    """A follower with a version that is not stored yet."""
    found = follower.Follower(ServedZone(ORIGIN), (), store)
    found.adopt(zone, time.monotonic())
    context: Any = Context()
    found._shared = follower.Shared(context)
    found.is_unsaved = True
    return found


def test_a_full_disk_confirms_no_older_file(store, monkeypatch, caplog):
    """The file has version 7, and version 8 was confirmed."""
    store.write(version(7), 5000.0)

    async def run():
        found = follow(store, version(8))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: os.sendfile(-1, -1, 0, 1))
            await found.save_now()
            await found._confirm()
            await found.save_now()
        found.stop()
        assert found.is_unsaved
        assert store.read(ORIGIN).age >= 5000
        await found.save_now()
        assert not found.is_unsaved

    asyncio.run(run())
    assert store.read(ORIGIN).zone.serial == 8
    assert caplog.text.count("cannot be stored") == 1


def test_a_file_that_has_gone_is_written_again(store, monkeypatch):
    async def run():
        found = follow(store, version(7))
        await found.save_now()
        store.remove(ORIGIN)
        await found._confirm()
        assert found.is_unsaved
        await found.save_now()
        found.stop()

    asyncio.run(run())
    assert store.read(ORIGIN).zone.serial == 7


def test_a_zone_is_confirmed_without_its_file(store, monkeypatch, caplog):
    def refuse(*_):
        raise PermissionError("no permission")

    async def run():
        found = follow(store, version(7))
        await found.save_now()
        monkeypatch.setattr(Store, "confirm", refuse)
        await found._confirm()
        found.stop()

    asyncio.run(run())
    assert "cannot be stored: no permission" in caplog.text


# -- in servers


def test_a_restart_answers_at_once(store):
    with (
        primary(version(7)) as master,
        serve(corefile(master.address, store.folder)) as server,
    ):
        wait_until(lambda: serial(server) == 7)
        wait_until(store.path(ORIGIN).exists)
    with serve(corefile("127.0.0.1:1", store.folder), still=True) as server:
        assert serial(server) == 7
        assert server.ask("h1.example.org").header.rcode == 0


def test_a_restart_takes_the_changes(store):
    store.write(version(7))
    with (
        primary(version(8)) as master,
        serve(corefile(master.address, store.folder)) as server,
    ):
        wait_until(lambda: serial(server) == 8)
        wait_until(lambda: store.read(ORIGIN).zone.serial == 8)
        assert [it for it, _ in master.asked] == ["SOA", "IXFR"]


def test_a_confirmation_is_recorded(store):
    store.write(version(7))
    age(store.path(ORIGIN), 5000)
    with (
        primary(version(7)) as master,
        serve(corefile(master.address, store.folder)) as server,
    ):
        wait_until(lambda: store.read(ORIGIN).age < 4000)
        assert serial(server) == 7


def test_an_expired_file_is_not_served(store):
    """But it is the base of changes, and served again if it is still the current version."""
    store.write(version(7))
    age(store.path(ORIGIN), 86400)
    with serve(corefile("127.0.0.1:1", store.folder), still=True) as server:
        assert server.ask("h1.example.org").header.rcode == c.SERVFAIL
        (handler,) = server.plugins(Secondary)
        assert handler.zones.get(ORIGIN).is_expired
    with (
        primary(version(7)) as master,
        serve(corefile(master.address, store.folder)) as server,
    ):
        wait_until(lambda: serial(server) == 7)
        assert master.count("AXFR") == 0


def test_a_broken_file_is_reported_and_replaced(store, caplog):
    store.folder.mkdir()
    store.path(ORIGIN).write_text("@ IN SOA (\n")
    with (
        primary(version(7)) as master,
        serve(corefile(master.address, store.folder)) as server,
    ):
        wait_until(lambda: serial(server) == 7)
        wait_until(lambda: "SOA\t" in store.path(ORIGIN).read_text())
    assert "the stored zone example.org. cannot be used" in caplog.text


def test_a_folder_that_cannot_be_written_is_reported(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with (
        primary(version(7)) as master,
        serve(corefile(master.address, tmp_path / "file")) as server,
    ):
        wait_until(lambda: serial(server) == 7)
        wait_until(lambda: "cannot be stored" in caplog.text)


def test_a_stop_stores_the_last_version(store, monkeypatch):
    monkeypatch.setattr(follower, "SPACING", 0.0)
    with (
        primary(version(1)) as master,
        serve(corefile(master.address, store.folder)) as server,
    ):
        wait_until(lambda: serial(server) == 1)
        wait_until(store.path(ORIGIN).exists)
        master.put(version(2))
        (handler,) = server.plugins(Secondary)
        server.call(handler.followers[ORIGIN].notify, b"")
        wait_until(lambda: serial(server) == 2)
    assert store.read(ORIGIN).zone.serial == 2


def test_a_reload_stores_what_is_not_stored(store):
    with primary(version(1)) as master:
        text = corefile(master.address, store.folder)
        with serve(text.replace(f"store {store.folder}\n", "")) as server:
            wait_until(lambda: serial(server) == 1)
            server.reload(text)
            wait_until(store.path(ORIGIN).exists)
            assert master.asked == [("AXFR", True)]
