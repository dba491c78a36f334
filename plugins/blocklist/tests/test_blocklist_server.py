"""*blocklist* in a real server: its replies, labels, logs, counters, and the packet cache."""

import asyncio
import logging
import sys
import threading

import dnslib
import pytest

from corepy.corefile import CorefileError
from corepy.dns.names import from_text
from corepy.plugin import StartupError, metrics
from corepy.testing import Recorder, Upstream, helper_module, make_request, run_chain, serve
from corepy.testing.command import wait_until
from corepy_blocklist import lists, loader
from corepy_blocklist.acting import ActionSettings
from corepy_blocklist.files import Pattern
from corepy_blocklist.handler import Blocklist
from corepy_blocklist.lists import Lists
from corepy_blocklist.loader import Loader
from corepy_blocklist.metrics import HITS
from corepy_blocklist.rule import NAME, SourceKind

context_of = helper_module(__file__, "tables").context_of
ZONE = {
    "fine.example. A": ["fine.example. 60 IN A 192.0.2.1"],
    "ads.example. A": ["ads.example. 60 IN A 192.0.2.2"],
    "www.ads.example. A": ["www.ads.example. 60 IN A 192.0.2.2"],
    "cloak.example. A": [
        "cloak.example. 60 IN CNAME middle.example.",
        "middle.example. 60 IN CNAME ads.example.",
        "ads.example. 60 IN A 192.0.2.2",
    ],
    "bad-address.example. A": ["bad-address.example. 60 IN A 198.51.100.7"],
    "bad-address.example. AAAA": ["bad-address.example. 60 IN AAAA 2001:db8:bad::7"],
    "garden.example. A": ["garden.example. 60 IN A 192.0.2.9"],
    "evil.example.garden.example. A": ["evil.example.garden.example. 60 IN A 192.0.2.10"],
}


def corefile(upstream, options, before=""):
    return f""". {{
        bind 127.0.0.1
        {before}
        blocklist {{
            reload 0
            {options}
        }}
        cache
        forward . {upstream.to}
    }}"""


def file_of(folder, text, name="block"):
    (path := folder / name).write_text(text)
    return path


def answers(reply):
    return [f"{dnslib.QTYPE[rr.rtype]} {rr.rdata}" for rr in reply.rr]


def errors_in(reply):
    """The info codes of extended DNS errors."""
    options = [it for rr in reply.ar if rr.rtype == dnslib.QTYPE.OPT for it in rr.rdata]
    return [int.from_bytes(it.data[:2], "big") for it in options if it.code == 15]


@pytest.fixture(scope="module")
def upstream():
    with Upstream(ZONE) as server:
        yield server


@pytest.mark.parametrize(
    ("action", "qtype", "rcode", "expected"),
    [
        ("nxdomain", "A", "NXDOMAIN", []),
        ("nodata", "A", "NOERROR", []),
        ("refused", "A", "REFUSED", []),
        ("address", "A", "NOERROR", ["A 0.0.0.0"]),
        ("address", "AAAA", "NOERROR", ["AAAA ::"]),
        ("address", "TXT", "NOERROR", []),
        ("address", "ANY", "NOERROR", ["A 0.0.0.0"]),
        ("address 192.0.2.7 2001:db8::7", "A", "NOERROR", ["A 192.0.2.7"]),
        ("address 192.0.2.7 2001:db8::7", "AAAA", "NOERROR", ["AAAA 2001:db8::7"]),
    ],
)
def test_actions_of_lists(tmp_path, upstream, action, qtype, rcode, expected):
    path = file_of(tmp_path, "ads.example\n")
    with serve(corefile(upstream, f"list {path}\naction {action}\nttl 7")) as server:
        reply = server.ask("ADS.example", qtype, edns=1232)
        assert (dnslib.RCODE[reply.header.rcode], answers(reply)) == (rcode, expected)
        assert errors_in(reply) == ([] if expected else [15])
        assert str(reply.q.qname) == "ADS.example."
        ttls = [rr.ttl for rr in (*reply.rr, *reply.auth)]
        assert ttls == ([] if rcode == "REFUSED" else [7])
        assert answers(server.ask("fine.example")) == ["A 192.0.2.1"]


