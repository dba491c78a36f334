"""The same zones and questions for *blocklist* and for unbound, which must agree."""

import contextlib
import subprocess

import dnslib
import pytest

from corepy.testing import Upstream, ask, free_port, serve

FIRST = """\
$ORIGIN first.rpz.
@ SOA a. b. 1 3600 900 86400 60
@ NS a.
nx.example CNAME .
*.nx.example CNAME .
nodata.example CNAME *.
only-below.example A 192.0.2.77
*.only-above.example CNAME .
allowed.example CNAME rpz-passthru.
*.allowed.example CNAME rpz-passthru.
fine.wild.example CNAME rpz-passthru.
*.wild.example CNAME .
data.example A 192.0.2.81
data.example A 192.0.2.82
data.example TXT "local"
*.data.example AAAA 2001:db8::81
alias.example CNAME target.example.
32.66.2.0.192.rpz-ip CNAME .
24.0.100.51.198.rpz-ip CNAME *.
32.9.100.51.198.rpz-ip CNAME rpz-passthru.
48.zz.bad.db8.2001.rpz-ip A 192.0.2.88
tcp.example CNAME rpz-tcp-only.
"""
SECOND = """\
$ORIGIN second.rpz.
@ SOA a. b. 1 3600 900 86400 60
@ NS a.
nx.example CNAME rpz-passthru.
allowed.example CNAME .
*.allowed.example CNAME .
second.example CNAME *.
cut.example A 192.0.2.90
"""
ADDRESSES = {
    "bad-ip.example.": "192.0.2.66",
    "bad-net.example.": "198.51.100.1",
    "good-ip.example.": "198.51.100.9",
}
CHAINS = {
    "to-nx.example.": ["middle.example.", "nx.example."],
    "to-bad-ip.example.": ["bad-ip.example."],
    "to-fine.example.": ["fine.example."],
}
QUESTIONS = [
    ("fine.example", "A"),
    ("nx.example", "A"),
    ("NX.example", "AAAA"),
    ("nx.example", "TXT"),
    ("a.nx.example", "A"),
    ("a.b.nx.example", "A"),
    ("nodata.example", "A"),
    ("nodata.example", "MX"),
    ("a.nodata.example", "A"),
    ("only-below.example", "A"),
    ("only-below.example", "AAAA"),
    ("only-above.example", "A"),
    ("a.only-above.example", "A"),
    ("allowed.example", "A"),
    ("a.allowed.example", "A"),
    ("wild.example", "A"),
    ("a.wild.example", "A"),
    ("fine.wild.example", "A"),
    ("x.fine.wild.example", "A"),
    ("data.example", "A"),
    ("data.example", "TXT"),
    ("data.example", "AAAA"),
    ("a.data.example", "AAAA"),
    ("a.data.example", "A"),
    ("alias.example", "A"),
    ("alias.example", "CNAME"),
    ("bad-ip.example", "A"),
    ("bad-net.example", "A"),
    ("good-ip.example", "A"),
    ("second.example", "A"),
    ("cut.example", "A"),
    ("tcp.example", "A"),
    ("to-fine.example", "A"),
]


def upstream_reply(query, _):
    """Answer A queries of any name, and follow aliases."""
    name, reply = str(query.q.qname).lower(), query.reply()
    reply.header.ra = 1
    if query.q.qtype == dnslib.QTYPE.A:
        for target in CHAINS.get(name, ()):
            reply.add_answer(*dnslib.RR.fromZone(f"{name} 60 CNAME {target}"))
            name = target
        reply.add_answer(*dnslib.RR.fromZone(f"{name} 60 A {ADDRESSES.get(name, '192.0.2.1')}"))
    else:
        reply.add_auth(*dnslib.RR.fromZone("example. 60 SOA a. b. 1 2 3 4 60"))
    return reply


@contextlib.contextmanager
def unbound(folder, upstream):
    """Yield the address of unbound with the two zones."""
    port = free_port()
    zones = "".join(
        f'rpz:\n name: "{name}.rpz"\n zonefile: "{folder}/{name}"\n' for name in ("first", "second")
    )
    (conf := folder / "unbound.conf").write_text(
        f"""server:
 interface: 127.0.0.1@{port}
 do-daemonize: no
 username: ""
 chroot: ""
 pidfile: ""
 directory: "{folder}"
 use-syslog: no
 num-threads: 1
 do-not-query-localhost: no
 module-config: "respip iterator"
 local-zone: "example." nodefault
remote-control:
 control-enable: no
{zones}
forward-zone:
 name: "."
 forward-addr: {upstream.address[0]}@{upstream.address[1]}
"""
    )
    with subprocess.Popen(["/usr/sbin/unbound", "-c", str(conf)]) as process:
        try:
            yield "127.0.0.1", port
        finally:
            process.kill()


def outcome(address, name, qtype):
    reply = ask(address, name, qtype)
    answers = sorted(f"{dnslib.QTYPE[rr.rtype]} {rr.rdata}" for rr in reply.rr)
    return dnslib.RCODE[reply.header.rcode], bool(reply.header.tc), answers


def started(address):
    """Wait until a server answers over TCP, which is refused before it has started."""
    while True:
        with contextlib.suppress(ConnectionError):
            return ask(address, "ready.example", tcp=True)


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rpz")
    (folder / "first").write_text(FIRST)
    (folder / "second").write_text(SECOND)
    with Upstream(upstream_reply) as upstream:
        text = f""". {{
            bind 127.0.0.1
            blocklist {{
                rpz {folder}/first
                rpz {folder}/second
            }}
            forward . {upstream.to}
        }}"""
        with unbound(folder, upstream) as other, serve(text) as server:
            started(other)
            yield server.address, other


@pytest.mark.parametrize(("name", "qtype"), QUESTIONS)
def test_both_agree(servers, name, qtype):
    ours, theirs = (outcome(address, name, qtype) for address in servers)
    assert ours == theirs


def test_unbound_keeps_the_aliases_before_a_rule(servers):
    ours, theirs = (outcome(address, "to-bad-ip.example", "A") for address in servers)
    assert (ours[0], ours[2]) == (theirs[0], []) == ("NXDOMAIN", [])
    assert theirs[2] == ["CNAME bad-ip.example."]


def test_unbound_applies_no_rule_to_an_alias_of_a_forwarder(servers):
    ours, theirs = (outcome(address, "to-nx.example", "A") for address in servers)
    assert (ours[0], theirs[0]) == ("NXDOMAIN", "NOERROR")
