"""Signed replies: the tables of CoreDNS's tests, and its faults."""

import asyncio
import gc
import subprocess
import threading
from typing import Any

import dnslib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.dns import Reply
from corepy.dns.compress import rebuild
from corepy.dns.names import from_text, labels_of
from corepy.dns.presentation import rdata_to_text
from corepy.dns.rdata import check_records
from corepy.dns.records import rr
from corepy.dns.reply_validation import reply_problem
from corepy.plugin import Cacheability, FastHandler, Handler, metrics
from corepy.testing import link, make_request, reply_of, run_chain, serve, set_up
from corepy.testing.zone_keys import write_key
from corepy.zone.canonical import canonical_key
from corepy.zone.denial import NSEC3Parameters
from corepy_dnssec.denial import name_after, name_after_all_below
from corepy_dnssec.dnssec import DNSSEC
from corepy_dnssec.records import ReplyRecords

ZONE = """\
$TTL 30M
@ SOA linode.atoom.net. miek 1282630057 4H 1H 7D 4H
@ NS linode.atoom.net.
@ MX 1 aspmx.l.google.com.
@ A 139.162.196.78
@ AAAA 2a01:7e00::f03c:91ff:fef1:6735
a A 139.162.196.78
a AAAA 2a01:7e00::f03c:91ff:fef1:6735
www CNAME a
gone CNAME nothing
deleg NS ns01.deleg
deleg DS 18512 13 2 D4E806322598BC97A003EF1ACDFF352EEFF7B42DBB0D41B8224714C36AEF08D9
unsigned NS ns01.deleg
"""
DNSKEY, DS, NSEC, NSEC3, RRSIG, SOA = 48, 43, 47, 50, 46, 6


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dnssec")
    (folder / "db").write_text(ZONE)
    write_key(folder, "miek.nl", "K")
    write_key(folder, "miek.nl", "Kzsk", flags=256)
    write_key(folder, "miek.nl", "Krsa", algorithm=8)
    return folder


@pytest.fixture(scope="module")
def server(files):
    text = (f"miek.nl:0 {{\nbind 127.0.0.1\nprometheus 127.0.0.1:0\ndnssec {{\nkey file {files}/K\n}}\n"
            f"file {files}/db\n}}\n")  # fmt: skip
    with serve(text) as running:
        yield running


def section(records):
    """Owner, type and, for a signature, the type covered, of each record."""
    found = []
    for it in records:
        name, rtype = str(it.rname), dnslib.QTYPE[it.rtype]
        if it.rtype == RRSIG:
            rtype += f" {dnslib.QTYPE[it.rdata.covered]}"
        found.append(f"{name} {rtype}")
    return sorted(found)


def signed(name, *types):
    return [f"{name} {it}" for it in types] + [f"{name} RRSIG {it}" for it in types]


DENIED = signed("miek.nl.", "SOA")
SERVERS = signed("miek.nl.", "NS")


@pytest.mark.parametrize(
    ("name", "qtype", "answer", "authority"),
    [
        # plugin/dnssec/handler_test.go; the NS records at the origin are our *file*'s
        ("miek.nl.", "DNSKEY", signed("miek.nl.", "DNSKEY"), []),
        ("miek.nl.", "NS", SERVERS, []),
        ("deleg.miek.nl.", "NS", [], ["deleg.miek.nl. NS", *signed("deleg.miek.nl.", "DS")]),
        ("unsigned.miek.nl.", "NS", [], ["unsigned.miek.nl. NS", *signed("unsigned.miek.nl.", "NSEC")]),
        ("miek.nl.", "DS", [], [*DENIED, *signed("miek.nl.", "NSEC")]),
        ("deleg.miek.nl.", "DS", signed("deleg.miek.nl.", "DS"), SERVERS),
        ("unsigned.miek.nl.", "DS", [], [*DENIED, *signed("unsigned.miek.nl.", "NSEC")]),
        ("miek.nl.", "MX", signed("miek.nl.", "MX"), SERVERS),
        ("www.miek.nl.", "AAAA", [*signed("a.miek.nl.", "AAAA"), *signed("www.miek.nl.", "CNAME")], SERVERS),
        ("wwwww.miek.nl.", "AAAA", [], [*DENIED, *signed("wwwww.miek.nl.", "NSEC")]),
        ("miek.nl.", "HINFO", [], [*DENIED, *signed("miek.nl.", "NSEC")]),
        # black_lies_test.go
        ("miek.nl.", "NSEC", signed("miek.nl.", "NSEC"), []),
        ("www1.miek.nl.", "NSEC", signed("www1.miek.nl.", "NSEC"), []),
        # each name has a signature, that of its NSEC record: to deny it would be bogus
        ("www1.miek.nl.", "RRSIG", ["www1.miek.nl. RRSIG NSEC"], []),
        ("miek.nl.", "RRSIG", ["miek.nl. RRSIG NSEC"], []),
        ("sub.miek.nl.", "DS", [], [*DENIED, *signed("sub.miek.nl.", "NSEC")]),
        # below an unsigned delegation, the proof is that of the cut
        ("a.b.unsigned.miek.nl.", "A", [], ["unsigned.miek.nl. NS", *signed("unsigned.miek.nl.", "NSEC")]),
        # an alias without a target
        ("gone.miek.nl.", "A", signed("gone.miek.nl.", "CNAME"), [*DENIED, *signed("nothing.miek.nl.", "NSEC")]),
    ],
)  # fmt: skip
def test_signed_replies(server, name, qtype, answer, authority):
    reply = server.ask(name, qtype, do=True, edns=4096)
    assert (reply.header.rcode, reply.header.aa) == (0, reply.header.aa)
    assert section(reply.rr) == sorted(answer)
    assert section(reply.auth) == sorted(authority)
    repeated = server.ask(name.upper(), qtype, do=True, edns=4096)
    assert len(repeated.rr + repeated.auth) == len(reply.rr + reply.auth)


