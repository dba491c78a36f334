"""The file while the server runs: changed, replaced, removed, broken; and its metrics."""

import asyncio
import contextlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pluggy
import pytest

from corepy.dns.names import from_text
from corepy.plugin import LifecycleContext, ZoneMatcher, metrics
from corepy.testing import Upstream, free_port, http_get, reply_of, serve
from corepy.testing.command import wait_until
from corepy_hosts import hosts_file, table
from corepy_hosts.handler import Hosts
from corepy_hosts.hosts_file import HostsFile
from corepy_hosts.metrics import ENTRIES, RELOADED
from corepy_hosts.parsing import HostsParser


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Check files more often than users need."""
    monkeypatch.setattr(hosts_file, "INTERVAL", 0.01)
    monkeypatch.setattr(hosts_file, "SETTLE", 0.001)


def corefile(path, options="", more=""):
    return f". {{\n{more}\nhosts {path} {{\n10.9.9.9 inline\n{options}\n}}\n}}"


def addresses(server, name):
    return [str(rr.rdata) for rr in server.ask(name).rr]


def warnings_in(caplog):
    """The warnings of the plugin; a busy machine may cause others."""
    records = [it for it in caplog.records if it.name == "corepy.plugin.hosts"]
    return [it.getMessage() for it in records if it.levelno == logging.WARNING]


def replace(path, text):
    """Replace a file as an operator should: the new one is complete when it gets the name."""
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def test_a_changed_file_is_served(tmp_path):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a")
    with serve(corefile(path)) as server:
        assert addresses(server, "a.") == ["10.0.0.1"]
        replace(path, "10.0.0.2 a\n10.0.0.3 b")
        wait_until(lambda: addresses(server, "a.") == ["10.0.0.2"])
        assert addresses(server, "b.") == ["10.0.0.3"]
        assert addresses(server, "inline.") == ["10.9.9.9"]


def test_the_links_of_a_kubernetes_volume_are_followed(tmp_path):
    """As kubelet does it: ..data is replaced, which leads to a folder with another date."""
    for version in (1, 2):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "NodeHosts").write_text(f"10.0.0.{version} node")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "NodeHosts").symlink_to("..data/NodeHosts")
    with serve(corefile(tmp_path / "NodeHosts", "reload 15s\nttl 60")) as server:
        assert addresses(server, "node.") == ["10.0.0.1"]
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        wait_until(lambda: addresses(server, "node.") == ["10.0.0.2"])


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: (path.unlink(), path.mkdir())])
def test_a_file_that_vanishes_stays_in_use(tmp_path, spoil, caplog):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a")
    with serve(corefile(path)) as server:
        spoil(path)
        wait_until(lambda: any("stays in use" in it.getMessage() for it in caplog.records))
        assert addresses(server, "a.") == ["10.0.0.1"]
        assert addresses(server, "inline.") == ["10.9.9.9"]
        if path.is_dir():
            path.rmdir()
        path.write_text("10.0.0.2 a")
        wait_until(lambda: addresses(server, "a.") == ["10.0.0.2"])


def test_an_empty_file_has_no_names(tmp_path):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a")
    with serve(corefile(path)) as server:
        assert server.ask("a.").header.rcode == 0
        replace(path, "")
        wait_until(lambda: server.ask("a.").header.rcode == 2)
        assert addresses(server, "inline.") == ["10.9.9.9"]


@pytest.mark.parametrize("options", ["", "reload 0"])
def test_a_missing_file_is_no_reason_not_to_start(tmp_path, options, caplog):
    with serve(corefile(tmp_path / "hosts", options)) as server:
        assert addresses(server, "inline.") == ["10.9.9.9"]
        (tmp_path / "hosts").write_text("10.0.0.1 a")
        if not options:
            wait_until(lambda: addresses(server, "a.") == ["10.0.0.1"])
    again = "going on without" if options else "trying again every 0.01s"
    warning = f"cannot read hosts file {tmp_path}/hosts: No such file or directory; {again}"
    assert warnings_in(caplog) == [warning]


def test_reload_0_reads_the_file_once(tmp_path):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a")
    with serve(corefile(path, "reload 0")) as server:
        (file,) = server.plugins(HostsFile)
        assert file.interval == 0
        assert file._task is None
        replace(path, "10.0.0.2 a")
        assert addresses(server, "a.") == ["10.0.0.1"]
        assert server.call(file.read)
        assert addresses(server, "a.") == ["10.0.0.2"]


def test_lines_that_cannot_be_used_are_reported_once_a_load(tmp_path, caplog):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a\n10.0.0 b\nc")
    with serve(corefile(path)) as server:
        assert addresses(server, "a.") == ["10.0.0.1"]
        replace(path, "10.0.0.1 a\n10.0.0.2")
        wait_until(lambda: len(warnings_in(caplog)) == 2)

    assert warnings_in(caplog) == [
        f"{path}: 2 lines cannot be used; the first is line 2: '10.0.0' is not an IP address",
        f"{path}: line 2: no name follows '10.0.0.2'",
    ]


def test_metrics(tmp_path):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a b\n::1 *.c\n")
    os.utime(path, (1000.5, 1000.5))
    text = corefile(path, more="prometheus localhost:0")
    with serve(text) as server:
        labels = (str(path),)
        assert dict(ENTRIES.children())[labels].value == 7  # 4 addresses, 3 names
        assert dict(RELOADED.children())[()].value == 1000.5
        replace(path, "10.0.0.1 a")
        os.utime(path, (2000, 2000))
        wait_until(lambda: dict(ENTRIES.children())[labels].value == 4)
        wait_until(lambda: dict(RELOADED.children())[()].value == 2000)
        server.reload(text)
        assert dict(ENTRIES.children())[labels].value == 4
        with contextlib.suppress(Exception):
            server.reload(". {\nhosts {\nttl 0\n}\n}")
        assert dict(ENTRIES.children())[labels].value == 4
        server.reload(". {\nwhoami\n}")
        assert labels not in dict(ENTRIES.children())


def test_metrics_are_those_of_coredns():
    found = {it.name: it for it in metrics.registered()}
    assert found["coredns_hosts_entries"].label_names == ("hostsfile",)
    assert found["coredns_hosts_reload_timestamp_seconds"].label_names == ()
    assert {found[name].kind for name in found if "hosts" in name} == {"gauge"}


def test_the_server_answers_while_a_large_file_is_loaded(tmp_path, monkeypatch):
    """The table is made in a thread, and the old one is freed in another."""
    (path := tmp_path / "hosts").write_text("10.0.0.1 a")
    go, threads = threading.Event(), []
    make = HostsFile._table

    def slow(self, content):
        threads.append(threading.current_thread())
        assert go.wait(60)
        return make(self, content)

    with serve(corefile(path)) as server:
        monkeypatch.setattr(HostsFile, "_table", slow)
        replace(path, "10.0.0.2 a")
        wait_until(lambda: threads)
        assert addresses(server, "a.") == ["10.0.0.1"]
        go.set()
        wait_until(lambda: addresses(server, "a.") == ["10.0.0.2"])
        assert threads[0] is not server._thread


def test_a_table_is_freed_when_it_is_replaced(tmp_path):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a")
    with serve(corefile(path)) as server:
        (file,) = server.plugins(HostsFile)
        old = file.value
        assert old.names()
        replace(path, "10.0.0.2 a")
        wait_until(lambda: addresses(server, "a.") == ["10.0.0.2"])
        wait_until(lambda: not old.names())
        new = file.value
        server.reload(". {\nwhoami\n}")
        wait_until(lambda: not new.names())


def context(forget_names):
    async def reload(reason):
        return False

    plugins = pluggy.PluginManager("corepy")
    return LifecycleContext(plugins, reload, lambda: None, forget_names=forget_names)


@pytest.mark.parametrize(
    ("after", "forgets"), [("# comment\n10.0.0.1 a", False), ("10.0.0.1 a b", True)]
)
def test_a_comment_is_no_change_of_a_name(tmp_path, after, forgets):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a")
    forgotten = []

    async def forget_names(is_changed):
        forgotten.append(is_changed(b"\1b\0"))

    async def change():
        file = HostsFile(path, [], ZoneMatcher(["."]), with_reverse=True, interval=5)
        await file.before_listen(life := context(forget_names))
        replace(path, after)
        assert await file.look()
        await file.changed(life)
        file.shutdown(life)

    asyncio.run(change())
    assert forgotten == [True] * forgets


def test_explain_loads_the_file(tmp_path):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a")

    async def forget_names(is_changed):
        raise AssertionError

    async def rehearse():
        file = HostsFile(path, [], ZoneMatcher(["."]), with_reverse=True, interval=5)
        await file.rehearse(life := context(forget_names))
        names = file.value.names()
        file.shutdown(life)
        return names

    assert asyncio.run(rehearse()) == {b"\1a\0"}


def test_queries_are_answered_in_the_middle_of_reloads(tmp_path):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a")
    text = corefile(path)
    with serve(text) as server:
        server.reload_under(lambda: addresses(server, "a.") == ["10.0.0.1"] or 1 / 0, text, 10)
        assert len(server.plugins(Hosts)) == 1


def test_metrics_over_http(tmp_path):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a")
    port = free_port()
    with serve(corefile(path, more=f"prometheus 127.0.0.1:{port}")):
        text = http_get(port, "/metrics").text
    assert f'coredns_hosts_entries{{hostsfile="{path}"}} 4' in text.splitlines()


def test_only_replies_that_have_changed_leave_the_cache(tmp_path):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a\n10.0.0.9 b")
    records = {"www.example. A": ["www.example. 300 A 192.0.2.1"]}
    with Upstream(records) as upstream:
        more = f"cache\nforward . {upstream.to}"

        def asked(question):
            return [text for text, _ in upstream.queries].count(question)

        with serve(corefile(path, "fallthrough", more)) as server:
            for name in ("a.", "b.", "x.wild.", "www.example.") * 2:
                server.ask(name)
            assert asked("x.wild. A") == asked("www.example. A") == 1
            replace(path, "10.0.0.2 a\n10.0.0.9 b\n10.0.0.3 *.wild")
            wait_until(lambda: addresses(server, "a.") == ["10.0.0.2"])
            wait_until(lambda: addresses(server, "x.wild.") == ["10.0.0.3"])
            assert addresses(server, "www.example.") == ["192.0.2.1"]
            assert asked("x.wild. A") == asked("www.example. A") == 1


def test_a_denial_that_was_awaited_during_the_change_is_not_cached(tmp_path):
    (path := tmp_path / "hosts").write_text("10.0.0.1 a")
    asked, answered = threading.Event(), threading.Event()

    def deny(query, proto):
        if str(query.q.qname) == "new.":
            asked.set()
            assert answered.wait(60)
        return reply_of(query, authority=[". 600 SOA ns. root. 1 2 3 4 600"], rcode=3)

    with (
        Upstream(deny) as upstream,
        serve(corefile(path, "fallthrough", f"cache\nforward . {upstream.to}")) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        early = pool.submit(server.ask, "new.", timeout=30)
        assert asked.wait(60)
        assert addresses(server, "a.") == ["10.0.0.1"]
        replace(path, "10.0.0.2 a\n10.0.0.3 new")
        wait_until(lambda: addresses(server, "a.") == ["10.0.0.2"])
        answered.set()
        assert early.result(60).header.rcode == 3
        assert addresses(server, "new.") == ["10.0.0.3"]


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("10.0.0.1 a", "10.0.0.1 a", set()),
        ("10.0.0.1 a", "10.0.0.2 a", {"a.", "1.0.0.10.in-addr.arpa.", "2.0.0.10.in-addr.arpa."}),
        ("10.0.0.1 a b", "10.0.0.1 a", {"b.", "1.0.0.10.in-addr.arpa."}),
        ("10.0.0.1 a", "10.0.0.1 a\n10.0.0.1 a", set()),
        ("", "::1 a", {"a.", f"{'1.' + 31 * '0.'}ip6.arpa."}),
        ("", "10.0.0.1 *.a", {"b.a.", "*.a."}),
        ("10.0.0.1 *.a", "10.0.0.1 a", {"b.a.", "*.a.", "a.", "1.0.0.10.in-addr.arpa."}),
    ],
)
def test_the_names_that_two_files_answer_differently(before, after, changed):
    names = (
        *("a.", "b.", "b.a.", "*.a.", "c.b.a.", ".", "1.0.0.10.in-addr.arpa."),
        *("2.0.0.10.in-addr.arpa.", f"{'1.' + 31 * '0.'}ip6.arpa."),
    )
    differences = table_of(before).differences(table_of(after))
    assert {name for name in names if differences.affect(from_text(name))} == changed


def test_after_very_many_changes_every_reply_may_be_old(monkeypatch):
    monkeypatch.setattr(table, "MOST_DIFFERENCES", 1)
    assert not table_of("10.0.0.1 a").differences(table_of("10.0.0.1 a")).affect(b"\1x\0")
    assert not table_of("10.0.0.1 a").differences(table_of("10.0.0.1 a b")).affect(b"\1x\0")
    assert table_of("10.0.0.1 a").differences(table_of("10.0.0.1 a b c")).affect(b"\1x\0")


def table_of(text):
    parser = HostsParser(ZoneMatcher(["."]), with_reverse=True)
    parser.read(text.encode())
    return parser.table
