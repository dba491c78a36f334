"""The real command and its files: what is noticed, what is refused, what goes on meanwhile."""

import asyncio
import signal
import socket
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

import pytest

from corepy.plugin import LifecycleContext, metrics
from corepy.testing import run_command, serve, serve_file
from corepy.testing.command import wait_until
from corepy_reload.configuration import Configuration, Snapshot
from corepy_reload.metrics import FAILED as FAILURES
from corepy_reload.watcher import REASON, WatchedGeneration, Watcher

RUNNING = "Running configuration SHA512 = "
FAILED = "Corefile changed but reload failed"
NEVER = "reload 1h 0s"  # only inotify can notice anything


def text(name, reload=NEVER):
    """A server that knows one zone."""
    return f"{name}:0 {{\n    bind 127.0.0.1\n    whoami\n    {reload}\n}}\n"


def replace(path, content):
    path.with_name("new").write_text(content)
    path.with_name("new").rename(path)


@contextmanager
def run(conf, *flags):
    with run_command(None, "-conf", str(conf), *flags) as server:
        server.wait_for(RUNNING)
        yield server


@pytest.fixture
def conf(tmp_path):
    conf = tmp_path / "Corefile"
    conf.write_text(text("one"))
    return conf


@pytest.mark.parametrize("write", [type(None), replace])
def test_a_change_is_taken_over(conf, write):
    with run(conf) as server:
        assert server.ask("a.one").header.rcode == 0
        assert server.ask("a.two").header.rcode == 5
        if write is replace:
            replace(conf, text("two"))
        else:
            conf.write_text(text("two"))
        server.wait_for("Reloading complete")
        server.wait_for(RUNNING, times=2)
        assert server.ask("a.two").header.rcode == 0
        assert server.ask("a.one").header.rcode == 5
        hashes = {line for line in server.lines if RUNNING in line}
        assert len(hashes) == 2
        assert all(len(line.partition(" = ")[2]) == 128 for line in hashes)
        assert server.stop() == 0
        assert FAILED not in server.output


def test_a_mounted_configmap(tmp_path):
    """The kubelet's way: a folder per version, and one link that is swapped."""
    mount = tmp_path / "coredns"
    mount.mkdir()

    def update(version, name):
        folder = mount / f"..{version}"
        folder.mkdir()
        (folder / "Corefile").write_text(text(name))
        (mount / "..data_tmp").symlink_to(folder.name)
        (mount / "..data_tmp").rename(mount / "..data")

    update(1, "one")
    conf = mount / "Corefile"
    conf.symlink_to("..data/Corefile")
    with run(conf) as server:
        for number, name in enumerate(("two", "three", "four"), 1):
            update(number + 1, name)
            server.wait_for("Reloading complete", times=number)
            assert server.ask(f"a.{name}").header.rcode == 0


def test_an_import_and_a_new_file_for_a_wildcard(tmp_path, conf):
    (tmp_path / "conf.d").mkdir()
    part = tmp_path / "conf.d" / "a.conf"
    part.write_text(text("two"))
    conf.write_text("import conf.d/*.conf\n" + text("one"))
    with run(conf) as server:
        replace(part, text("three"))
        server.wait_for("Reloading complete")
        (tmp_path / "conf.d" / "b.conf").write_text(text("four"))
        server.wait_for("Reloading complete", times=2)
        assert server.ask("a.three").header.rcode == 0
        assert server.ask("a.four").header.rcode == 0


def test_comments_are_no_change(conf):
    with run(conf) as server:
        replace(conf, "# a comment\n" + text("one"))
        replace(conf, text("two"))
        server.wait_for("Reloading complete")
        assert server.output.count("A configuration file changed: Reloading") == 1


def test_the_interval_without_inotify(tmp_path, conf):
    """A file that is changed behind the kernel's back, as on a network file system."""
    conf.write_text("import part\n")
    part = tmp_path / "part"
    part.write_text(text("one", "reload 2s 0s"))
    changed = text("two", "reload 2s 0s")
    assert len(changed) == part.stat().st_size
    with run(conf) as server, part.open("r+") as file:
        file.write(changed)
        file.flush()  # stays open, so nothing tells of it
        server.wait_for("Reloading complete")
        assert server.ask("a.two").header.rcode == 0