def types_of(nsec):
    return set(nsec.rdata.rrlist) - {"NSEC"}


def nsec_of(reply):
    (record,) = [it for it in reply.auth if it.rtype == NSEC]
    return record


@pytest.mark.parametrize(
    ("name", "qtype", "after", "has", "lacks"),
    [
        ("wwwww.miek.nl.", "A", "\\000.wwwww.miek.nl.", {"TXT", "MX", "PTR", "RRSIG"}, {"A", "NS", "SOA"}),
        ("miek.nl.", "TLSA", "\\000.miek.nl.", {"SOA", "NS", "DNSKEY", "MX", "CDS", "CDNSKEY", "CSYNC"},
         {"TLSA", "DS"}),
        ("miek.nl.", "CDS", "\\000.miek.nl.", {"SOA", "CDNSKEY"}, {"CDS"}),
        ("a.miek.nl.", "DNAME", "\\000.a.miek.nl.", {"A", "DHCID"}, {"DNAME", "CNAME"}),
        # RFC 4035 section 5.2: the bit of NS without that of SOA makes a delegation of a name
        ("unsigned.miek.nl.", "DS", "unsigned\\000.miek.nl.", {"NS"}, {"SOA", "A", "DS"}),
        ("unsigned.miek.nl.", "NS", "unsigned\\000.miek.nl.", {"NS"}, {"SOA", "A", "DS"}),
        ("a.miek.nl.", "DS", "\\000.a.miek.nl.", {"A"}, {"NS", "DS"}),
    ],
)  # fmt: skip
def test_black_lies(server, name, qtype, after, has, lacks):
    nsec = nsec_of(server.ask(name, qtype, do=True, edns=4096))
    assert bytes(nsec.rdata.label.label[0]) == labels_of(from_text(after))[0]
    assert has <= types_of(nsec)
    assert not lacks & types_of(nsec)
    assert nsec.ttl == 1800


def test_clients_without_do_get_no_signatures(server):
    assert section(server.ask("miek.nl.", "DNSKEY").rr) == ["miek.nl. DNSKEY"]
    assert server.ask("wwwww.miek.nl.", "A").header.rcode == 3
    assert section(server.ask("a.miek.nl.", "A").rr) == ["a.miek.nl. A"]


def test_metrics(server):
    def values():
        return {
            it.name: sum(child.value for _, child in it.children())
            for it in metrics.registered()
            if it.name.startswith("coredns_dnssec_cache_")
        }

    server.ask("b.miek.nl.", "TXT", do=True, edns=4096)  # signs the SOA record
    before = values()
    server.ask("a.miek.nl.", "TXT", do=True, edns=4096)
    once = values()
    server.ask("a.miek.nl.", "TXT", do=True, edns=4000)
    after = values()
    assert once["coredns_dnssec_cache_entries"] == before.get("coredns_dnssec_cache_entries", 0) + 1
    hits, misses = "coredns_dnssec_cache_hits_total", "coredns_dnssec_cache_misses_total"
    assert (once[misses], after[misses]) == (before[misses] + 1, before[misses] + 1)
    assert after[hits] == once[hits] + 2


# -- one handler, with replies of the test


