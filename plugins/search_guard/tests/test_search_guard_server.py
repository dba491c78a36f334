"""*search_guard* in a real server, above *cache* and *forward*; and with glibc as the client."""

import asyncio
import re
import subprocess
import sys

import dnslib
import pytest

from corepy.testing import Upstream, make_request, serve
from corepy.testing.netns import isolated
from corepy_search_guard.handler import SearchGuard
from corepy_search_guard.metrics import DENIALS, PROBES
from corepy_search_guard.samples import AT_ONCE

ZONES = ("cluster.local.", "corp.example.")
TOP_LEVEL = ("com.", "org.", "net.")
PLAIN = "corp.example."
EXISTING = ("default.svc.cluster.local.", "svc.cluster.local.")
SEARCH = "default.svc.cluster.local svc.cluster.local cluster.local eu.corp.example corp.example"


def soa(zone):
    return f"{zone} 3600 IN SOA ns.dns.{zone} hostmaster.{zone} 1 7200 1800 86400 3600"


def answer(query, _):
    """Answer as a cluster, a company and the internet do; there is no .nosuch."""
    asked, qtype = str(query.q.qname).lower(), query.q.qtype
    reply = query.reply()
    zone = next((it for it in ZONES if asked.endswith(f".{it}")), None)
    is_external = zone is None and asked.endswith(TOP_LEVEL)
    if is_external and qtype == dnslib.QTYPE.A:
        reply.add_answer(*dnslib.RR.fromZone(f"{asked} 3600 A 192.0.2.1"))
    elif asked in TOP_LEVEL and qtype == dnslib.QTYPE.SOA:
        reply.add_answer(*dnslib.RR.fromZone(soa(asked)))
    else:
        reply.header.rcode = 0 if is_external or asked in EXISTING else 3
        reply.add_auth(*dnslib.RR.fromZone(soa(zone or "example.")))
    return reply


def blocks(upstream, lines="", port=""):
    return "".join(
        f"""{zone}{port} {{
            bind 127.0.0.1
            search_guard {{
                resolv_conf off
                search eu.corp.example corp.example
                max_ttl 1h
            }}
            cache
            {lines}
            forward . {upstream.to}
        }}
        """
        for zone in ("cluster.local", ".")
    )


def settle(server):
    """Wait until the guards have no queries of their own in flight."""
    loop = server.call(asyncio.get_running_loop)
    for guard in server.plugins(SearchGuard):
        asyncio.run_coroutine_threadsafe(guard.prover.settle(), loop).result(60)


def prove(server, name="www.example.com.corp.example."):
    """Let `name` be denied, so that the guard obtains a proof, and take its samples."""
    samples = [f"sample{number}.{name}" for number in range(AT_ONCE)]
    for denied in (name, *samples):
        while server.ask(denied).header.rcode != 3:  # a busy machine: the upstream is too slow
            pass
        settle(server)


def asked(upstream):
    """The questions in the order of arrival, without those by which *forward* tests an upstream.

    On a busy machine *forward* asks some of them twice, and tests the upstream (`. NS`).
    """
    return [text for text in dict.fromkeys(text for text, _ in upstream.queries) if text != ". NS"]


@pytest.mark.parametrize("suffix", SEARCH.split())
def test_one_name_is_asked_for_each_search_domain(suffix):
    with Upstream(answer) as upstream, serve(blocks(upstream)) as server:
        assert server.ask(f"www.example.com.{suffix}.").header.rcode == 3
        settle(server)
        before = asked(upstream)
        assert f"com.{suffix}. A" in before
        assert "com. SOA" in before
        names = [f"host{number}.example.org.other.com.{suffix}." for number in range(4)]
        for name in names:
            for qtype in ("A", "AAAA"):
                reply = server.ask(name, qtype)
                assert (reply.header.rcode, len(reply.auth)) == (3, 1)
        samples = [f"{name} A" for name in names[:AT_ONCE]]
        assert asked(upstream) == [*before, *samples]
        server.ask("www.example.com.")
        assert asked(upstream) == [*before, *samples, "www.example.com. A"]