def test_drop(tmp_path, upstream):
    path = file_of(tmp_path, "ads.example\n")
    with serve(corefile(upstream, f"list {path}\naction drop")) as server:
        assert server.drops("ads.example")
        assert server.drops("ads.example", tcp=True)
        assert not server.drops("fine.example")


@pytest.mark.parametrize(
    ("option", "codes"),
    [("", [15]), ("ede censored", [16]), ("ede filtered", [17]), ("ede off", [])],
)
def test_extended_errors(tmp_path, upstream, option, codes):
    path = file_of(tmp_path, "ads.example\n")
    with serve(corefile(upstream, f"list {path}\n{option}")) as server:
        assert errors_in(server.ask("ads.example", edns=1232)) == codes


@pytest.mark.parametrize(
    ("options", "name", "is_blocked"),
    [
        ("list {ads}", "www.ads.example", False),
        ("list {ads}\nmatch subdomains", "www.ads.example", True),
        ("list {ads}\nallow {ads}", "ads.example", False),
        ("allow {ads}\nlist {ads}", "ads.example", False),
        ("list {wide}\nallow {ads}", "ads.example", False),
        ("list {wide}\nallow {ads}", "www.ads.example", True),
        ("list {wide}\nlist {exception}", "www.ads.example", False),
        ("list {exception}", "fine.example", False),
        ("list {ads}", "cloak.example", True),
        ("list {ads}\nno_cname", "cloak.example", False),
        ("list {ads}\nallow {cloak}", "cloak.example", False),
        ("list {ads}\nallow {middle}", "cloak.example", False),
        ("list {middle}\nallow {ads}", "cloak.example", True),
        ("rpz {passes}\nlist {ads}", "ads.example", False),
        ("list {ads}\nrpz {passes}", "ads.example", True),
        ("allow {ads}\nrpz {denies}", "ads.example", False),
        ("rpz {denies}\nlist {wide}", "ads.example", True),
    ],
)
def test_which_rule_decides(tmp_path, upstream, options, name, is_blocked):
    paths = {
        "ads": file_of(tmp_path, "ads.example\n", "ads"),
        "wide": file_of(tmp_path, "||example^\n", "wide"),
        "exception": file_of(tmp_path, "@@||ads.example^\n", "exception"),
        "cloak": file_of(tmp_path, "cloak.example\n", "cloak"),
        "middle": file_of(tmp_path, "middle.example\n", "middle"),
        "passes": file_of(tmp_path, "ads.example CNAME rpz-passthru.\n", "passes"),
        "denies": file_of(tmp_path, "ads.example CNAME .\n", "denies"),
    }
    with serve(corefile(upstream, options.format(**paths))) as server:
        reply = server.ask(name)
        assert (reply.header.rcode, bool(reply.rr)) == ((3, False) if is_blocked else (0, True))


RPZ = """\
$TTL 30
@ SOA a. b. 1 2 3 4 5
evil.example A 192.0.2.8
evil.example TXT "local data"
alias.example CNAME garden.example.
wild.example CNAME *.garden.example.
*.evil.example CNAME *.garden.example.
ads.example CNAME rpz-tcp-only.
32.7.100.51.198.rpz-ip CNAME .
48.zz.bad.db8.2001.rpz-ip A 192.0.2.55
loop.example CNAME loop.example.
circle.example CNAME circle2.example.
circle2.example CNAME circle.example.
"""