class Below(Handler):
    """Answers with the same records each time, or by name and type."""

    name = "below"
    cacheability = Cacheability.SAFE

    def __init__(self, answer=(), authority=(), more=None, **header):
        self.given: Any = answer, authority, [], header
        self.more = more or {}
        self.asked = []

    async def serve_dns(self, request):
        self.asked.append((request.name, request.type, request.do))
        answer, authority, additional, header = self.more.get(
            (request.name, request.type), self.given
        )
        question = dnslib.DNSRecord.parse(request.wire)
        reply = Reply.from_wire(reply_of(question, answer, authority, additional, **header))
        reply.options = b""
        return reply


class FastBelow(FastHandler):
    """Answers at once, each time with the same message."""

    name = "below"
    cacheability = Cacheability.SAFE

    def __init__(self, reply):
        self.wire = reply.wire

    def begin_dns(self, request):
        return Reply(self.wire)


def handler(files, zones="miek.nl", *keys, options=""):
    names = keys or ("K",)
    lines = "".join(f"key file {files}/{it}\n" for it in names)
    (made,) = set_up(f"dnssec {zones} {{\n{lines}{options}\n}}").handlers
    return made


def ask(made, below, name="www.miek.nl.", qtype="A", **options):
    reply = run_chain(make_request(name, qtype, do=True, **options), made, below)
    return dnslib.DNSRecord.parse(reply.wire)


NODATA = "miek.nl. 1800 IN SOA ns. host. 1 1 1 1 300"


@pytest.mark.parametrize(
    ("keys", "signatures"), [(("K",), 1), (("K", "Krsa"), 2), (("K", "Kzsk"), 1)]
)
def test_signatures_by_keys(files, keys, signatures):
    made = handler(files, "miek.nl", *keys)
    reply = ask(
        made, Below(["miek.nl. 1703 IN MX 1 a.b."], ["miek.nl. 1703 IN NS a.b."]), "miek.nl", "MX"
    )
    for records in (reply.rr, reply.auth):
        found = [it for it in records if it.rtype == RRSIG]
        assert len(found) == signatures
        assert all(it.ttl == 1703 and it.rdata.orig_ttl == 3600 for it in found)
    (by_key,) = (
        {it.rdata.key_tag for it in reply.rr if it.rtype == RRSIG} if signatures == 1 else {0}
    )
    if "Kzsk" in keys:
        (of_keys,) = [it for it in ask(made, Below(), "miek.nl", "DNSKEY").rr if it.rtype == RRSIG]
        assert of_keys.rdata.key_tag != by_key


def test_replies_that_stay_as_they_are(files):
    """Errors, truncated replies, names out of the zones, other classes, and signed replies."""
    made = handler(files)
    record = "www.miek.nl. 5 IN A 192.0.2.1"
    signature = "www.miek.nl. 5 IN RRSIG A 13 3 5 20300101000000 20200101000000 1 miek.nl. AAAA"
    for below, name in (
        (Below(rcode=2), "www.miek.nl."),
        (Below([record], tc=1), "www.miek.nl."),
        (Below(["www.example.org. 5 IN A 192.0.2.1"]), "www.example.org."),
        (Below([record, signature]), "www.miek.nl."),
    ):
        reply = ask(made, below, name)
        assert len(reply.rr) == len(below.given[0])
        assert not reply.auth
    assert ask(made, Below([record]), qtype="AXFR").rr[0].rtype == 1
    proof = ["miek.nl. 300 IN NSEC a.miek.nl. SOA RRSIG NSEC"]
    assert len(ask(made, Below([], [NODATA, *proof])).auth) == 4  # signatures, but no other proof


@pytest.mark.parametrize(
    ("zones", "target", "signers"),
    [
        ("miek.nl", "target.example.com.", ["miek.nl."]),
        ("miek.nl miek.org", "db.miek.org.", ["miek.nl.", "miek.org."]),
    ],
)
def test_aliases_across_zones(files, zones, target, signers):
    """plugin/dnssec/cname_signing_test.go"""
    write_key(files, ".", "Kroot")
    made = handler(files, zones, "Kroot")
    records = [f"www.miek.nl. 1800 IN CNAME {target}", f"{target} 1800 IN A 127.0.0.1"]
    found = [it.rdata for it in ask(made, Below(records)).rr if it.rtype == RRSIG]
    assert sorted(str(it.name) for it in found) == signers