def test_what_is_not_a_top_level_domain_is_passed_on():
    with Upstream(answer) as upstream, serve(blocks(upstream)) as server:
        for number in range(2):
            server.ask(f"host{number}.redis.nosuch.default.svc.cluster.local.")
            settle(server)
        assert asked(upstream) == [
            "host0.redis.nosuch.default.svc.cluster.local. A",
            "nosuch. SOA",
            "host1.redis.nosuch.default.svc.cluster.local. A",
        ]


def test_repeated_denials_are_in_the_packet_cache_and_counted():
    with Upstream(answer) as upstream, serve(blocks(upstream)) as server:
        prove(server)
        denials = DENIALS.labels(f"dns://127.0.0.1:{server.address[1]}", "corp.example.")
        before_denials = denials.value
        probes = PROBES.labels("corp.example.", "absent")
        before = probes.value
        replies = [server.ask("mail.other.com.corp.example.") for _ in range(4)]
        assert {(it.header.rcode, str(it.auth[0].rname)) for it in replies} == {
            (3, "corp.example.")
        }
        assert server.packet_entries == 1
        assert asked(upstream)[-1] != "mail.other.com.corp.example. A"
        assert server.call(lambda: probes.value) == before
        server.reload(blocks(upstream))  # hits of the packet cache are counted by then
        assert denials.value == before_denials + 4


def test_a_limit_of_cache_for_denials_is_one_for_proofs():
    """The caches of clusters often have `denial 9984 5`; the SOA record of the server has an hour."""
    lines = "cache {\n denial 9984 5\n}"
    with Upstream(answer) as upstream:
        text = blocks(upstream).replace("cache\n", f"{lines}\n")
        with serve(text) as server:
            prove(server)
            guards = server.plugins(SearchGuard)
            request = make_request("mail.com.corp.example.", rd=1)
            states = [server.call(guard.explain_state, request) for guard in guards]
            left = [it["seconds left"] for it in states if it["state"] == "denied"]
            assert len(left) == 1
            assert left[0] <= 5


OVERLAY = """
    hosts {
        192.0.2.7 api.com.corp.example
        192.0.2.8 *.com.eu.corp.example
        fallthrough
    }
"""


def test_names_of_hosts_are_never_denied():
    """The upstream denies com.corp.example, and hosts adds a name below it."""
    with Upstream(answer) as upstream, serve(blocks(upstream, OVERLAY)) as server:
        for domain in ("corp.example.", "eu.corp.example."):
            for number in range(AT_ONCE + 2):
                assert server.ask(f"www.site{number}.com.{domain}").header.rcode == 3
                settle(server)
            assert f"www.site{number}.com.{domain} A" in asked(upstream)
            assert str(server.ask(f"api.com.{domain}").short()) in ("192.0.2.7", "192.0.2.8")


def test_proofs_end_with_a_purge():
    with Upstream(answer) as upstream, serve(blocks(upstream)) as server:
        prove(server)
        name = "mail.com.corp.example."
        for _ in range(2):
            server.ask(name)  # then the denial is in the packet cache
        assert f"{name} A" not in asked(upstream)
        loop = server.call(asyncio.get_running_loop)
        purge = server.server.command("cache/purge", {"zone": PLAIN})
        asyncio.run_coroutine_threadsafe(purge, loop).result(60)
        server.ask(name)
        assert f"{name} A" in asked(upstream)


def test_proofs_end_with_a_reload():
    with Upstream(answer) as upstream, serve(blocks(upstream)) as server:
        prove(server)
        server.reload(blocks(upstream))
        server.ask("mail.com.corp.example.")
        assert asked(upstream)[-1] == "mail.com.corp.example. A"