@pytest.mark.parametrize(
    ("name", "qtype", "rcode", "expected"),
    [
        ("evil.example", "A", 0, ["A 192.0.2.8"]),
        ("evil.example", "TXT", 0, ['TXT "local data"']),
        ("evil.example", "AAAA", 0, []),
        ("evil.example", "ANY", 0, ["A 192.0.2.8", 'TXT "local data"']),
        ("alias.example", "A", 0, ["CNAME garden.example.", "A 192.0.2.9"]),
        ("alias.example", "CNAME", 0, ["CNAME garden.example."]),
        ("bad-address.example", "A", 3, []),
        ("bad-address.example", "AAAA", 0, []),
        ("circle.example", "A", 2, []),
    ],
)
def test_local_data_and_response_addresses(tmp_path, upstream, name, qtype, rcode, expected):
    path = file_of(tmp_path, RPZ)
    with serve(corefile(upstream, f"rpz {path}")) as server:
        reply = server.ask(name, qtype)
        assert (reply.header.rcode, answers(reply)) == (rcode, expected)


def test_a_wildcard_target_has_the_name_in_front(tmp_path, upstream):
    zone = "evil.example CNAME *.garden.example.\n"
    with serve(corefile(upstream, f"rpz {file_of(tmp_path, zone)}")) as server:
        target = "evil.example.garden.example."
        assert answers(server.ask("evil.example")) == [f"CNAME {target}", "A 192.0.2.10"]


def test_tcp_only(tmp_path, upstream):
    path = file_of(tmp_path, RPZ)
    with serve(corefile(upstream, f"rpz {path}")) as server:
        reply = server.ask("ads.example")
        assert (reply.header.tc, answers(reply)) == (1, [])
        assert answers(server.ask("ads.example", tcp=True)) == ["A 192.0.2.2"]


@pytest.mark.parametrize(
    ("zones", "expected"),
    [
        (["24.0.0.0.127.rpz-client-ip CNAME rpz-drop.\n"], None),
        (["ads.example CNAME *.\n32.1.0.0.127.rpz-client-ip CNAME .\n"], 3),
        (["ads.example CNAME *.\n", "32.1.0.0.127.rpz-client-ip CNAME .\n"], 0),
        (["32.1.0.0.127.rpz-client-ip CNAME rpz-passthru.\n", "ads.example CNAME .\n"], "A"),
        (["32.2.2.0.192.rpz-ip CNAME *.\n", "ads.example CNAME .\n"], 0),
        (["32.9.2.0.192.rpz-ip CNAME *.\n", "ads.example CNAME .\n"], 3),
        (["ads.example CNAME .\n32.2.2.0.192.rpz-ip CNAME *.\n"], 3),
        (["32.2.2.0.192.rpz-ip CNAME rpz-passthru.\n", "ads.example CNAME .\n"], "A"),
        (["ads.example CNAME rpz-passthru.\n", "32.2.2.0.192.rpz-ip CNAME .\n"], "A"),
        (["32.2.2.0.192.rpz-ip CNAME rpz-drop.\n"], None),
    ],
    ids=[
        "drop",
        "client-first",
        "zone-order",
        "pass",
        "ip-first",
        "no-ip",
        "qname",
        "ip-pass",
        "passes-reply",
        "ip-drop",
    ],
)
def test_precedence_of_triggers(tmp_path, upstream, zones, expected):
    lines = [f"rpz {file_of(tmp_path, text, f'z{at}')}" for at, text in enumerate(zones)]
    with serve(corefile(upstream, "\n".join(lines))) as server:
        if expected is None:
            assert server.drops("ads.example")
            return
        reply = server.ask("ads.example")
        assert ("A" if reply.rr else reply.header.rcode) == expected


