"""*search_guard* in a real server, above *cache* and *forward*; and with glibc as the client."""

import asyncio
import subprocess
import sys

import dnslib
import pytest

from corepy.testing import Upstream, serve
from corepy.testing.netns import isolated
from corepy_search_guard.handler import SearchGuard
from corepy_search_guard.metrics import DENIALS, PROBES

ZONES = ("cluster.local.", "corp.example.")
TOP_LEVEL = ("com.", "org.", "net.")
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
        for number in range(3):
            for qtype in ("A", "AAAA"):
                reply = server.ask(f"host{number}.example.org.other.com.{suffix}.", qtype)
                assert (reply.header.rcode, len(reply.auth)) == (3, 1)
        assert asked(upstream) == before
        server.ask("www.example.com.")
        assert asked(upstream) == [*before, "www.example.com. A"]


def test_what_is_not_a_top_level_domain_is_passed_on():
    with Upstream(answer) as upstream, serve(blocks(upstream)) as server:
        for number in range(2):
            server.ask(f"host{number}.redis.nosuch.default.svc.cluster.local.")
            settle(server)
        assert asked(upstream) == [
            "host0.redis.nosuch.default.svc.cluster.local. A",
            "default.svc.cluster.local. A",
            "nosuch.default.svc.cluster.local. A",
            "nosuch. SOA",
            "host1.redis.nosuch.default.svc.cluster.local. A",
        ]


def test_repeated_denials_are_in_the_packet_cache_and_counted():
    with Upstream(answer) as upstream, serve(blocks(upstream)) as server:
        server.ask("www.example.com.corp.example.")
        settle(server)
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


def test_proofs_end_with_a_reload():
    with Upstream(answer) as upstream, serve(blocks(upstream)) as server:
        server.ask("www.example.com.corp.example.")
        settle(server)
        server.reload(blocks(upstream))
        server.ask("mail.com.corp.example.")
        assert asked(upstream)[-1] == "mail.com.corp.example. A"


CLIENT = """
import socket, sys
for number in range(int(sys.argv[1])):
    found = socket.getaddrinfo(f"www.site{number}.com", 80, socket.AF_UNSPEC, socket.SOCK_STREAM)
    assert [it[4] for it in found] == [("192.0.2.1", 80)], found
"""
MOUNT = """\
mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@"
"""
NO_AAAA = """
template IN AAAA . {
    authority ". 3600 IN SOA a. b. 1 2 3 4 3600"
    rcode NOERROR
}
"""


def resolve(folder, names):
    """Look up `names` names with getaddrinfo, in a mount namespace with its own resolv.conf."""
    (folder / "resolv.conf").write_text(
        f"nameserver 127.0.0.1\nsearch {SEARCH}\noptions ndots:5 timeout:30\n"
    )
    (folder / "nsswitch.conf").write_text("hosts: dns\n")
    files = [str(folder / it) for it in ("resolv.conf", "nsswitch.conf")]
    words = ["unshare", "-m", "sh", "-c", MOUNT, "sh", *files, sys.executable, "-c", CLIENT]
    subprocess.run([*words, str(names)], check=True)


@isolated
def test_glibc_looks_up_a_thousand_names_with_a_thousand_and_fifty_queries(tmp_path):
    """A template answers AAAA, as in a cluster without IPv6."""
    with Upstream(answer) as upstream, serve(blocks(upstream, NO_AAAA, ":53")):
        resolve(tmp_path, 1000)
        queries = asked(upstream)
    own = [it for it in queries if not it.endswith(".com. A") or not it.startswith("www.site")]
    assert len(queries) - len(own) == 1000
    assert len(own) <= 50


@isolated
def test_glibc_with_ipv6_and_without_search_guard(tmp_path):
    with Upstream(answer) as upstream, serve(blocks(upstream, port=":53")) as server:
        resolve(tmp_path, 20)
        assert len(asked(upstream)) <= 2 * 20 + 50
        upstream.queries.clear()
        server.reload(f".:53 {{\n bind 127.0.0.1\n cache\n forward . {upstream.to}\n}}")
        resolve(tmp_path, 3)
        assert len(asked(upstream)) == 12 * 3