def test_a_search_on_the_server_is_guarded_too(tmp_path):
    """*autopath* is above *search_guard*, and asks it for each search domain."""
    path = tmp_path / "resolv.conf"
    path.write_text(f"search {SEARCH}\n")
    with Upstream(answer) as upstream:
        text = f""". {{
            bind 127.0.0.1
            autopath {path}
            search_guard {{
                resolv_conf {path}
                max_ttl 1h
            }}
            cache
            forward . {upstream.to}
        }}"""
        with serve(text) as server:
            for number in range(200):  # the first names are passed on: reasons and samples
                upstream.queries.clear()
                reply = server.ask(f"www.site{number}.com.default.svc.cluster.local.")
                settle(server)
                if asked(upstream) == [f"www.site{number}.com. A"]:
                    break
            else:
                raise AssertionError(asked(upstream))
            found = [str(it.rdata) for it in reply.rr]
            assert found == [f"www.site{number}.com.", "192.0.2.1"]


CLIENT = """
import socket, sys
from multiprocessing.pool import ThreadPool
family = getattr(socket, sys.argv[1])
def look_up(number):
    found = socket.getaddrinfo(f"www.site{number}.com", 80, family, socket.SOCK_STREAM)
    assert [it[4] for it in found] == [("192.0.2.1", 80)], found
with ThreadPool(8) as pool:  # less work for the server, which reads several queries at once
    pool.map(look_up, range(*map(int, sys.argv[2:])), 1)
"""
MOUNT = """\
mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@"
"""


def resolve(server, folder, names, family="AF_UNSPEC"):
    """Look up `names` names with getaddrinfo, in a mount namespace with its own resolv.conf.

    The first one is looked up alone, so that there are proofs for the others.
    """
    (folder / "resolv.conf").write_text(
        f"nameserver 127.0.0.1\nsearch {SEARCH}\noptions ndots:5 timeout:30\n"
    )
    (folder / "nsswitch.conf").write_text("hosts: dns\n")
    files = [str(folder / it) for it in ("resolv.conf", "nsswitch.conf")]
    client = [sys.executable, "-IS", "-c", CLIENT, family]
    for start, stop in ((0, 1), (1, names)):
        words = ["unshare", "-m", "sh", "-c", MOUNT, "sh", *files, *client, str(start), str(stop)]
        subprocess.run(words, check=True)
        settle(server)


def counted(upstream):
    """The numbers of queries for the names themselves, A and AAAA, and of all others."""
    queries = asked(upstream)
    upstream.queries.clear()
    own = [it.split()[1] for it in queries if re.match(r"www[.]site[0-9]+[.]com[.] ", it)]
    return own.count("A"), own.count("AAAA"), len(queries) - len(own)


@pytest.fixture
def few_samples(monkeypatch):
    """On a slow machine, the samples of one a minute are many."""
    monkeypatch.setattr("corepy_search_guard.samples.INTERVAL", 3600.0)


@pytest.mark.usefixtures("few_samples")
@isolated
def test_glibc_looks_up_a_thousand_names_with_a_thousand_and_fifty_queries(tmp_path):
    """A program asks for both address families, and *no_aaaa* answers one of them."""
    text = blocks(upstream := Upstream(answer), "no_aaaa", ":53")
    with upstream, serve(text, still=True) as server:
        resolve(server, tmp_path, 1000)
        v4, v6, others = counted(upstream)
    assert (v4, v6) == (1000, 0)
    assert others <= 50


@pytest.mark.usefixtures("few_samples")
@isolated
def test_glibc_with_one_and_with_two_address_families_and_without_search_guard(tmp_path):
    text = blocks(upstream := Upstream(answer), port=":53")
    with upstream, serve(text, still=True) as server:
        resolve(server, tmp_path, 60, "AF_INET")
        v4, v6, others = counted(upstream)
        assert (v4, v6) == (60, 0)
        assert others <= 50
        server.reload(blocks(upstream, "# other proofs", ":53"))
        resolve(server, tmp_path, 60)
        v4, v6, others = counted(upstream)
        assert (v4, v6) == (0, 60)  # the cache has kept the replies with IPv4 addresses
        assert others <= 50
        server.reload(f".:53 {{\n bind 127.0.0.1\n forward . {upstream.to}\n}}")
        resolve(server, tmp_path, 3)
        assert counted(upstream) == (3, 3, 5 * 2 * 3)
