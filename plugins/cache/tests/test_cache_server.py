"""The cache in a whole server, with a real upstream behind *forward*; and purging it."""

import os
import signal
import socket
import stat
import threading
from struct import pack

import dnslib
import pytest

from corepy.dns.edns import OPTION_EDE
from corepy.plugin import control_client
from corepy.testing import Upstream, ask, query, run_command, serve
from corepy_cache.cli import main
from corepy_cache.metrics import HITS

ZONE = {
    "www.example.org. A": ["www.example.org. 60 IN A 192.0.2.1"],
    "a.example.org. A": ["a.example.org. 60 IN A 192.0.2.2"],
    "a.example.net. A": ["a.example.net. 60 IN A 192.0.2.3"],
    "big.example.org. TXT": [f"big.example.org. 60 IN TXT {'x' * 200} {n}" for n in range(12)],
}


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path, monkeypatch):
    """Keep the control sockets of these tests to themselves."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(control_client, "folders", lambda: [tmp_path])
    return tmp_path


def corefile(upstream, options="", zone="."):
    return f"""{zone} {{
        bind 127.0.0.1
        cache {{
            {options}
        }}
        forward . {upstream.to}
    }}
    """


def asked(upstream, question="www.example.org. A"):
    return [what for what, _ in upstream.queries].count(question)


@pytest.mark.parametrize("tcp", [False, True])
def test_hits_over_udp_and_tcp(tcp):
    with Upstream(ZONE) as upstream, serve(corefile(upstream), still=True) as server:
        first = server.ask("www.example.org", tcp=tcp)
        second = server.ask("www.example.org", tcp=not tcp)
        assert asked(upstream) == 1
        assert str(first.rr[0].rdata) == str(second.rr[0].rdata) == "192.0.2.1"
        assert 40 < second.rr[0].ttl <= 60
        for _ in range(2):
            reply = server.ask("nx.example.org", tcp=tcp)
            assert (reply.header.rcode, len(reply.auth)) == (3, 1)
        assert asked(upstream, "nx.example.org. A") == 1


def test_a_big_answer_is_kept_whole_and_fitted_to_each_client():
    with Upstream(ZONE) as upstream, serve(corefile(upstream)) as server:
        assert server.ask("big.example.org", "TXT").header.tc
        for options in ({"tcp": True}, {"edns": 4096}):
            reply = server.ask("big.example.org", "TXT", **options)
            assert (len(reply.rr), reply.header.tc) == (12, 0)
        truncated = server.ask("big.example.org", "TXT", edns=1232)
        assert truncated.header.tc
        assert len(truncated.rr) < 12


def test_silence_is_kept_and_explained():
    options = "servfail 5m"
    with Upstream(lambda query, proto: None) as upstream:
        text = corefile(upstream, options)
        with serve(text) as server:
            first = server.ask("www.example.org", edns=1232)
            queries = len(upstream.queries)
            second = server.ask("www.example.org", edns=1232)
            assert (first.header.rcode, second.header.rcode) == (2, 2)
            assert asked(upstream) <= queries
            assert bytes((0, 15, 0, 2, 0, 13)) in bytes(second.pack())


def test_stale_when_the_upstream_falls_silent():
    alive = threading.Event()
    alive.set()

    def behave(query, proto):
        if not alive.is_set():
            return None
        reply = query.reply(ra=1)
        reply.add_answer(dnslib.RR(query.q.qname, 1, 1, 1, dnslib.A("192.0.2.1")))
        return reply

    options = "success 1024 60 1\nserve_stale 1h verify 50ms 30s 30s"
    with Upstream(behave) as upstream, serve(corefile(upstream, options)) as server:
        assert server.ask("www.example.org").rr[0].ttl == 1
        alive.clear()
        threading.Event().wait(1.1)
        for _ in range(3):
            reply = server.ask("www.example.org", edns=1232)
            assert reply.rr[0].ttl == 30
            assert bytes((0, 15, 0, 2, 0, 3)) in bytes(reply.pack())


def test_two_blocks_keep_apart_what_their_upstreams_say():
    other = {"a.example.net. A": ["a.example.net. 60 IN A 198.51.100.1"]}
    with Upstream(ZONE) as one, Upstream(other) as two:
        text = corefile(one) + corefile(two, zone="example.net")
        with serve(text) as server:
            hosts = server.addresses
            replies = {str(ask(host, "a.example.net").rr[0].rdata) for host in hosts for _ in "ab"}
    assert replies <= {"192.0.2.3", "198.51.100.1"}


def test_a_flood_of_new_names_is_bounded_and_hits_go_on():
    """With 1 MiB of budget 128 queries may wait, 96 of one client; the others fail at once."""

    def only_one(query, proto):
        if query.q.qname != "www.example.org.":
            return None
        reply = query.reply(ra=1)
        reply.add_answer(dnslib.RR(query.q.qname, 1, 1, 300, dnslib.A("192.0.2.1")))
        return reply

    options = "memory 1MiB"
    with Upstream(only_one) as upstream, serve(corefile(upstream, options), still=True) as server:
        server.ask("www.example.org")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(30)
            sock.connect(server.address)
            for number in range(96):
                sock.send(query(f"n{number}.example.org"))
            text = b"\0\0too many queries wait for an upstream"
            option = pack("!HH", OPTION_EDE, len(text)) + text
            opt = pack("!BHHIH", 0, 41, 1232, 0, len(option)) + option
            for number in range(96, 200):
                asked_for = query(f"n{number}.example.org", edns=1232)
                sock.send(asked_for)
                question = asked_for[12:-11]
                header = asked_for[:2] + b"\x81\2" + pack("!4H", 1, 0, 0, 1)
                assert sock.recv(4096) == header + question + opt
            assert server.ask("www.example.org").rr
    assert asked(upstream) == 1


def test_purge(capsys, caplog, runtime_folder):
    with Upstream(ZONE) as upstream, serve(corefile(upstream), control=True) as server:
        (path,) = runtime_folder.iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

        def fill():
            for _ in range(3):  # the packet cache repeats what was asked for twice
                for name in ("www.example.org", "a.example.org", "a.example.net", "nx.example.org"):
                    server.ask(name)
                server.ask("www.example.org", do=True)

        for argv, count in (
            (["WWW.example.org"], 2),
            (["nx.example.org."], 1),
            (["--zone", "Example.ORG"], 4),
            (["-zone", "ple.org"], 0),
            (["example.org"], 0),
            (["--zone", "."], 5),
        ):
            fill()
            caplog.clear()
            with caplog.at_level("INFO", "corepy"):
                assert main(["purge", *argv]) == 0
            entries = "1 entry" if count == 1 else f"{count} entries"
            logged = [it for it in caplog.messages if it.startswith("purged")]
            assert all(it.startswith(f"purged {entries} of ") for it in logged)
            assert len(logged) == (count > 0)
            assert (
                capsys.readouterr().out
                == f"{count} {'entry' if count == 1 else 'entries'} purged\n"
            )
        before = asked(upstream)
        server.ask("www.example.org")
        assert asked(upstream) == before + 1
    assert list(runtime_folder.iterdir()) == []


def test_the_packet_cache_stands_in_and_reports():
    text = "a.example.net"
    with Upstream(ZONE) as upstream, serve(corefile(upstream, zone=text), still=True) as server:
        for _ in range(20):
            assert server.ask("a.example.net").rr
        server.reload(corefile(upstream, zone="example.org"))  # credits what is outstanding
        assert asked(upstream, "a.example.net. A") == 1
    hits = dict(HITS.children())
    (value,) = (
        hits[labels].value for labels in hits if "a.example.net." in labels and "success" in labels
    )
    assert value == 19


def test_purge_survives_a_reload(capsys):
    with Upstream(ZONE) as upstream, serve(corefile(upstream), control=True) as server:
        server.reload(corefile(upstream, "success 2000") + corefile(upstream, zone="example.net"))
        assert main(["purge", "--zone", "."]) == 0
        server.ask("a.example.net")
        capsys.readouterr()
        assert main(["purge", "a.example.net"]) == 0
        assert capsys.readouterr().out == "1 entry purged\n"


@pytest.mark.parametrize(
    "argument",
    [None, {}, [], "a", {"name": 1}, {"name": "a..b"}, {"type": "a"}, {"name": "a", "zone": "b"}],
)
def test_purge_takes_no_nonsense(argument, runtime_folder):
    served = serve(corefile(upstream := Upstream(ZONE)), control=True, still=True)
    with upstream, served as server:
        server.ask("www.example.org")
        (path,) = runtime_folder.iterdir()
        with pytest.raises(control_client.ControlError):
            control_client.ask(path, "cache/purge", argument)
        server.ask("www.example.org")
        assert asked(upstream) == 1


def test_purge_asks_all_servers(capsys):
    with (
        Upstream(ZONE) as upstream,
        serve(corefile(upstream), control=True) as one,
        serve(corefile(upstream), control=True) as two,
        serve(". {\n    bind 127.0.0.1\n    whoami\n}\n", control=True),
    ):
        one.ask("www.example.org")
        two.ask("www.example.org")
        assert main(["purge", "www.example.org"]) == 0
        assert capsys.readouterr().out == "2 entries purged\n"


def test_purge_where_nobody_has_a_cache(capsys):
    with serve(". {\n    bind 127.0.0.1\n    whoami\n}\n", control=True):
        assert main(["purge", "www.example.org"]) == 1
    assert "no server with a cache runs here" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["a..b"], ["--zone", ""], ["x" * 64], ["www.example.org"]])
def test_purge_that_cannot_be(argv, capsys):
    assert main(["purge", *argv]) == 1
    assert capsys.readouterr().err.startswith("corepy cache: ")


def test_the_real_command_leaves_nothing_behind(tmp_path):
    with Upstream(ZONE) as upstream:
        env = {"RUNTIME_DIRECTORY": str(tmp_path)}
        with run_command(corefile(upstream), env=env) as command:
            assert ask(command.address, "www.example.org").rr
            assert len(os.listdir(tmp_path)) == 1
            assert command.stop(signal.SIGTERM) == 0
        assert os.listdir(tmp_path) == []


def test_the_keys_of_hostile_names_do_not_mix():
    """Names whose bytes look like types, classes or flags are told apart on the wire as well."""

    def behave(query, proto):
        reply = query.reply(ra=1)
        text = str(query.q.qname).encode()[:200]
        reply.add_answer(dnslib.RR(query.q.qname, query.q.qtype, 1, 60, dnslib.TXT(text)))
        return reply

    names = ["a", "a.a", "\\000a", "a\\000\\000", "a\\004", "A.a"]
    with Upstream(behave) as upstream, serve(corefile(upstream)) as server:
        for _ in range(2):
            for name in names:
                wire = query(name, "TXT")
                reply = dnslib.DNSRecord.parse(server.exchange(wire))
                assert bytes(reply.questions[0].qname.label[0]) is not None
                assert reply.rr[0].rname == reply.q.qname