def test_nodata_without_soa(files):
    """As *hosts* answers: the denial has a SOA record, which a query for it gets, too."""
    made = handler(files)
    reply = ask(made, Below(), qtype="AAAA")
    assert section(reply.auth) == sorted([*DENIED, *signed("www.miek.nl.", "NSEC")])
    reply = ask(made, Below(), "miek.nl.", "SOA")
    assert section(reply.rr) == sorted(DENIED)
    other = ask(made, Below([], ["example.org. 60 IN SOA ns. host. 1 1 1 1 1"], rcode=3))
    assert section(other.auth) == sorted([*DENIED, *signed("www.miek.nl.", "NSEC")])


def test_alias_without_target(files):
    """It is not known whether the target exists: nothing is denied."""
    reply = ask(handler(files), Below(["www.miek.nl. 60 IN CNAME x.miek.nl."]))
    assert not reply.auth


@pytest.mark.parametrize("above", ["nl.", "."])
def test_a_server_that_refers_to_a_zone_above_denies_nothing(files, above):
    for options in ("", "denial nsec3"):
        below = Below([], [f"{above} 60 IN NS ns.example."])
        reply = ask(handler(files, options=options), below)
        assert section(reply.auth) == [f"{above} NS"]


def test_ds_records_that_a_referral_lacks(files):
    ds = "sub.miek.nl. 60 IN DS 1 13 2 " + "AB" * 32
    servers = ["sub.miek.nl. 60 IN NS ns.sub.miek.nl."]
    below = Below([], servers, more={("sub.miek.nl.", "DS"): ([ds], [], [], {})})
    reply = ask(handler(files), below, "x.sub.miek.nl.")
    assert section(reply.auth) == sorted(["sub.miek.nl. NS", *signed("sub.miek.nl.", "DS")])
    assert below.asked == [("x.sub.miek.nl.", "A", True), ("sub.miek.nl.", "DS", False)]


@pytest.mark.parametrize(
    ("existing", "encloser"),
    [("miek.nl.", "miek.nl."), ("c.miek.nl.", "c.miek.nl."), ("b.c.miek.nl.", "b.c.miek.nl.")],
)
def test_nsec3_finds_the_closest_encloser(files, existing, encloser):
    names = ["miek.nl.", "c.miek.nl.", "b.c.miek.nl."]
    known = names[: names.index(existing) + 1]
    more: Any = {(name, "A"): ([], [NODATA], [], {}) for name in known}
    below = Below([], [NODATA], more, rcode=3)
    reply = ask(handler(files, options="denial nsec3"), below, "x.a.b.c.miek.nl.")
    assert reply.header.rcode == 3
    assert len([it for it in reply.auth if it.rtype == NSEC3]) == 3
    assert len(below.asked) <= 4
    digest = NSEC3Parameters(0, b"").hash(from_text(encloser)).decode()
    assert f"{digest}.miek.nl." in [str(it.rname) for it in reply.auth]


def test_nsec3_does_not_deny_an_alias_without_target(files):
    """The rcode of an alias is that of its target (RFC 6604): it must not become a denial."""
    alias = ["alias.miek.nl. 60 IN CNAME gone.miek.nl."]
    more: Any = {("alias.miek.nl.", "A"): (alias, [NODATA], [], {"rcode": 3})}
    below = Below([], [NODATA], more, rcode=3)
    reply = ask(handler(files, options="denial nsec3"), below, "x.alias.miek.nl.")
    digest = NSEC3Parameters(0, b"").hash(from_text("alias.miek.nl.")).decode()
    assert f"{digest}.miek.nl." in [str(it.rname) for it in reply.auth]


@pytest.mark.parametrize(
    ("name", "rcode", "number"),
    [("h.miek.nl.", 0, 1), ("x.h.miek.nl.", 3, 3), ("x.y.miek.nl.", 3, 3)],
)
def test_nsec3_does_not_deny_a_name_with_addresses(files, name, rcode, number):
    """Or names above one: *hosts* passes PTR on, and *file* below it does not know the name."""
    more: Any = {("h.miek.nl.", "A"): (["h.miek.nl. 60 IN A 192.0.2.1"], [], [], {})}
    below = Below([], [NODATA], more, rcode=3)
    reply = ask(handler(files, options="denial nsec3"), below, name, "PTR")
    assert reply.header.rcode == rcode
    owners = {str(it.rname)[:32] for it in reply.auth if it.rtype == NSEC3}
    assert len(owners) == number
    digest = NSEC3Parameters(0, b"").hash(from_text("h.miek.nl.")).decode()
    assert (digest in owners) == ("h.miek" in name)  # matched, not covered


def nsec3_types(record):
    return set(rdata_to_text(NSEC3, record.rdata.data).split()[5:])