def test_name_servers_in_replies(tmp_path):
    def answer(query, _):
        reply = query.reply()
        reply.add_answer(*dnslib.RR.fromZone(f"{query.q.qname} 60 A 192.0.2.1"))
        if "bad" in str(query.q.qname):
            reply.add_auth(*dnslib.RR.fromZone("example. 60 NS NS.Bad.example."))
        return reply

    path = file_of(tmp_path, "ns.bad.example.rpz-nsdname CNAME .\n")
    with Upstream(answer) as server_of, serve(corefile(server_of, f"rpz {path}")) as server:
        assert server.ask("bad.example").header.rcode == 3
        assert server.ask("fine.example").header.rcode == 0


def test_repetitions_are_in_the_packet_cache_and_counted(tmp_path, upstream):
    path = file_of(tmp_path, "ads.example\n@@||fine.example^\n")
    text = corefile(upstream, f"list {path}")
    with serve(text) as server:
        label = f"dns://127.0.0.1:{server.address[1]}"
        for name in ("ads.example", "fine.example", "cloak.example"):
            for _ in range(4):
                server.ask(name)
        assert server.packet_entries == 3
        server.reload(text)  # hits of the packet cache are counted by then
        assert HITS.labels(label, str(path), "nxdomain").value == 8
        assert HITS.labels(label, str(path), "passthru").value == 4


@pytest.mark.parametrize("options", ["rpz {rpz}", "rpz {rpz}\nlist {block}"])
def test_rules_for_clients_turn_the_packet_cache_off(tmp_path, upstream, options):
    rpz = file_of(tmp_path, "32.9.9.9.9.rpz-client-ip CNAME .\nads.example CNAME .\n", "rpz")
    block = file_of(tmp_path, "other.example\n")
    with serve(corefile(upstream, options.format(rpz=rpz, block=block))) as server:
        for name in ("ads.example", "fine.example", "other.example"):
            for _ in range(3):
                server.ask(name)
        assert server.packet_entries == 0


def test_hits_are_logged_with_list_and_line(tmp_path, upstream, caplog, capsys):
    path = file_of(tmp_path, "# comment\nads.example\n")
    options, before = f"list {path}\nlog", 'log . "{rcode} {/blocklist/list}:{/blocklist/line}"'
    with caplog.at_level(logging.INFO), serve(corefile(upstream, options, before)) as server:
        for _ in range(2):
            server.ask("cloak.example")
    own = [it.getMessage() for it in caplog.records if it.name == "corepy.plugin.blocklist"]
    hits = [text.split(" ", 1)[1] for text in own if "cloak" in text]
    assert hits == [f'"A cloak.example." nxdomain by {path}:2'] * 2
    assert f"[INFO] NXDOMAIN {path}:2\n" in capsys.readouterr().out


def test_other_classes_zones_and_opcodes_pass(tmp_path, upstream):
    path = file_of(tmp_path, "ads.example\nother.test\n")
    text = corefile(upstream, f"list {path}").replace("blocklist {", "blocklist test {")
    with serve(text) as server:
        assert answers(server.ask("ads.example")) == ["A 192.0.2.2"]
        assert server.ask("other.test").header.rcode == 3
        (handler,) = server.plugins(Blocklist)
        assert handler.inputs


@pytest.fixture
def often(monkeypatch):
    """Check files more often than users need."""
    monkeypatch.setattr(loader, "SETTLE", 0.001)


