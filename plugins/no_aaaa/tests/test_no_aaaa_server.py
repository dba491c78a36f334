"""*no_aaaa* in a real server, beside other plugins; and with glibc as the client."""

import subprocess
import sys

import pytest

from corepy.corefile import parse
from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.server.build.builder import build
from corepy.testing import Upstream, query, serve
from corepy.testing.netns import isolated

ZONE = {
    "www.example.org. A": ["www.example.org. 60 IN A 192.0.2.1"],
    "www.example.org. AAAA": ["www.example.org. 60 IN AAAA 2001:db8::1"],
    "www.except.example. A": ["www.except.example. 60 IN A 192.0.2.3"],
    "www.except.example. AAAA": ["www.except.example. 60 IN AAAA 2001:db8::2"],
}


@pytest.mark.parametrize("tcp", [False, True])
def test_a_node_without_ipv6(tcp):
    with Upstream(ZONE) as upstream:
        text = f""". {{
            bind 127.0.0.1
            no_aaaa except except.example
            cache
            forward . {upstream.to}
        }}"""
        (router,) = build(parse(text)).routers.values()
        assert router.routes[0].obstacle is None
        with serve(text) as server:
            for _ in range(3):
                assert str(server.ask("www.example.org.", tcp=tcp).rr[0].rdata) == "192.0.2.1"
                reply = server.ask("www.example.org.", "AAAA", tcp=tcp)
                assert (reply.header.rcode, reply.rr, len(reply.auth)) == (0, [], 1)
                own = server.ask("www.except.example.", "AAAA", tcp=tcp)
                assert str(own.rr[0].rdata) == "2001:db8::2"
            server.reload(text.replace("no_aaaa except except.example", "minimal"))
            assert server.ask("www.example.org.", "AAAA", tcp=tcp).rr
    names = [text for text, _ in upstream.queries]
    assert names.count("www.example.org. AAAA") == 1


def test_excepted_names_with_autopath(tmp_path):
    """A search that ended at the first name would hide the address."""
    path = tmp_path / "resolv.conf"
    path.write_text("search ns.svc.local svc.local\n")
    with Upstream(ZONE) as upstream:
        text = f""". {{
            bind 127.0.0.1
            autopath {path}
            no_aaaa except except.example
            cache
            forward . {upstream.to}
        }}"""
        with serve(text) as server:
            found = server.ask("www.except.example.ns.svc.local.", "AAAA").rr
            assert [str(it.rdata) for it in found] == ["www.except.example.", "2001:db8::2"]
            reply = server.ask("www.example.org.ns.svc.local.", "AAAA")
            assert (reply.header.rcode, reply.rr, len(reply.auth)) == (0, [], 1)


def test_the_packet_cache_repeats_the_reply(monkeypatch):
    monkeypatch.setattr("corepy_no_aaaa.no_aaaa.REPEATED", 3600.0)
    wire = query("www.example.org.", "AAAA", id=7)
    with serve(". {\nbind 127.0.0.1\nno_aaaa\ncache\ntemplate ANY ANY\n}") as server:
        replies = [server.exchange(wire) for _ in range(3)]
        assert server.packet_entries == 1
    end = 12 + len(from_text("www.example.org.")) + 4
    assert len({reply[:end] for reply in replies}) == 1
    assert int.from_bytes(replies[0][end + 2 : end + 4], "big") == c.TYPE_SOA


CLIENT = """
import socket
for name in ("www.example.org", "www.except.example"):
    for family in (socket.AF_UNSPEC, socket.AF_INET6):
        try:
            found = socket.getaddrinfo(name, 80, family, socket.SOCK_STREAM)
            print(name, *sorted(address[0] for *_, address in found))
        except socket.gaierror as error:
            print(name, error.errno == socket.EAI_NODATA)
"""
MOUNT = """\
mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/nsswitch.conf && exec "$3" -c "$4"
"""


@isolated
@pytest.mark.parametrize("autopath", ["", "autopath {}"])
def test_glibc(tmp_path, autopath):
    """It gets a definite answer at the first attempt, and the addresses of excepted names."""
    (tmp_path / "resolv.conf").write_text(
        "nameserver 127.0.0.1\nsearch ns.svc.local svc.local\noptions ndots:5 timeout:30 attempts:1\n"
    )
    (tmp_path / "nsswitch.conf").write_text("hosts: dns\n")
    files = [str(tmp_path / it) for it in ("resolv.conf", "nsswitch.conf")]
    with Upstream(ZONE) as upstream:
        text = f""".:53 {{
            bind 127.0.0.1
            {autopath.format(files[0])}
            no_aaaa except except.example
            cache
            forward . {upstream.to}
        }}"""
        words = ["unshare", "-m", "sh", "-c", MOUNT, "sh", *files, sys.executable, CLIENT]
        with serve(text):
            done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "www.example.org 192.0.2.1",
        "www.example.org True",
        "www.except.example 192.0.2.3 2001:db8::2",
        "www.except.example 2001:db8::2",
    ]
    queries = [text for text, _ in upstream.queries]
    assert not [it for it in queries if "example.org." in it and it.endswith(" AAAA")]