@pytest.mark.parametrize("existing", ["miek.nl.", "a.miek.nl."])
def test_nsec3_types_of_the_closest_encloser(files, existing):
    """With DNAME the proof would be invalid; without CNAME it would deny an alias (RFC 8198)."""
    more: Any = {(existing, "A"): ([], [NODATA], [], {})}
    reply = ask(
        handler(files, options="denial nsec3"), Below([], [NODATA], more, rcode=3), f"x.{existing}"
    )
    digest = NSEC3Parameters(0, b"").hash(from_text(existing)).decode()
    (types,) = (
        nsec3_types(it)
        for it in reply.auth
        if str(it.rname).startswith(digest) and it.rtype == NSEC3
    )
    assert ("CNAME" in types, "DNAME" in types) == (existing != "miek.nl.", False)


def test_nsec3_denies_the_type_rrsig_alone(files):
    """RFC 5155 section 3.2.1: the bit is for the signatures of the original name."""
    reply = ask(handler(files, options="denial nsec3"), Below([], [NODATA]), qtype="RRSIG")
    (types,) = (nsec3_types(it) for it in reply.auth if it.rtype == NSEC3)
    assert "A" in types
    assert not {"RRSIG", "NSEC"} & types
    assert not reply.rr


def test_ns_records_of_a_delegation_are_not_signed(files):
    """RFC 4035 section 2.2, also in an answer, as of *template* or a server with both zones."""
    records = [f"{name} 60 IN NS ns.{name}" for name in ("miek.nl.", "sub.miek.nl.")]
    assert not [it for it in ask(handler(files), Below(records[1:]), "sub.miek.nl.", "NS").rr
                if it.rtype == RRSIG]  # fmt: skip
    both = handler(files, "miek.nl sub.miek.nl", "K")
    reply = ask(both, Below(records[1:], records[:1]), "sub.miek.nl.", "NS")
    assert section(reply.rr) == sorted(signed("sub.miek.nl.", "NS"))
    assert section(reply.auth) == sorted(SERVERS)


def test_nxdomain_of_the_zone_itself(files):
    below = Below([], [NODATA], rcode=3)
    for options in ("", "denial nsec3"):
        reply = ask(handler(files, options=options), below, "miek.nl.")
        assert reply.header.rcode == 0


def test_parent_zone_signs_ds(files):
    write_key(files, ".", "Kroot")
    made = handler(files, "miek.nl sub.miek.nl", "Kroot")
    ds = "sub.miek.nl. 60 IN DS 1 13 2 " + "AB" * 32
    (signature,) = [
        it for it in ask(made, Below([ds]), "sub.miek.nl.", "DS").rr if it.rtype == RRSIG
    ]
    assert str(signature.rdata.name) == "miek.nl."


def test_the_nearest_zone_above_signs_ds(files):
    write_key(files, ".", "Kroot")
    zones = "org a.org b.a.org"
    ds = "b.a.org. 60 IN DS 1 13 2 " + "AB" * 32
    reply = ask(handler(files, zones, "Kroot"), Below([ds]), "b.a.org.", "DS")
    assert [str(it.rdata.name) for it in reply.rr if it.rtype == RRSIG] == ["a.org."]


@pytest.mark.parametrize("header", [{"rcode": 2}, {"tc": 1}, {"rcode": 5}])
def test_a_failed_query_proves_nothing(files, header):
    """Above all not that a delegation has no DS records, which would make its zone insecure."""
    servers = ["sub.miek.nl. 60 IN NS ns.sub.miek.nl."]
    cases: Any = [
        ("nsec", ("x.sub.miek.nl.", "A"), ([], servers, [], {}), ("sub.miek.nl.", "DS")),
        ("nsec", ("sub.miek.nl.", "DS"), ([], [NODATA], [], {}), ("sub.miek.nl.", "NS")),
        ("nsec3", ("x.a.miek.nl.", "A"), ([], [NODATA], [], {"rcode": 3}), ("a.miek.nl.", "A")),
    ]
    for denial, asked, first, second in cases:
        below = Below(more={asked: first, second: ([], [], [], header)})
        reply = ask(handler(files, options=f"denial {denial}"), below, *asked)
        assert (reply.header.rcode, reply.auth) == (2, [])
        assert below.asked[-1][:2] == second


def test_long_chains_of_aliases(monkeypatch):
    """The time is linear in the number of records: each is visited once."""
    records = [
        rr(from_text(f"{it}.miek.nl."), 5, 60, from_text(f"{it + 1}.miek.nl."))
        for it in range(2000)
    ]
    reply = make_request("0.miek.nl.").reply(0, records, [], [])
    found = ReplyRecords(reply)
    visited = []
    monkeypatch.setattr(
        found, "in_section", lambda section: visited.append(section) or iter(found.sets)
    )
    assert found.target(from_text("0.miek.nl.")) == from_text("2000.miek.nl.")
    assert len(visited) == 1


