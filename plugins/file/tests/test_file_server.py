"""The handler in a chain and on a real server: replies, other plugins, and changes of the files."""

import asyncio
import logging
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import dnslib
import pluggy
import pytest

from corepy.dns import Edns, Reply, Request, query
from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.plugin import Diagnostic, LifecycleContext, StartupError
from corepy.testing import Upstream, serve, set_up
from corepy.testing.command import wait_until
from corepy.testing.failing_once import FailsOnce
from corepy.zone import ServedZone, ZoneBuilder, ZoneFile, master_file, replies, zone_file
from corepy_file import handler as file_handler
from corepy_file.handler import File, Settings

ORG = """\
$TTL 60
@ SOA ns1 host {serial} 7200 3600 1209600 30
@ NS ns1
ns1 A 192.0.2.1
www A {address}
out CNAME www.example.net.
gone CNAME nothing.example.net.
far CNAME www.example.com.
x.ent A 192.0.2.3
*.w A 192.0.2.4
child NS ns1
child DS 1 13 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF
"""
NET = "$TTL 60\n@ SOA ns1 host 1 7200 3600 1209600 30\n@ NS ns1\nns1 A 192.0.2.1\nwww A 192.0.2.9\n"
CHILD = "$TTL 60\n@ SOA ns1 host 1 7200 3600 1209600 30\n@ NS ns1\nns1 A 192.0.2.1\n"


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Check files more often than users need."""
    monkeypatch.setattr(file_handler, "INTERVAL", 0.01)
    monkeypatch.setattr(zone_file, "SETTLE", 0.001)


def org(serial=1, address="192.0.2.2"):
    return ORG.format(serial=serial, address=address)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "org").write_text(org())
    (tmp_path / "net").write_text(NET)
    (tmp_path / "child").write_text(CHILD)
    return tmp_path


def corefile(files, options="", more=""):
    return (
        f". {{\nfile {files}/org example.org {{\n{options}\n}}\n"
        f"file {files}/net example.net\nfile {files}/child child.example.org\n{more}\n}}\n"
    )


def shown(reply):
    """A reply as its rcode, AA, and the data of its answers."""
    answers = [str(it.rdata) for it in reply.rr]
    return dnslib.RCODE[reply.header.rcode], reply.header.aa, answers


def replace(path, text):
    """Replace a file as an operator should."""
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def messages(caplog, level=logging.WARNING):
    return [it.getMessage() for it in caplog.records if it.levelno == level
            and it.name == "corepy.plugin.file"]  # fmt: skip


def test_replies(files):
    with serve(corefile(files)) as server:
        for name, qtype, expected in (
            ("www.example.org.", "A", ("NOERROR", 1, ["192.0.2.2"])),
            ("WWW.Example.Org.", "A", ("NOERROR", 1, ["192.0.2.2"])),
            ("nothing.example.org.", "A", ("NXDOMAIN", 1, [])),
            ("www.example.org.", "TXT", ("NOERROR", 1, [])),
            ("out.example.org.", "A", ("NOERROR", 1, ["www.example.net.", "192.0.2.9"])),
            ("gone.example.org.", "A", ("NXDOMAIN", 1, ["nothing.example.net."])),
            # the server has no such zone: the alias exists all the same
            ("far.example.org.", "A", ("NOERROR", 1, ["www.example.com."])),
            ("child.example.org.", "SOA", ("NOERROR", 1, ["ns1.child.example.org. host.child"
             ".example.org. 1 7200 3600 1209600 30"])),
            # DS records are in the parent zone (RFC 4035 section 3.1.4.1)
            ("child.example.org.", "DS", ("NOERROR", 1, [
             "1 13 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"])),
            ("www.example.com.", "A", ("REFUSED", 0, [])),
            ("example.org.", "AXFR", ("REFUSED", 0, [])),
        ):  # fmt: skip
            assert shown(server.ask(name, qtype)) == expected, (name, qtype)
        gone = server.ask("gone.example.org.")
        assert [str(it.rname) for it in gone.auth] == ["example.net."]


@pytest.mark.parametrize(
    ("options", "falls"),
    [
        ("", []),
        ("fallthrough", ["nothing", "ent"]),
        ("fallthrough nothing.example.org", ["nothing"]),
    ],
)
def test_fallthrough(files, options, falls):
    """As in CoreDNS, an empty non-terminal is a name without records, too."""
    with serve(corefile(files, options, "whoami")) as server:
        for name in ("nothing", "ent", "www", "q.w", "child"):
            reply = server.ask(f"{name}.example.org.", "TXT")
            assert (len(reply.ar) == 2) == (name in falls), name
        assert len(server.ask("www.example.com.").ar) == 2


def test_an_alias_to_an_upstream(files):
    www = {"www.example.com. A": ["www.example.com. 5 IN A 192.0.2.77"]}
    with Upstream(www) as upstream:
        host, port = upstream.address
        with serve(corefile(files, more=f"forward . {host}:{port}")) as server:
            reply = server.ask("far.example.org.")
            assert shown(reply) == ("NOERROR", 1, ["www.example.com.", "192.0.2.77"])


def test_an_alias_to_a_name_that_only_a_zone_below_has(files):
    """The zone above has no delegation, so the name does not exist there."""
    (files / "org").write_text(org() + "down CNAME www.below\ndangling CNAME no.below\n")
    (files / "below").write_text(NET)
    with serve(corefile(files, more=f"file {files}/below below.example.org")) as server:
        assert shown(server.ask("down.example.org.")) == (
            "NOERROR", 1, ["www.below.example.org.", "192.0.2.9"])  # fmt: skip
        dangling = server.ask("dangling.example.org.")
        assert shown(dangling) == ("NXDOMAIN", 1, ["no.below.example.org."])
        assert [str(it.rname) for it in dangling.auth] == ["example.org."]


def test_fallthrough_applies_to_the_target_of_an_alias(files):
    (files / "org").write_text(org() + "up CNAME cloud\n")
    cloud = {"cloud.example.org. A": ["cloud.example.org. 5 IN A 192.0.2.78"]}
    with Upstream(cloud) as upstream:
        host, port = upstream.address
        with serve(corefile(files, "fallthrough", f"forward . {host}:{port}")) as server:
            reply = server.ask("up.example.org.")
            assert shown(reply) == ("NOERROR", 1, ["cloud.example.org.", "192.0.2.78"])
            assert not reply.auth


def test_a_loop_through_two_zones_has_each_alias_once(files):
    (files / "org").write_text(org() + "loop CNAME loop.example.net.\n")
    (files / "net").write_text(NET + "loop CNAME loop.example.org.\n")
    with serve(corefile(files)) as server:
        aliases = ["loop.example.net.", "loop.example.org."]
        assert shown(server.ask("LOOP.example.org.")) == ("NOERROR", 1, aliases)


def test_the_records_of_a_target_may_be_truncated(files):
    truncated = Reply(Request.from_wire(query(from_text("x."), 1)).error(0).wire)
    truncated.wire = b"\0\0\x82\0" + truncated.wire[4:]
    zone = zone_of(org())
    request = Request.from_wire(query(from_text("far.example.org."), 1))
    _, found = replies.answer(zone, request)
    reply = replies.completed(request, found, truncated)
    assert (reply.tc, reply.ancount) == (True, 1)


def test_metadata_names_the_wildcard(files):
    handler = handler_of(ServedZone(from_text("example.org."), zone_of(org())))
    labels = []
    for name in ("q.w", "www", "nothing"):
        request = Request.from_wire(query(from_text(f"{name}.example.org."), 1))
        handler.begin_dns(request)
        labels.append(request.metadata)
    assert labels == [{"zone/wildcard": "*.w.example.org."}, {}, {}]
    assert set_up("file /nowhere example.org").labels_provided == {"zone/wildcard": False}


def handler_of(served):
    handler = File([Settings(origins=[served.origin])])
    handler.zones.add(served)
    return handler


@pytest.mark.parametrize(
    ("expired", "code", "reason"), [(True, 24, "expired"), (False, 14, "not loaded")]
)
def test_a_zone_that_cannot_be_served(expired, code, reason):
    """RFC 8914 sections 4.15 and 4.25."""
    served = ServedZone(from_text("example.org."))
    if expired:
        served.expire()
    handler = handler_of(served)
    request = Request.from_wire(query(from_text("www.example.org."), 1, edns=Edns()))
    reply = handler.begin_dns(request)
    assert reply.rcode == c.SERVFAIL
    assert reply.error == f"the zone example.org. is {reason}"
    assert reply.options[:2] == b"\0\x0f"
    assert reply.options[5] == code
    assert reply.deadline is None
    assert handler.explain_state(request) == {"state": reason, "zone": "example.org."}


@pytest.mark.parametrize("opcode", [c.OPCODE_NOTIFY, c.OPCODE_UPDATE])
def test_updates_and_notifications_are_refused(files, opcode):
    """Without a transaction, RFC 2136 section 3.1; nobody but a secondary server needs NOTIFY."""
    handler = handler_of(ServedZone(from_text("example.org.")))
    wire = query(from_text("example.org."), c.TYPE_SOA, flags=opcode << 11)
    assert handler.begin_dns(Request.from_wire(wire)).rcode == c.REFUSED


def test_the_packet_cache_repeats_replies_until_the_zone_changes(files):
    with serve(corefile(files)) as server:
        (endpoint,) = server.server.endpoints.values()
        packets = [it.pipeline.packets for it in endpoint.listeners]
        assert [server.ask("www.example.org.").rr[0].ttl for _ in range(3)] == [60] * 3
        assert any(it.entries for it in packets)
        replace(files / "org", org(2, "192.0.2.55"))
        wait_until(lambda: shown(server.ask("www.example.org."))[2] == ["192.0.2.55"])


def test_a_reply_is_repeated_for_less_than_a_second_of_its_ttl():
    handler = handler_of(ServedZone(from_text("example.org."), zone_of(org())))
    request = Request.from_wire(query(from_text("www.example.org."), 1))
    request.received = 1000.0
    for name in ("www", "nothing", "q.w"):
        request = Request.from_wire(query(from_text(f"{name}.example.org."), 1))
        request.received = 1000.0
        reply = handler.begin_dns(request)
        assert (reply.since, reply.deadline) == (1000.0, 1001.0)


def zone_of(text):
    problems: list[Diagnostic] = []
    builder = ZoneBuilder(from_text("example.org."))
    reader = master_file.MasterFileReader(builder, problems.append)
    reader.read_content(text.encode(), Path("org"))
    return master_file.finish(builder, Path("org"), problems)


def test_a_change_without_a_new_serial_is_reported(files, caplog):
    with serve(corefile(files)) as server:
        replace(files / "org", org(1, "192.0.2.55"))
        problem = (
            f"zone example.org.: {files}/org has changed, but its serial is still 1: increase the"
            " serial to load it; serial 1 is served"
        )
        wait_until(lambda: problem in messages(caplog))
        assert shown(server.ask("www.example.org."))[2] == ["192.0.2.2"]
    assert messages(caplog).count(problem) == 1


def test_reload_by_mtime_needs_no_new_serial(files, caplog):
    with serve(corefile(files, "reload_by_mtime")) as server:
        replace(files / "org", org(1, "192.0.2.55"))
        wait_until(lambda: shown(server.ask("www.example.org."))[2] == ["192.0.2.55"])
    assert messages(caplog) == []


def test_records_outside_the_zone_are_one_warning(files, caplog):
    (files / "org").write_text(org() + "a.example.com. A 192.0.2.1\nb.example.com. A 192.0.2.1\n")
    with serve(corefile(files)) as server:
        assert server.ask("www.example.org.").rr
    assert messages(caplog) == [
        f"{files}/org:13:1: warning: a.example.com. is not in the zone example.org. (the record is"
        " left out) (and 1 more warnings)"
    ]


def test_a_serial_that_goes_back_is_loaded_with_a_warning(files, caplog):
    (files / "org").write_text(org(7))
    with serve(corefile(files)) as server:
        replace(files / "org", org(6, "192.0.2.55"))
        wait_until(lambda: shown(server.ask("www.example.org."))[2] == ["192.0.2.55"])
    warning = "the serial of zone example.org. goes back from 7 to 6: secondary servers ignore it"
    assert messages(caplog) == [warning]


def test_a_broken_file_keeps_the_zone(files, caplog):
    with serve(corefile(files)) as server:
        replace(files / "org", org(2) + "broken A 192.0.2.300\n")
        wait_until(lambda: messages(caplog))
        assert shown(server.ask("www.example.org."))[2] == ["192.0.2.2"]
        (files / "org").unlink()
        wait_until(lambda: len(messages(caplog)) == 2)
        assert shown(server.ask("www.example.org."))[2] == ["192.0.2.2"]
        replace(files / "org", org(3, "192.0.2.55"))
        wait_until(lambda: shown(server.ask("www.example.org."))[2] == ["192.0.2.55"])
    path = files / "org"
    assert messages(caplog) == [
        f"zone example.org.: {path}:13:10: A address is not an IPv4 address: '192.0.2.300';"
        " serial 1 is served",
        f"zone example.org.: cannot read {path}: No such file or directory; serial 1 is served",
    ]


def test_a_file_that_is_open_for_writing_is_not_read(files):
    """It may be half written, even if it is a valid zone."""
    assert not zone_file.is_open_for_writing(files / "org")
    assert not zone_file.is_open_for_writing(files / "nothing")
    with serve(corefile(files)) as server:
        (handler,) = server.plugins(File)
        with (files / "org").open("w") as file:
            file.write(org(2, "192.0.2.55"))
            file.flush()
            if zone_file.is_open_for_writing(files / "org"):  # the test may not own the file
                (served,) = [it for it in handler.files if it.path == files / "org"]
                assert served._fetch() is None
        wait_until(lambda: shown(server.ask("www.example.org."))[2] == ["192.0.2.55"])


def test_a_missing_file_is_read_later(files, caplog):
    (files / "org").rename(files / "later")
    with serve(corefile(files)) as server:
        assert server.ask("www.example.org.").header.rcode == c.SERVFAIL
        (files / "later").rename(files / "org")
        wait_until(lambda: shown(server.ask("www.example.org."))[2] == ["192.0.2.2"])
    assert messages(caplog) == [
        f"zone example.org.: cannot read {files}/org: No such file or directory; there is no zone"
        " to serve"
    ]


@pytest.mark.parametrize("text", ["@ A x\n", "www 60 A 192.0.2.1\n"])
def test_a_bad_file_refuses_the_start(files, text):
    (files / "org").write_text(text)
    with pytest.raises(StartupError, match=f"{files}/org"), serve(corefile(files)):
        pass


def test_included_files_are_watched(files):
    (files / "org").write_text(org() + "$INCLUDE part\n")
    (files / "part").write_text("part A 192.0.2.20\n")
    with serve(corefile(files, "reload_by_mtime")) as server:
        assert shown(server.ask("part.example.org."))[2] == ["192.0.2.20"]
        replace(files / "part", "part A 192.0.2.21\n")
        wait_until(lambda: shown(server.ask("part.example.org."))[2] == ["192.0.2.21"])


def test_reload_0_reads_the_file_once(files):
    with serve(corefile(files, "reload 0")) as server:
        (handler,) = server.plugins(File)
        (task,) = handler._tasks
        assert server.ask("www.example.org.").rr
        replace(files / "net", NET.replace(" 1 7200", " 2 7200").replace("192.0.2.9", "192.0.2.8"))
        wait_until(lambda: shown(server.ask("www.example.net."))[2] == ["192.0.2.8"])
        assert not task.done()


def test_queries_are_answered_while_a_zone_is_read(files, monkeypatch):
    """It is read in a thread."""
    go, threads = threading.Event(), []
    read = zone_file.read_zone

    def slow(*arguments):
        threads.append(threading.current_thread())
        assert go.wait(60)
        return read(*arguments)

    with serve(corefile(files)) as server:
        monkeypatch.setattr(zone_file, "read_zone", slow)
        replace(files / "org", org(2, "192.0.2.55"))
        wait_until(lambda: threads)
        assert shown(server.ask("www.example.org."))[2] == ["192.0.2.2"]
        go.set()
        wait_until(lambda: shown(server.ask("www.example.org."))[2] == ["192.0.2.55"])
        assert threads[0] is not server._thread


def test_caches_forget_names_of_a_zone_that_changes(files):
    with serve(corefile(files, more="cache 3600")) as server:
        assert shown(server.ask("new.example.org.")) == ("NXDOMAIN", 1, [])
        replace(files / "org", org(2) + "new A 192.0.2.30\n")
        wait_until(lambda: shown(server.ask("new.example.org."))[2] == ["192.0.2.30"])


def test_inputs_are_the_files(files):
    with serve(corefile(files)) as server:
        (handler,) = server.plugins(File)
        before = handler.inputs
        assert before is not None
        assert len(before) == 3 * 32
        handler.files[0]._is_forgetting = True
        assert handler.inputs is None
        handler.files[0]._is_forgetting = False
        replace(files / "org", org(2))
        wait_until(lambda: handler.inputs not in (before, None))


def test_a_file_that_changes_within_the_resolution_of_time_stamps(files):
    """A file that was changed just now is read again, but parsed only if its content differs."""
    file = ZoneFile(files / "org", ServedZone(from_text("example.org.")), logging.getLogger("x"))
    assert file.has_changed()
    fetched = file._fetch()
    assert fetched is not None
    file._take(fetched)
    assert file._files[0].version is None
    assert not file.has_changed()
    os.utime(files / "org", (1000, 1000))
    assert not file.has_changed()
    assert file._files[0].version is not None
    (files / "org").write_text(org(2))
    assert file.has_changed()


def test_explain_loads_the_files(files):
    async def never(reason):
        raise AssertionError

    async def rehearse():
        handler = File([Settings(files / "org", [from_text("example.org.")])])
        await handler.rehearse(LifecycleContext(pluggy.PluginManager("corepy"), never, print))
        return handler.zones.get(from_text("example.org.")).current.serial

    assert asyncio.run(rehearse()) == 1


def test_explain_shows_what_answered(files):
    with serve(corefile(files), control=False) as server:
        (handler,) = server.plugins(File)
        for name, state in (
            ("www", {"state": "exact", "node": "www.example.org."}),
            ("q.w", {"state": "wildcard", "wildcard": "*.w.example.org."}),
            ("no", {"state": "no such name", "closest encloser": "example.org."}),
            ("x.child2", {"state": "no such name", "closest encloser": "example.org."}),
            ("out", {"state": "alias out of the zone", "target": "www.example.net."}),
        ):
            request = Request.from_wire(query(from_text(f"{name}.example.org."), 1))
            found = handler.explain_state(request)
            assert found == {"zone": "example.org.", "serial": 1, **state}
        outside = Request.from_wire(query(from_text("example.com."), 1))
        assert handler.explain_state(outside) == {"state": "the name is outside its zones"}


def test_a_transfer_source(files):
    with serve(corefile(files)) as server:
        (handler,) = server.plugins(File)
        portions = handler.transfer_zone(from_text("example.net."), None)
        assert portions is not None
        records = [record for portion in portions for record in portion]
        assert records[0] == records[-1]
        assert len(records) == 5
        assert handler.transfer_zone(from_text("www.example.net."), None) is None


def test_a_check_that_fails_is_not_the_last_one(monkeypatch):
    async def main():
        check = FailsOnce()
        monkeypatch.setattr(file_handler, "changed_files", check)
        watching = asyncio.create_task(File([])._watch([], 0, Mock()))
        await check.repeated()
        watching.cancel()

    asyncio.run(main())


def test_a_file_that_fails_does_not_hold_up_those_after_it(monkeypatch, caplog):
    async def changed(files):
        return files

    async def fail(_):
        raise ValueError("a fault")

    async def main():
        bad = SimpleNamespace(path="db.bad", refresh=fail)
        good: Any = FailsOnce()
        monkeypatch.setattr(file_handler, "changed_files", changed)
        files: list[Any] = [bad, SimpleNamespace(path="db.good", refresh=good)]
        watching = asyncio.create_task(File([])._watch(files, 0, Mock()))
        await good.repeated()
        watching.cancel()

    asyncio.run(main())
    assert "db.bad cannot be loaded: ValueError: a fault" in caplog.messages