BROKEN = {
    "unknown directive": (".:0 {\n    whoamy\n}\n", "unknown directive"),
    "brace": (".:0 {\n    whoami\n", "not valid"),
    "argument": (".:0 {\n    reload 1s\n}\n", "greater or equal"),
    "import": (".:0 {\n    import nowhere\n}\n", "nowhere"),
    "empty": ("", "no server block"),
    "comment": ("# to be done\n", "no server block"),
    "host": (".:0 {\n    bind 127.0.0.1\n    whoami\n    health 192.0.2.1:80\n}\n", "192.0.2.1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_loaded_changes_nothing(conf, name):
    content, message = BROKEN[name]
    with run(conf) as server:
        replace(conf, content)
        server.wait_for(FAILED)
        assert message in server.output
        assert server.ask("a.one").header.rcode == 0
        replace(conf, text("two"))
        server.wait_for("Reloading complete")
        assert server.ask("a.two").header.rcode == 0


def test_a_file_that_comes_back_is_no_change(conf):
    with run(conf) as server:
        conf.unlink()
        server.wait_for(FAILED)
        assert "cannot read the Corefile" in server.output
        conf.write_text(text("one"))
        server.wait_for("The files match the running configuration again")
        assert "Reloading complete" not in server.output


def test_a_half_written_file_is_no_failure(conf):
    with run(conf) as server:
        conf.write_text("")
        conf.write_text(text("two"))  # the server may have read it in between
        server.wait_for("Reloading complete")
        assert FAILED not in server.output


def test_a_file_is_broken_if_two_reads_find_it_so():
    tried = []

    async def reload(reason):
        tried.append(reason)
        return True

    async def work():
        watcher, context = Watcher(), cast(LifecycleContext, SimpleNamespace(reload=reload))
        entry = WatchedGeneration(
            context, Configuration("Corefile", "", []), Snapshot("before", frozenset())
        )
        empty = Snapshot("empty", frozenset(), "no server block", is_empty=True)
        failed = FAILURES.value
        await watcher._load_if_changed(entry, empty)
        await watcher._load_if_changed(entry, Snapshot("whole", frozenset()))
        assert (tried, FAILURES.value) == ([REASON], failed)
        for more in (0, 1, 1):
            await watcher._load_if_changed(entry, empty)
            assert (tried, FAILURES.value) == ([REASON], failed + more)

    asyncio.run(work())


def test_a_port_in_use_is_tried_again(conf):
    with socket.socket() as taken, run(conf) as server:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        replace(conf, text("one") + text("two").replace(":0", f":{port}"))
        server.wait_for("the next attempt is in 5s")
        assert server.ask("a.one").header.rcode == 0
        taken.close()
        server.wait_for("Reloading complete")


def test_without_the_directive_nothing_is_watched_any_more(conf):
    with run(conf) as server:
        replace(conf, text("two", ""))
        server.wait_for("Reloading complete")
        replace(conf, text("three"))
        server.send_signal(signal.SIGUSR1)
        server.wait_for("Reloading complete", times=2)
        server.wait_for(RUNNING, times=2)
        replace(conf, text("four"))
        server.wait_for("Reloading complete", times=3)
        assert server.output.count("A configuration file changed: Reloading") == 2
        assert server.stop() == 0


def test_a_signal_and_a_change(conf):
    """Whoever loads it: it is loaded once."""
    with run(conf) as server:
        replace(conf, text("two"))
        server.send_signal(signal.SIGUSR1)
        server.wait_for(RUNNING, times=2)
        replace(conf, text("three"))
        wait_until(lambda: server.ask("a.three").header.rcode == 0)
        assert server.stop() == 0
        assert FAILED not in server.output


def test_standard_input_stays(tmp_path):
    part = tmp_path / "part"
    part.write_text("whoami\n")
    stdin = f".:0 {{\n bind 127.0.0.1\n {NEVER}\n import {part}\n}}\n"
    with run_command(None, "-conf", "stdin", stdin=stdin) as server:
        server.wait_for(RUNNING)
        replace(part, "whoami\nerrors\n")
        server.wait_for("Reloading complete")
        assert server.ask("example.org").header.rcode == 0


def metric(name):
    (found,) = [it for it in metrics.registered() if it.name == f"coredns_reload_{name}"]
    return {values: child.value for values, child in found.children()}


def test_metrics_say_what_runs():
    before = time.time()
    with serve(f".:0 {{\n bind 127.0.0.1\n whoami\n {NEVER}\n}}\n") as server:
        ((labels, one),) = metric("version_info").items()
        assert one == 1
        assert labels[0] == "sha512"
        assert metric("config_hash") == {(): int(labels[1][:12], 16)}
        assert before <= metric("last_success_timestamp_seconds")[()] <= time.time()
        assert metric("last_successful") == {(): 1}
        server.reload(f".:0 {{\n bind 127.0.0.1\n whoami\n errors\n {NEVER}\n}}\n")
        ((others, _),) = metric("version_info").items()
        assert others != labels
    assert metric("version_info") == {}


def test_a_start_that_is_undone_leaves_what_runs():
    with socket.socket() as taken, serve(f".:0 {{\n bind 127.0.0.1\n whoami\n {NEVER}\n}}\n") as it:
        before = metric("version_info")
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Exception, match="cannot listen"):
            it.reload(f".:{port} {{\n bind 127.0.0.1\n whoami\n {NEVER}\n}}\n")
        assert metric("version_info") == before


def test_failures_are_counted_mistakes_too(conf):
    before = metric("failed_total")[()]

    async def main():
        async with serve_file(conf):
            replace(conf, ".:0 {")
            await asyncio.to_thread(wait_until, lambda: metric("failed_total")[()] > before)
            assert metric("last_successful")[()] == 0
            replace(conf, text("two"))
            await asyncio.to_thread(wait_until, lambda: metric("last_successful")[()] == 1)

    asyncio.run(main())
    assert metric("failed_total")[()] == before + 1
