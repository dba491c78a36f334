"""delv of BIND, drill of ldns and unbound validate every kind of reply, with every algorithm and both denials."""

from contextlib import contextmanager

import pytest

from corepy.testing import ask, serve
from corepy.testing.validators import delv, drill, unbound
from corepy.testing.zone_keys import write_key

ZONE = """\
$TTL 3600
@ SOA ns1 host 1 7200 3600 1209600 300
@ NS ns1
@ MX 10 Mail
ns1 A 192.0.2.1
Mail A 192.0.2.5
www A 192.0.2.2
alias CNAME www
dangling CNAME nothing
nodata CNAME ns1
x.ent A 192.0.2.3
*.w A 192.0.2.4
*.w TXT "wild"
*.v CNAME www
secure NS ns1.secure
secure DS 1 13 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF
ns1.secure A 192.0.2.6
insecure NS ns1.insecure
ns1.insecure A 192.0.2.6
_s._tcp SRV 1 2 3 WWW
d DNAME ent
"""
HOSTS = "192.0.2.9 host.example.org\n"
REPLIES = {
    "answers": ["example.org SOA", "example.org NS", "example.org DNSKEY", "example.org MX",
                "WWW.Example.ORG A", "_s._tcp.example.org SRV", "host.example.org A"],
    "aliases": ["alias.example.org A", "x.d.example.org A"],
    "wildcards": ["q.w.example.org A", "*.w.example.org TXT", "q.v.example.org A"],
    "no data": ["www.example.org TXT", "ent.example.org A", "example.org HINFO", "host.example.org AAAA",
                "q.w.example.org AAAA", "nodata.example.org TXT", "www.example.org CNAME",
                "www.example.org DNAME", "www.example.org NSEC3", "host.example.org PTR"],
    "no such name": ["nothing.example.org A", "a.b.c.nothing.example.org A", "y.x.ent.example.org A",
                     "dangling.example.org A", "zz.d.example.org A", "nothing.example.org DS"],
    "delegations": ["secure.example.org DS", "insecure.example.org DS", "www.example.org DS"],
}  # fmt: skip
NAMES = [line.split() for lines in REPLIES.values() for line in lines]
DENIALS = [line.split() for kind in (*REPLIES,)[2:] for line in REPLIES[kind]]
ANSWERED = [line.split() for kind in (*REPLIES,)[:3] for line in REPLIES[kind]]
DRILLED = [line.split() for line in (*REPLIES["answers"], *REPLIES["wildcards"][:2])]
UNKNOWN = {line.split()[0] for line in REPLIES["no such name"]}


@contextmanager
def signing(folder, *, denial="nsec", algorithms=(13,), flags=(257,)):
    """A server, and the DNSKEY record of the last key."""
    (folder / "db").write_text(ZONE)
    (folder / "hosts").write_text(HOSTS)
    bases = [
        write_key(folder, "example.org", f"K{algorithm}-{flag}", algorithm=algorithm, flags=flag)
        for algorithm in algorithms
        for flag in flags
    ]
    keys = " ".join(map(str, bases))
    text = (
        f"example.org:0 {{\nbind 127.0.0.1\ncache\ndnssec {{\nkey file {keys}\ndenial {denial}\n}}\n"
        f"hosts {folder}/hosts {{\nfallthrough\n}}\nfile {folder}/db\n}}\n"
    )
    with serve(text) as server:
        yield server, (folder / f"{bases[-1].name}.key").read_text().splitlines()[-1]


@pytest.mark.parametrize("denial", ["nsec", "nsec3"])
def test_delv_and_drill_validate_wildcards_and_denials(tmp_path, denial):
    write_key(tmp_path, "example.org", "other")
    with signing(tmp_path, denial=denial) as (server, record):
        for name, qtype in [*NAMES[:1], *DENIALS]:
            printed = delv(tmp_path, server.address, record, name, qtype)
            assert "fully validated" in printed, (name, qtype, printed)
            assert "unsigned answer" not in printed, (name, qtype, printed)
            is_unknown = denial == "nsec3" and name in UNKNOWN
            assert ("ncache nxdomain" in printed) == is_unknown, (name, qtype, printed)
        (other,) = (tmp_path / "other.key").read_text().splitlines()[1:]
        for name, qtype in DRILLED:
            assert drill(tmp_path, server.address, record, name, qtype), (name, qtype)
            assert not drill(tmp_path, server.address, other, name, qtype), (name, qtype)


@pytest.mark.parametrize(
    ("algorithms", "flags"),
    [((5,), (257,)), ((8,), (256, 257)), ((14,), (257,)), ((15, 13), (257,))],
)
def test_delv_validates_all_algorithms(tmp_path, algorithms, flags):
    with signing(tmp_path, algorithms=algorithms, flags=flags) as (server, record):
        for name, qtype in (["www.example.org", "A"], ["nothing.example.org", "A"]):
            assert "fully validated" in delv(tmp_path, server.address, record, name, qtype)


@pytest.mark.parametrize("denial", ["nsec", "nsec3"])
def test_unbound_validates_all_replies(tmp_path, denial):
    with (
        signing(tmp_path, denial=denial) as (server, record),
        unbound(tmp_path, server.address, record) as address,
    ):
        # Denials first: the resolver may use them for other names and types (RFC 8198).
        for name, qtype in [*reversed(NAMES), *NAMES]:
            reply = ask(address, name, qtype, do=True, edns=4096, timeout=30)
            log = (tmp_path / "log").read_text()
            assert reply.header.rcode in (0, 3), (name, qtype, log)
            assert reply.header.ad, (name, qtype, log)
            is_unknown = denial == "nsec3" and name in UNKNOWN
            assert (reply.header.rcode == 3) == is_unknown, (name, qtype)
            assert reply.rr or [name, qtype] not in ANSWERED, (name, qtype)