@pytest.mark.parametrize(
    ("answer", "header"),
    [([], {}), ([], {"rcode": 2}), (["miek.nl. 60 IN DNSKEY 257 3 13 AAAA"], {}), ([], {"tc": 1})],
)
def test_keys_over_a_zone_that_is_not_signed(files, answer, header):
    below = Below(answer, **header)
    assert section(ask(handler(files), below, "Miek.nl.", "DNSKEY").rr) == signed(
        "Miek.nl.", "DNSKEY"
    )
    assert below.asked == [("miek.nl.", "DNSKEY", True)]


def test_keys_over_handlers_that_do_not_answer(files, monkeypatch):
    class Silent(Handler):
        name = "silent"

        async def serve_dns(self, request):
            await asyncio.Event().wait()

    monkeypatch.setattr("corepy_dnssec.key_answers.PATIENCE", 0)
    reply = ask(handler(files), Silent(), "miek.nl.", "DNSKEY")
    assert section(reply.rr) == signed("miek.nl.", "DNSKEY")


def test_the_same_keys_below(files):
    """As of a zone that *sign* has signed: there is no problem."""
    made = handler(files)
    keys = [str(it) for it in ask(made, Below(), "miek.nl.", "DNSKEY").rr]
    reply = ask(made, Below(keys), "miek.nl.", "DNSKEY")
    assert [str(it) for it in reply.rr] == keys
    assert made.status()["problems"] == []


def test_directive_without_keys(files):
    (made,) = set_up("dnssec miek.nl").handlers
    assert not ask(made, Below(), "miek.nl.", "DNSKEY").rr


def test_queries_in_flight_share_a_signature(files, monkeypatch):
    """Signatures that take more than the event loop may spend are made in a thread, each once."""
    monkeypatch.setattr("corepy_dnssec.signer.INLINE", 0.0001)
    made = handler(files, "miek.nl", "Krsa", options="cache_capacity 100")
    made.next = Below(["www.miek.nl. 60 IN A 192.0.2.1"], ["miek.nl. 60 IN NS a.b."])
    calls = []
    make = made.signer.make
    made.signer.make = lambda *wanted: calls.append(threading.get_ident()) or make(*wanted)

    async def many():
        requests = [make_request("www.miek.nl.", "A", do=True) for _ in range(20)]
        return await asyncio.gather(*(made.serve_dns(it) for it in requests))

    made._counts_of(make_request("www.miek.nl."))
    before = made.status()["cache"]["misses"]
    replies = asyncio.run(many())
    assert len({it.wire[2:] for it in replies}) == 1
    assert len(calls) == 2
    assert threading.get_ident() not in calls
    assert made.status()["cache"]["misses"] == before + 40
    assert made.explain_state(make_request("www.miek.nl.", "A", do=True))["state"] == "signs"


@pytest.mark.parametrize("denial", ["nsec", "nsec3"])
@pytest.mark.parametrize(
    ("records", "rcode"),
    [
        ((["www.miek.nl. 5 IN A 192.0.2.1"], ["miek.nl. 5 IN NS a.miek.nl."]), 0),
        ((["www.miek.nl. 5 IN CNAME b.a.miek.nl.", "b.a.miek.nl. 5 IN A 192.0.2.1"], []), 0),
        (([], [NODATA]), 0),
        (([], ["hosts. 5 IN SOA ns.hosts. a.hosts. 1 1 1 1 5"]), 3),
    ],
    ids=["servers", "alias", "no data", "made SOA"],
)
def test_messages_are_compressed(files, denial, records, rcode):
    made = handler(files, options=f"denial {denial}")
    request = make_request("www.miek.nl.", do=True)
    wire = run_chain(request, made, Below(*records, rcode=rcode)).wire
    assert len(wire) == len(rebuild(wire))
    assert reply_problem(request, Reply(wire)) is None
    check_records(wire)


def test_a_query_that_is_cancelled(files, monkeypatch):
    """The signature is made all the same, for another query that waits for it."""
    monkeypatch.setattr("corepy_dnssec.signer.INLINE", 0)
    made, name = handler(files, "miek.nl", "Krsa"), "cancelled.miek.nl."
    record = rr(from_text(name), 1, 60, bytes((192, 0, 2, 1)))
    top = link([made, FastBelow(make_request(name).reply(0, [record]))])

    async def two():
        first, second = (top.begin_dns(make_request(name, do=True)) for _ in range(2))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert len(dnslib.DNSRecord.parse(asyncio.run(two()).wire).rr) == 2
    assert not made.signer._jobs


