"""Zones that come, change and go while the server runs, their links, and their metrics."""

import asyncio
import errno
import inspect
import logging
import os
import sys
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from corepy.dns.names import from_text
from corepy.plugin import NamePattern
from corepy.testing import free_port, http_get, serve
from corepy.testing.command import wait_until
from corepy.testing.failing_once import FailsOnce
from corepy.zone import zone_file
from corepy_auto import handler as auto_handler
from corepy_auto.folder import DEFAULT_PATTERN, Folder
from corepy_auto.handler import Auto

ZONE = "$TTL 60\n@ SOA ns1 host {serial} 7200 3600 1209600 30\n@ NS ns1\nns1 A 192.0.2.{last}\n"


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Check files more often than users need."""
    monkeypatch.setattr(auto_handler, "INTERVAL", 0.01)
    monkeypatch.setattr(zone_file, "SETTLE", 0.001)


def write(path, serial=1, last=1):
    """Replace a file as an operator should."""
    new = path.parent / ".new"
    new.write_text(ZONE.format(serial=serial, last=last))
    new.rename(path)
    return path


def corefile(folder, more="", zones=""):
    return f". {{\nauto {zones} {{\ndirectory {folder}\nreload 1s\n}}\n{more}\n}}\n"


def address(server, zone):
    reply = server.ask(f"ns1.{zone}.")
    return str(reply.rr[0].rdata) if reply.rr else reply.header.rcode


def messages(caplog):
    return [it.getMessage() for it in caplog.records if it.levelno == logging.WARNING
            and it.name == "corepy.plugin.auto"]  # fmt: skip


def test_zones_come_change_and_go(tmp_path):
    write(tmp_path / "db.example.org")
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep/db.example.net", last=2)
    (tmp_path / "other").write_text("not a zone")
    with serve(corefile(tmp_path)) as server:
        assert address(server, "example.org") == "192.0.2.1"
        assert address(server, "example.net") == "192.0.2.2"
        assert address(server, "example.com") == 5
        write(tmp_path / "db.example.com", last=3)
        wait_until(lambda: address(server, "example.com") == "192.0.2.3")
        write(tmp_path / "db.example.org", serial=2, last=4)
        wait_until(lambda: address(server, "example.org") == "192.0.2.4")
        (tmp_path / "deep/db.example.net").unlink()
        wait_until(lambda: address(server, "example.net") == 5)
        (tmp_path / "db.example.com").rename(tmp_path / "deep/db.example.com")
        write(tmp_path / "deep/db.example.com", serial=2, last=5)
        wait_until(lambda: address(server, "example.com") == "192.0.2.5")


def test_caches_forget_zones_that_come_and_go(tmp_path):
    with serve(corefile(tmp_path, "cache 3600\nwhoami")) as server:
        assert address(server, "example.org") == 0
        write(tmp_path / "db.example.org")
        wait_until(lambda: address(server, "example.org") == "192.0.2.1")
        (tmp_path / "db.example.org").unlink()
        wait_until(lambda: address(server, "example.org") == 0)


def test_a_zone_outside_of_the_directive_is_not_asked(tmp_path):
    write(tmp_path / "db.example.org")
    write(tmp_path / "db.example.net")
    with serve(corefile(tmp_path, zones="example.net")) as server:
        assert address(server, "example.org") == 5
        assert address(server, "example.net") == "192.0.2.1"


def test_a_broken_zone_is_a_warning(tmp_path, caplog):
    (tmp_path / "db.example.org").write_text("@ A x\n")
    write(tmp_path / "db.example.net")
    with serve(corefile(tmp_path)) as server:
        assert address(server, "example.org") == 5
        assert address(server, "example.net") == "192.0.2.1"
        write(tmp_path / "db.example.org", last=7)
        wait_until(lambda: address(server, "example.org") == "192.0.2.7")
        (tmp_path / "db.example.org").write_text("@ A x\n")
        wait_until(lambda: len(messages(caplog)) == 2)
        assert address(server, "example.org") == "192.0.2.7"
    problem = f"zone example.org.: {tmp_path}/db.example.org:1:5: A address is not an IPv4 address:"
    assert messages(caplog) == [
        f"{problem} 'x'; there is no zone to serve", f"{problem} 'x'; serial 1 is served",
    ]  # fmt: skip


def test_a_folder_that_vanishes_keeps_its_zones(tmp_path, caplog):
    (folder := tmp_path / "zones").mkdir()
    write(folder / "db.example.org")
    with serve(corefile(folder)) as server:
        folder.rename(tmp_path / "away")
        wait_until(lambda: messages(caplog))
        assert address(server, "example.org") == "192.0.2.1"
        (tmp_path / "away").rename(folder)
        write(folder / "db.example.org", serial=2, last=2)
        wait_until(lambda: address(server, "example.org") == "192.0.2.2")
    assert messages(caplog) == [f"cannot read the folder {folder}: No such file or directory"]


def test_the_links_of_a_kubernetes_volume(tmp_path, caplog):
    """Each file is there twice; kubelet replaces the link ..data."""
    for version in (1, 2):
        (tmp_path / f"..{version}").mkdir()
        write(tmp_path / f"..{version}/db.example.org", serial=version, last=version)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "db.example.org").symlink_to("..data/db.example.org")
    with serve(corefile(tmp_path)) as server:
        assert address(server, "example.org") == "192.0.2.1"
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        wait_until(lambda: address(server, "example.org") == "192.0.2.2")
    assert messages(caplog) == []


def test_a_folder_that_is_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    write(tmp_path / "real/db.example.org")
    (tmp_path / "link").symlink_to("real")
    with serve(corefile(tmp_path / "link")) as server:
        assert address(server, "example.org") == "192.0.2.1"


def test_two_files_for_one_origin(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    write(tmp_path / "a/db.example.org", last=1)
    write(tmp_path / "db.example.org", last=2)
    with serve(corefile(tmp_path)) as server:
        assert address(server, "example.org") == "192.0.2.1"
    assert messages(caplog) == [
        f"{tmp_path}/a/db.example.org and {tmp_path}/db.example.org are both for example.org.: the"
        " first is used"
    ]


def test_names_that_are_no_origins(tmp_path):
    (tmp_path / "db.a..b").write_text("")
    found = Folder(tmp_path, NamePattern(DEFAULT_PATTERN)).walk()
    assert not found.paths
    assert found.problems == [f"{tmp_path}/db.a..b: empty label in name 'a..b.'"]


def test_a_folder_inside_that_cannot_be_read(tmp_path, monkeypatch):
    """As seen by a process that is not root, and by one on a network file system."""
    (tmp_path / "closed").mkdir()
    write(tmp_path / "db.example.org")
    scan = os.scandir

    def refusing(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    found = Folder(tmp_path, NamePattern(DEFAULT_PATTERN)).walk()
    assert len(found.paths) == 1
    assert found.problems == [f"cannot read {tmp_path}/closed: Permission denied"]


def test_folders_are_nested_deeper_than_functions(tmp_path):
    folder = tmp_path.joinpath(*"a" * 100)
    folder.mkdir(parents=True)
    (folder / "db.example.org").write_text("")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 80)
    try:
        found = Folder(tmp_path, NamePattern(DEFAULT_PATTERN)).walk()
    finally:
        sys.setrecursionlimit(limit)
    assert found.paths == {from_text("example.org."): folder / "db.example.org"}


def test_reload_0_reads_the_folder_once(tmp_path):
    write(tmp_path / "db.example.org")
    with serve(corefile(tmp_path).replace("reload 1s", "reload 0")) as server:
        assert address(server, "example.org") == "192.0.2.1"
        (handler,) = server.plugins(Auto)
        assert handler._task is None


def test_metrics_have_the_zones_as_labels(tmp_path):
    """They come and go at run time (CoreDNS: metrics.AddZone, RemoveZone)."""
    write(tmp_path / "db.example.org")
    port = free_port()
    with serve(corefile(tmp_path, f"prometheus 127.0.0.1:{port}\nwhoami")) as server:

        def count(zone):
            body = http_get(port, "/metrics").text
            lines = [it for it in body.splitlines() if f':{server.address[1]}"' in it]
            return sum(f'zone="{zone}"' in it and it.startswith("coredns_dns_responses_total{")
                       for it in lines)  # fmt: skip

        address(server, "example.org")
        server.ask("example.com.")
        assert (count("example.org."), count("example.net."), count(".")) == (1, 0, 1)
        write(tmp_path / "db.example.net")
        wait_until(lambda: address(server, "example.net") == "192.0.2.1")
        assert count("example.net.") == 1


def test_inputs_are_the_files(tmp_path):
    write(tmp_path / "db.example.org")
    (tmp_path / "db.example.net").write_text("broken")
    with serve(corefile(tmp_path)) as server:
        (handler,) = server.plugins(Auto)
        before = handler.inputs
        assert before.startswith(b"\7example\3org\0")
        (file,) = [it for it in handler._files.values() if it.served.current]
        file._is_forgetting = True
        assert handler.inputs is None
        file._is_forgetting = False
        assert handler.inputs == before


def test_a_look_that_fails_is_not_the_last_one(monkeypatch):
    monkeypatch.setattr("corepy_auto.handler.SHORTEST", 0)

    async def main():
        unused, look = Mock(), FailsOnce()
        handler = Auto(unused, unused, 0.001)
        monkeypatch.setattr(handler, "_look", look)
        monkeypatch.setattr("corepy_auto.handler.INTERVAL", 0)
        handler.serving(unused)
        await look.repeated()
        handler.shutdown(unused)

    asyncio.run(main())


def test_a_file_that_fails_does_not_hold_up_those_after_it(monkeypatch):
    found = SimpleNamespace(problems=(), paths={})
    folder: Any = SimpleNamespace(walk=lambda: found)
    handler, served = Auto(folder, Mock(), 1), SimpleNamespace(current=None)
    bad = SimpleNamespace(refresh=AsyncMock(side_effect=ValueError("a fault")))
    good = SimpleNamespace(refresh=AsyncMock(), served=served)
    monkeypatch.setattr(auto_handler, "changed_files", AsyncMock(return_value=[bad, good]))
    with pytest.raises(ValueError, match="a fault"):  # as at the start
        asyncio.run(handler._look(Mock()))
    good.refresh.assert_awaited_once()
