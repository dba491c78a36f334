"""`keep FILE`: entries survive a restart of the server, and nothing else that is in the file."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from corepy.plugin import StateFile
from corepy.server import schedule, snapshots
from corepy.testing import refusal, serve, set_up
from corepy.testing.command import wait_until
from corepy_cache.handler import Cache
from corepy_cache.settings import FILE_SIZE
from corepy_hosts.handler import Hosts

ANSWER = 'template IN A {\nanswer "{{ .Name }} 600 IN A 192.0.2.1"\n}\n'
OTHER_ANSWER = ANSWER.replace("192.0.2.1", "192.0.2.2")


def block(path, below=ANSWER, zone=".", options=""):
    return f"{zone} {{\nbind 127.0.0.1\ncache {{\nkeep {path}\n{options}\n}}\n{below}}}\n"


def entries(server):
    """Return the number of entries of each cache, by block."""
    blocks = server.server.generation.blocks
    return [len(cache.store.success) for it in blocks for _, cache in it.stateful()]


def restart(text, names=()):
    """Run a server, ask for `names`, stop it; return the numbers of entries at its start."""
    with serve(text) as server:
        found = entries(server)
        for name in names:
            assert server.ask(name).rr
        return found


def purge(server, name):
    command = server.server.command("cache/purge", {"name": name})
    asyncio.run_coroutine_threadsafe(command, server._loop).result(60)


def lines(caplog, level="INFO"):
    found = [it.getMessage() for it in caplog.records if it.levelname == level]
    return [it for it in found if "cache" in it or "state" in it]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache"


def test_entries_survive_a_restart(path, caplog):
    caplog.set_level("INFO")
    text = block(path)
    assert restart(text, ["www.example.org", "ftp.example.org"]) == [0]
    with serve(text) as server:
        assert entries(server) == [2]
        (cache,) = server.plugins(Cache)
        stored = [it.stored for it in cache.store.success]
        assert 590 < server.ask("www.example.org").rr[0].ttl <= 600
        assert [it.stored for it in cache.store.success] == stored
        server.reload(text)
    assert lines(caplog) == [
        f"server block at Corefile:1: cache starts empty: {path} does not exist",
        f"server block at Corefile:1: cache continues with 2 entries from {path}",
        "server block at Corefile:1: cache continues with 2 entries",
    ]
    assert lines(caplog, "WARNING") == []


def test_another_chain_starts_empty(path, caplog):
    caplog.set_level("INFO")
    restart(block(path), ["www.example.org"])
    assert restart(block(path, OTHER_ANSWER)) == [0]
    assert restart(block(path)) == [0]  # it was replaced at the stop
    assert lines(caplog)[1].endswith(f"starts empty: {path} has no state of the same chain")


def test_several_blocks_share_a_file(path):
    """As they do with an imported snippet; two of them are equal."""
    zones = "example.org", "example.net", "example.com"
    text = "".join(block(path, zone=zone) for zone in zones)
    restart(text, ["a.example.org", "b.example.org", "a.example.net"])
    assert restart(text) == [2, 1, 0]
    assert restart(text.replace("example.com", "example.edu")) == [2, 1, 0]
    assert restart(block(path, zone="example.net")) == [1]


def test_smaller_sizes_and_blocks_that_keep_nothing_do_not_affect_others(path, caplog, monkeypatch):
    """The limit of the file does not depend on the Corefile of the process before."""
    monkeypatch.setattr(snapshots, "LARGEST_STATE", 0)
    text = block(path, zone="example.org") + block(path, zone="example.net")
    names = [f"n{number}.example.net" for number in range(9)]
    restart(text, ["www.example.org", *names])
    org, net = (block(f"{path} 100", zone=zone) for zone in ("example.org", "example.net"))
    content = path.read_bytes()
    assert restart(org + net.replace(f"keep {path} 100", "")) == [1, 0]
    path.write_bytes(content)
    assert restart(org + net) == [1, 0]
    assert lines(caplog, "WARNING") == [
        "server block at Corefile:11: cache: its state is ignored: it is too large"
    ]
    path.write_bytes(content)
    monkeypatch.undo()
    assert restart(net) == [9]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda path: os.truncate(path, 200), "it is damaged or cut off"),
        (lambda path: path.write_bytes(b"x" * 999), "it is not a snapshot of corepy"),
        (lambda path: path.chmod(0o666), "other users may write it"),
        (lambda path: os.truncate(path, 1 << 40), "it has 1099511627776 bytes, more than"),
    ],
    ids=["cut", "foreign", "writable", "huge"],
)
def test_a_bad_file_costs_one_warning(path, caplog, change, problem):
    restart(block(path), ["www.example.org"])
    change(path)
    assert restart(block(path)) == [0]
    first, *others = lines(caplog, "WARNING")
    assert first.startswith(f"the state of {path} is ignored: {problem}")
    assert len(others) == (1 if problem == "it is not a snapshot of corepy" else 0)


def test_a_malformed_state_is_ignored_with_one_warning(path, caplog, monkeypatch):
    monkeypatch.setattr(Cache, "dump_state", lambda self, most: iter((b"-", b"\0" * 99)))
    restart(block(path))
    monkeypatch.undo()
    assert restart(block(path), ["www.example.org"]) == [0]
    assert restart(block(path)) == [1]
    assert lines(caplog, "WARNING") == [
        "server block at Corefile:1: cache: its state is ignored: an entry with other flags"
    ]


def test_a_folder_that_cannot_be_written_costs_one_warning(path, caplog):
    missing = path / "cache"
    with serve(block(missing)) as server:
        for _ in range(2):
            purge(server, ".")
        server.ask("www.example.org")
    assert lines(caplog, "WARNING") == [
        f"the state cannot be kept in {missing}: No such file or directory"
    ]


def test_a_purge_removes_the_file(path, monkeypatch):
    """The file is written anew at the stop, without the entry."""
    monkeypatch.setattr(schedule, "SETTLE", 600.0)
    text = block(path)
    restart(text, ["www.example.org", "ftp.example.org"])
    with serve(text) as server:
        assert path.exists()
        purge(server, "www.example.org.")
        assert not path.exists()
    with serve(text) as server:
        (cache,) = server.plugins(Cache)
        assert [it.key[:4] for it in cache.store.success] == [b"\3ftp"]


@pytest.mark.parametrize(("module", "name"), [(snapshots, "INTERVAL"), (schedule, "SETTLE")])
def test_the_file_is_written_while_the_server_runs(path, monkeypatch, module, name):
    """Periodically, and after a purge."""
    monkeypatch.setattr(module, name, 0.0)
    with serve(block(path)) as server:
        if name == "SETTLE":
            purge(server, "www.example.org.")
        wait_until(path.exists)


def test_a_write_in_progress_does_not_bring_back_purged_names(path, monkeypatch):
    """The purge ends while the thread is about to rename the new file."""
    with serve(block(path)) as server:
        server.ask("www.example.org")
        real = snapshots.state_files.write
        waiting: list[Any] = []

        def write(path, parts, is_valid):
            server._loop.call_soon_threadsafe(waiting.append, is_valid)
            wait_until(lambda: not is_valid())
            real(path, parts, is_valid)

        monkeypatch.setattr(snapshots.state_files, "write", write)
        keeper = server.server._snapshots
        writing = asyncio.run_coroutine_threadsafe(keeper._write_files(), server._loop)
        wait_until(lambda: waiting)
        asyncio.run_coroutine_threadsafe(keeper.discard(), server._loop).result(60)
        writing.result(60)
        assert not path.exists()
        monkeypatch.undo()


def test_a_purge_while_the_server_stops_removes_the_file(path, monkeypatch):
    """The last snapshot was collected before the purge, the file was written before that."""
    text = block(path)
    restart(text, ["www.example.org"])
    with serve(text) as server:
        real, keeper = snapshots.state_files.write, server.server._snapshots

        def write(path, parts, is_valid):
            asyncio.run_coroutine_threadsafe(keeper.discard(), server._loop)
            wait_until(lambda: not is_valid())
            real(path, parts, is_valid)

        monkeypatch.setattr(snapshots.state_files, "write", write)
    monkeypatch.undo()
    wait_until(lambda: not path.exists())
    assert restart(text) == [0]


def test_a_purge_removes_the_file_of_an_earlier_corefile(path):
    text = block(path)
    restart(text, ["www.example.org"])
    with serve(text) as server:
        server.reload(text.replace(f"keep {path}", "serve_stale"))
        purge(server, "www.example.org.")
        assert not path.exists()


def test_a_reload_while_the_file_is_written(path, monkeypatch):
    text = block(path)
    with serve(text) as server:
        server.ask("www.example.org")
        real, reloaded = snapshots.state_files.write, threading.Event()

        def write(*arguments):
            reloaded.wait(60)
            real(*arguments)

        monkeypatch.setattr(snapshots.state_files, "write", write)
        writing = server.server._snapshots._write_files()
        result = asyncio.run_coroutine_threadsafe(writing, server._loop)
        server.reload(text)
        server.ask("ftp.example.org")
        reloaded.set()
        result.result(60)
        monkeypatch.undo()
        size = path.stat().st_size
    assert path.stat().st_size > size
    assert restart(text) == [2]


def test_names_that_change_in_hosts_remove_the_file(path, tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "SETTLE", 600.0)
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.1 www.example.org\n")
    text = block(path, f"hosts {hosts} {{\nreload 50ms\n}}\n")
    restart(text, ["www.example.org"])
    with serve(text) as server:
        assert entries(server) == [1]
        (handler,) = server.plugins(Hosts)
        hosts.write_text("192.0.2.22 www.example.org\n")
        wait_until(lambda: handler.file.inputs != handler.file.digest or not path.exists())
        wait_until(lambda: not path.exists())
        assert entries(server) == [0]
    assert restart(text) == [0]


def fail(self, *_):
    yield b"-"
    raise ZeroDivisionError


def test_a_plugin_that_fails_stops_nothing(path, caplog, monkeypatch):
    text = block(path)
    restart(text, ["www.example.org"])
    monkeypatch.setattr(Cache, "load_state", fail)
    assert restart(text) == [0]
    monkeypatch.undo()
    monkeypatch.setattr(Cache, "dump_state", fail)
    assert restart(text, ["www.example.org"]) == [0]
    failures = [it.getMessage() for it in caplog.records if it.levelname == "ERROR"]
    assert [it.partition(" failed")[0] for it in failures] == ["load_state", "dump_state"]


def test_the_last_of_two_servers_wins(path):
    text = block(path)
    with serve(text) as one, serve(text) as two:
        one.ask("www.example.org")
        for name in ("www.example.org", "ftp.example.org"):
            two.ask(name)
    assert restart(text) == [1]


def test_the_option():
    (cache,) = set_up("cache {\nkeep /var/lib/corepy/cache\n}").handlers
    assert cache.state_file == StateFile(Path("/var/lib/corepy/cache"), FILE_SIZE)
    (cache,) = set_up("cache {\nkeep cache 1MiB\n}").handlers
    assert cache.state_file.most == 1 << 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("keep", "wrong argument count"),
        ("keep a 1 b", "wrong argument count"),
        ("keep a much", "not a size: 'much'"),
        ("keep a 2GiB", "keep takes at most 1GiB"),
        ("keep a\nkeep b", "keep can only be specified once"),
    ],
)
def test_refused_options(options, message):
    assert message in str(refusal(f"cache {{\n{options}\n}}"))


def test_a_folder_that_does_not_exist(tmp_path):
    assert set_up(f"cache {{\nkeep {tmp_path}/file\n}}").warnings == []
    (warning,) = set_up(f"cache {{\nkeep {tmp_path}/not/file\n}}").warnings
    assert warning.message == f"the folder {tmp_path}/not does not exist here"