def test_cached_replies_are_renewed(files, monkeypatch):
    made = handler(files)
    below = Below(["www.miek.nl. 60 IN A 192.0.2.1"])
    now = 1_800_000_000

    def expiration_at(days):
        monkeypatch.setattr("time.time", lambda: now + days * 86400)
        (found,) = [it.rdata for it in ask(made, below).rr if it.rtype == RRSIG]
        return (found.sig_exp - now) / 86400

    assert [expiration_at(days) for days in (0, 1, 5.9, 6.1, 0)] == [8, 8, 8, 14.1, 8]


def test_capacity(files):
    made = handler(files, options="cache_capacity 3")
    for number in range(10):
        ask(made, Below([f"x{number}.miek.nl. 60 IN A 192.0.2.1"]), f"x{number}.miek.nl.")
    assert len(made.signer) == 3
    assert len(made._replies) <= 3


def test_too_many_waiting(files, monkeypatch):
    monkeypatch.setattr("corepy_dnssec.signer.INLINE", 0)
    made = handler(files, "miek.nl", "Kzsk")
    monkeypatch.setattr(made.signer._queue, "most", 2)
    made.next = Below()
    rejects = made._counts_of(make_request("x.miek.nl.")).rejects
    before = rejects.value

    async def many():
        names = [f"x{number}.miek.nl." for number in range(8)]
        return await asyncio.gather(
            *(made.serve_dns(make_request(it, "TXT", do=True)) for it in names)
        )

    replies = asyncio.run(many())
    assert {it.rcode for it in replies} == {0, 2}
    refused = [it for it in replies if it.rcode]
    assert all(it.is_momentary for it in refused)
    assert rejects.value == before + len(refused)


@pytest.mark.parametrize("inline", [0, 1])
def test_a_signature_that_fails(files, monkeypatch, inline):
    """plugin/dnssec/dnssec_test.go, TestSignReturnsNilOnError: nothing of it remains."""
    monkeypatch.setattr("corepy_dnssec.signer.INLINE", inline)
    made = handler(files, "miek.nl", "Kzsk")
    made.next = Below()
    make = made.signer.make
    requests = [make_request(f"f{inline}{number}.miek.nl.", do=True) for number in range(3)]

    reports: list[Any] = []

    async def many():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        results = await asyncio.gather(*map(made.serve_dns, requests), return_exceptions=True)
        gc.collect()  # a future whose exception was not read reports it now
        return results

    def fail(wanted, now):
        raise RuntimeError("no signature")

    made.signer.make = fail
    assert [str(it) for it in asyncio.run(many())] == ["no signature"] * 3
    made.signer.make = make
    assert [it.rcode for it in asyncio.run(many())] == [0, 0, 0]
    assert not reports


# -- names in canonical order


@pytest.mark.parametrize(
    "name",
    ["a.miek.nl.", "\\255.miek.nl.", "\\064.miek.nl.", "@.miek.nl.",
     ".".join(["x" * 63] * 3 + ["y" * 53]) + ".miek.nl.", ".".join(["\\255" * 63] * 3 + ["\\255" * 53]) + ".miek.nl."],
    ids=["short", "highest byte", "before letters", "at", "long", "long and highest"],
)  # fmt: skip
def test_names_after_others(name):
    zone, wire = from_text("miek.nl."), from_text(name)
    for function in (name_after, name_after_all_below):
        found = function(wire, zone)
        assert len(found) <= 255
        assert found == zone or canonical_key(found) > canonical_key(wire)
        assert found == found.lower()
    below = b"\1\xff" + wire
    if len(below) <= 255:
        assert canonical_key(name_after_all_below(wire, zone)) > canonical_key(below)


# -- with other plugins


def test_drops_and_series_pass(files):
    made = handler(files)

    class Odd(Handler):
        name = "odd"

        async def serve_dns(self, request):
            return request.drop() if request.type == "A" else request.reply_series([])

    for qtype, transport in (("A", "udp"), ("TXT", "tcp")):
        request = make_request("www.miek.nl.", qtype, do=True, protocol=transport)
        reply = run_chain(request, made, Odd())
        assert reply.is_dropped or reply.series is not None