def replace(path, text):
    """Replace a file as an operator should: the new one is complete when it gets the name."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.rename(path)


def warnings_in(caplog):
    records = [it for it in caplog.records if it.name == "corepy.plugin.blocklist"]
    return [it.getMessage() for it in records if it.levelno >= logging.WARNING]


def test_files_are_watched(tmp_path, upstream, often, caplog):
    path = file_of(tmp_path, "old.example\n", "a.txt")
    options = f"list {tmp_path}/*.txt"
    text = corefile(upstream, options).replace("reload 0", "reload 50ms")
    with serve(text) as server:
        assert [server.ask("old.example").header.rcode for _ in range(2)] == [3, 3]
        server.ask("ads.example")
        replace(path, "ads.example\n")
        wait_until(lambda: server.ask("ads.example").header.rcode == 3)
        assert server.ask("fine.example").header.rcode == 0
        replace(path, "<html>\n")
        replace(tmp_path / "b.txt", "fine.example\n")
        wait_until(lambda: server.ask("fine.example").header.rcode == 3)
        assert server.ask("ads.example").header.rcode == 3
        path.unlink()
        wait_until(lambda: server.ask("ads.example").header.rcode == 0)
    assert warnings_in(caplog) == [
        f"{path}: is not a list of names: line 1: '<html>' is not a name;"
        " its previous rules stay in use"
    ]


def test_a_process_compiles_large_files(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "SMALL", 0)
    monkeypatch.setattr(loader, "NICE", 0)
    path = file_of(tmp_path, "ads.example\n")
    rules = Lists([Pattern(SourceKind.LIST, str(path))], NAME, 0)
    rules._take(*rules.loader.load())
    assert rules.table.find(from_text("ads.example.")).line == 1
    path.write_text("<html>")
    _, table = rules.loader.load(rules.table)
    assert table.find(from_text("ads.example.")).line == 1
    assert table.files[0]["is_kept"]


@pytest.mark.parametrize(
    ("program", "problem"),
    [("echo broken >&2; exit 1", "broken"), ("kill -9 $$", "the process ended with -9")],
)
def test_a_process_that_fails_leaves_the_rules(tmp_path, monkeypatch, caplog, program, problem):
    path = file_of(tmp_path, "ads.example\n")
    rules = Lists([Pattern(SourceKind.LIST, str(path))], NAME, 0)
    rules._take(*rules.loader.load())
    before = rules.table
    (script := tmp_path / "python").write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(loader, "SMALL", 0)
    monkeypatch.setattr(loader, "SETTLE", 0)
    path.write_text("other.example\n")
    assert [asyncio.run(rules.look()) for _ in range(2)] == [False, False]
    assert rules.table is before
    (message,) = warnings_in(caplog)
    assert message.startswith("the lists cannot be loaded; the rules stay in use: ")
    assert message.endswith(problem)
    with pytest.raises(StartupError, match="the lists cannot be loaded"):
        asyncio.run(Lists(rules.loader.sources, NAME, 0).before_listen(context_of()))


def test_a_reply_for_an_earlier_table_is_not_repeated(tmp_path, monkeypatch):
    """A query that waits for its upstream while the lists change."""
    monkeypatch.setattr(loader, "SETTLE", 0)
    path = file_of(tmp_path, "ads.example\n")
    rules = Lists([Pattern(SourceKind.LIST, str(path))], NAME, 0)
    rules._take(*rules.loader.load())

    class Slow(Recorder):
        async def serve_dns(self, request):
            if self.requests:
                path.write_text("other.example\n")
                await rules.look()
            reply = await super().serve_dns(request)
            reply.deadline = 1e9
            return reply

    handler, slow = Blocklist(rules, None, ActionSettings()), Slow()
    replies = [run_chain(make_request("fine.example"), handler, slow) for _ in range(2)]
    assert [reply.deadline for reply in replies] == [1e9, None]


def test_a_reload_keeps_the_rules_of_a_broken_file(tmp_path, upstream):
    path = file_of(tmp_path, "ads.example\n")
    text = corefile(upstream, f"list {path}")
    with serve(text) as server:
        table = server.plugins(Blocklist)[0].lists.table
        server.reload(text)
        assert server.plugins(Blocklist)[0].lists.table is table
        path.write_text("<html>\n")
        server.reload(text)
        assert server.ask("ads.example").header.rcode == 3
        path.write_text("# nothing\n")
        server.reload(text)
        assert server.ask("ads.example").header.rcode == 0


def test_a_rehearsal_waits_for_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "START_WAIT", 0)
    path = file_of(tmp_path, "ads.example\n")
    rules = Lists([Pattern(SourceKind.LIST, str(path))], NAME, 0)
    asyncio.run(rules.rehearse(context_of()))
    assert rules.table.count == 1
    rules.shutdown(context_of())


def test_a_start_that_ends_before_the_files_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "START_WAIT", 0)
    path, is_free, load = file_of(tmp_path, "ads.example\n"), threading.Event(), Loader.load

    def load_late(*arguments):
        is_free.wait()
        return load(*arguments)

    monkeypatch.setattr(Loader, "load", load_late)
    rules = Lists([Pattern(SourceKind.LIST, str(path))], NAME, 0)

    async def run():
        await rules.before_listen(context_of())
        rules.shutdown(context_of())
        is_free.set()

    asyncio.run(run())
    assert rules.table is None


def test_a_start_does_not_wait_forever(tmp_path, upstream, monkeypatch, caplog):
    path, is_free, load = file_of(tmp_path, "ads.example\n"), threading.Event(), Loader.load

    def load_late(*arguments):
        is_free.wait()
        return load(*arguments)

    monkeypatch.setattr(lists, "START_WAIT", 0.01)
    monkeypatch.setattr(Loader, "load", load_late)
    with serve(corefile(upstream, f"list {path}")) as server:
        (handler,) = server.plugins(Blocklist)
        assert not handler.lists.ready()
        assert [server.ask("ads.example").header.rcode for _ in range(2)] == [0, 0]
        assert server.call(handler.explain_state, make_request("ads.example")) == {
            "state": "not loaded"
        }
        is_free.set()
        wait_until(lambda: server.ask("ads.example").header.rcode == 3)
        assert handler.lists.ready()
    assert "no rules are in use" in caplog.text


def test_a_start_without_the_files(tmp_path, upstream, caplog):
    with serve(corefile(upstream, f"list {tmp_path}/missing {tmp_path}/*.none")) as server:
        assert server.ask("ads.example").header.rcode == 0
    (message,) = [it for it in warnings_in(caplog) if "cannot be read" in it]
    assert message == (
        f"{tmp_path}/missing: cannot be read: No such file or directory; it has no rules in use"
    )


def test_metrics_of_files(tmp_path, upstream):
    path = file_of(tmp_path, "ads.example\n##.ad\nx y\n")
    with serve(corefile(upstream, f"list {path}")):
        values = {
            metric.name: {labels: it.value for labels, it in metric.children()}
            for metric in metrics.registered()
            if metric.name.startswith("corepy_blocklist")
        }
    assert values["corepy_blocklist_rules"][str(path),] == 1
    assert values["corepy_blocklist_unused_lines"][str(path),] == 2
    assert values["corepy_blocklist_load_timestamp_seconds"][()] > 0


def test_explain_shows_the_rule(tmp_path, upstream):
    path = file_of(tmp_path, "ads.example\n")
    zone = file_of(tmp_path, "32.9.9.9.9.rpz-ip CNAME .\n", "zone")
    with serve(corefile(upstream, f"rpz {zone}\nlist {path}")) as server:
        (handler,) = server.plugins(Blocklist)
        state = server.call(handler.explain_state, make_request("fine.example"))
        assert state == {"state": "no rule for the query", "rules": 2}
        state = server.call(handler.explain_state, make_request("ads.example"))
        assert state == {"state": "rules for the reply come first", "rules": 2}
    with serve(corefile(upstream, f"list {path}")) as server:
        (handler,) = server.plugins(Blocklist)
        state = server.call(handler.explain_state, make_request("ads.example"))
        assert state == {"state": "nxdomain", "list": str(path), "line": 1}


def test_a_cache_above_rules_for_clients_is_refused(tmp_path, upstream):
    path = file_of(tmp_path, "ads.example CNAME .\n")
    text = corefile(upstream, f"rpz {path}")
    with pytest.raises(CorefileError, match="cache"), serve(text, order="blocklist after cache"):
        pass