def test_cache_and_reload(files):
    """Signed and unsigned replies are apart in *cache*; a reload keeps signatures."""

    def text(more=""):
        return (
            f"miek.nl:0 {{\nbind 127.0.0.1\ncache 3600 {{\n{more}\n}}\n"
            f"dnssec {{\nkey file {files}/K\n}}\nfile {files}/db\n}}\n"
        )

    with serve(text()) as server:
        for _ in range(2):
            assert section(server.ask("a.miek.nl.").rr) == ["a.miek.nl. A"]
            reply = server.ask("a.miek.nl.", do=True, edns=4096)
            assert section(reply.rr) == sorted(signed("a.miek.nl.", "A"))
        (before,) = server.plugins(DNSSEC)
        misses = before.status()["cache"]["misses"]
        server.reload(text("prefetch 5"))
        (after,) = server.plugins(DNSSEC)
        assert after is not before
        again = server.ask("a.miek.nl.", do=True, edns=4096)
        assert [it.rdata for it in again.rr] == [it.rdata for it in reply.rr]
        assert after.status()["cache"]["misses"] in (0, misses)


def test_a_signed_zone_stays_as_it_is(files, tmp_path, caplog):
    """Its keys, too: with ours, its signatures would be bogus."""
    (tmp_path / "db").write_text(ZONE)
    for command in (
        "dnssec-keygen -q -a ECDSAP256SHA256 -f KSK miek.nl",
        "dnssec-signzone -S -z -o miek.nl -f signed db",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    plain = f"miek.nl:0 {{\nbind 127.0.0.1\n%s\nfile {tmp_path}/signed\n}}\n"
    with (
        serve(plain % "") as without,
        serve(plain % f"dnssec {{\nkey file {files}/K\n}}") as running,
    ):
        for name, qtype in (("a.miek.nl.", "A"), ("x.miek.nl.", "A"), ("unsigned.miek.nl.", "DS"),
                            ("x.unsigned.miek.nl.", "A"), ("gone.miek.nl.", "A"),
                            ("miek.nl.", "DNSKEY"), ("miek.nl.", "RRSIG"), ("a.miek.nl.", "NSEC")):  # fmt: skip
            for do in (True, False):
                expected, reply = (
                    it.ask(name, qtype, do=do, edns=4096) for it in (without, running)
                )
                assert reply.header.rcode == expected.header.rcode
                assert list(map(str, reply.rr + reply.auth)) == list(
                    map(str, expected.rr + expected.auth)
                )
        (made,) = running.plugins(DNSSEC)
        message = "zone miek.nl. below is signed already, by other keys"
        assert made.status()["problems"] == [message]
        (warning,) = [it.getMessage() for it in caplog.records if message in it.getMessage()]
        assert "the same keys" in warning


# -- replies that no server should send

OWNERS = st.sampled_from(
    [
        from_text(it)
        for it in ("www.miek.nl", "miek.nl", "x.sub.miek.nl", "sub.miek.nl", ".", "a.org")
    ]
)
RDATAS = st.one_of(
    st.just(b""), OWNERS, OWNERS.map(lambda it: it + it + bytes(20)), st.binary(max_size=40)
)
RECORDS = st.lists(
    st.builds(
        lambda owner, rtype, ttl, rdata, rclass: rr(owner, rtype, ttl, rdata, rclass),
        OWNERS,
        st.sampled_from([1, 2, 5, 6, 15, 33, 39, 43, 46, 47, 48, 50, 65, 300]),
        st.sampled_from([0, 60, 2**32 - 1]),
        RDATAS,
        st.sampled_from([1, 1, 1, 3]),
    ),
    max_size=4,
)


class Wild(Handler):
    name = "wild"
    cacheability = Cacheability.SAFE

    def __init__(self, sections, rcode):
        self.given = sections, rcode

    async def serve_dns(self, request):
        (answer, authority, additional), rcode = self.given
        return request.reply(rcode, answer, authority, additional)


@pytest.mark.parametrize("denial", ["nsec", "nsec3"])
def test_any_records_below(files, denial):
    """The server validates replies of handlers, so what passes it must get a valid reply."""
    made = handler(files, options=f"denial {denial}")

    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        st.tuples(RECORDS, RECORDS, RECORDS),
        st.sampled_from([0, 3]),
        st.sampled_from(["A", "DS", "SOA", "NSEC", "ANY", "NS"]),
        st.sampled_from(["www.miek.nl.", "miek.nl.", "b.x.sub.miek.nl."]),
    )
    def check(sections, rcode, qtype, name):
        top = link([made, Wild(sections, rcode)], guarded=True)
        request = make_request(name, qtype, do=True)
        reply = runner.run(top.serve_dns(request))
        reply.validated = None
        assert reply_problem(request, reply) is None
        check_records(reply.wire)

    with asyncio.Runner() as runner:
        check()
