"""Replies: the cases of CoreDNS's plugin/etcd/*_test.go, and those in which RFCs decide otherwise."""

from types import SimpleNamespace

import pytest

from corepy.testing import Recorder, helper_module, make_request
from corepy_etcd.handler import LeaseBounds

copies = helper_module(__file__, "etcd_copy")

SOA = "30 IN SOA ns.dns.skydns.test. hostmaster.skydns.test. 7 7200 1800 86400 30"
DENIAL = [f"skydns.test. {SOA}"]

SERVICES = [
    ("a.server1.dev.region1.skydns.test", {"host": "dev.server1", "port": 8080}),
    ("a.server1.prod.region1.skydns.test", {"host": "10.0.0.1", "port": 8080}),
    ("b.server1.prod.region1.skydns.test", {"host": "10.0.0.2", "port": 8080}),
    ("b.server6.prod.region1.skydns.test", {"host": "::1", "port": 8080}),
    ("a.txt.server1.prod.region1.skydns.test", {"text": "sometext"}),
    ("b.txt.server1.prod.region1.skydns.test", {"text": "moretext"}),
    ("cname.prod.region1.skydns.test", {"host": "unresolvable.skydns.test"}),
    ("priority.skydns.test", {"host": "priority.server1", "priority": 333, "port": 8080}),
    ("a.sub.region1.skydns.test", {"host": "sub.server1", "port": 0}),
    ("b.sub.region1.skydns.test", {"host": "sub.server2", "port": 80}),
    ("c.sub.region1.skydns.test", {"host": "10.0.0.1", "port": 8080}),
    ("a.targetstrip.skydns.test", {"host": "10.0.0.1", "port": 8080, "targetstrip": 1}),
    ("b.cname.skydns.test", {"host": "a.cname.skydns.test"}),
    ("a.cname.skydns.test", {"host": "b.cname.skydns.test"}),
    ("a.ns.dns.skydns.test", {"host": "10.0.0.2"}),
    ("b.ns.dns.skydns.test", {"host": "10.0.0.3"}),
    ("ns1.c.ns.dns.skydns.test", {"host": "10.0.0.4", "targetstrip": 1}),
    ("ns2.c.ns.dns.skydns.test", {"host": "10.0.0.5", "targetstrip": 1}),
    ("x.zonea.test", {"host": "10.0.0.2"}),
    ("y.zonea.test", {"host": "10.0.0.3"}),
    ("x.zoneb.test", {"host": "10.0.0.2"}),
    ("apex.dns.zoneb.test", {"host": "10.0.0.4"}),
    ("x.zoned.test", {"host": "10.0.0.2"}),
    ("a1.apex.dns.zoned.test", {"host": "10.0.0.4"}),
    ("a2.apex.dns.zoned.test", {"host": "10.0.0.5"}),
    ("a3.apex.dns.zoned.test", {"host": "2003::8:1"}),
    ("a4.apex.dns.zoned.test", {"host": "2003::8:2"}),
    ("1.0.0.10.in-addr.arpa", {"host": "reverse.example.com"}),
    # cname_test.go
    ("server2.dev.region1.skydns.test", {"host": "cname1.region2.skydns.test"}),
    ("cname1.region2.skydns.test", {"host": "cname2.region2.skydns.test"}),
    ("cname2.region2.skydns.test", {"host": "endpoint.region2.skydns.test"}),
    ("endpoint.region2.skydns.test", {"host": "10.240.0.1"}),
    ("region2.skydns.test", {"host": "mainendpoint.region2.skydns.test"}),
    ("cname2.region3.skydns.test", {"host": "cname1.region3.skydns.test"}),
    ("cname1.region3.skydns.test", {"host": "endpoint.region3.skydns.test"}),
    ("endpoint.region3.skydns.test", {"text": "SOME-RECORD-TEXT"}),
    # group_test.go
    ("a.dom.skydns.test", {"host": "127.0.0.1", "group": "g1"}),
    ("b.sub.dom.skydns.test", {"host": "127.0.0.2", "group": "g1"}),
    ("a.dom2.skydns.test", {"host": "127.0.0.1", "group": "g1"}),
    ("b.sub.dom2.skydns.test", {"host": "127.0.0.2", "group": ""}),
    ("a.dom1.skydns.test", {"host": "127.0.0.1", "group": "g1"}),
    ("b.sub.dom1.skydns.test", {"host": "127.0.0.2", "group": "g2"}),
    ("a.dom3.skydns.test", {"text": "foo", "group": "g1"}),
    ("b.sub.dom3.skydns.test", {"text": "bar", "group": "g1"}),
    ("a.dom4.skydns.test", {"host": "127.0.0.1", "group": "g1"}),
    ("b.dom4.skydns.test", {"host": "127.0.0.2", "group": "g2"}),
    # other_test.go
    ("a.mail.skydns.test", {"host": "mx.skydns.test", "priority": 50, "mail": True}),
    ("b.mail.skydns.test", {"host": "mx.miek.nl", "priority": 50, "mail": True}),
    ("a.mx.skydns.test", {"host": "a.ipaddr.skydns.test", "priority": 30, "mail": True}),
    ("a.mx2.skydns.test", {"host": "a.ipaddr.skydns.test", "mail": True}),
    ("b.mx2.skydns.test", {"host": "b.ipaddr.skydns.test", "mail": True}),
    ("a.mx3.skydns.test", {"host": "a.ipaddr.skydns.test", "priority": 20, "mail": True}),
    ("b.mx3.skydns.test", {"host": "a.ipaddr.skydns.test", "priority": 30, "mail": True}),
    ("a.mx4.skydns.test", {"host": "172.16.1.9", "mail": True, "targetstrip": 1}),
    ("a.ipaddr.skydns.test", {"host": "172.16.1.1"}),
    ("b.ipaddr.skydns.test", {"host": "172.16.1.2"}),
    ("a1.txt.skydns.test", {"text": "abc"}),
    ("a2.txt.skydns.test", {"text": "abc abc"}),
    ("http.multiport.http.skydns.test", {"host": "10.11.11.10", "port": 80}),
    ("https.multiport.http.skydns.test", {"host": "10.11.11.10", "port": 443}),
    ("mx.skydns.test", {"host": "a.ipaddr.skydns.test"}),
]
ZONES = [
    "skydns.test.",
    "extra.test.",
    "zonea.test.",
    "zoneb.test.",
    "zoned.test.",
    "in-addr.arpa.",
]


@pytest.fixture(scope="module")
def handler():
    return copies.etcd_with(SERVICES, ZONES)


def answer(handler, name, qtype, **options):
    """The sections of a reply in canonical order; its rcode instead of an empty answer."""
    reply = copies.ask(handler, name, qtype, **options)
    assert reply.aa or reply.rcode not in (0, 3)
    records, authority, additional = copies.sections(reply)
    if reply.rcode or not records:
        assert not additional
        return reply.rcode, authority, sorted(records)
    return sorted(records), authority, sorted(additional)


def records(owner, qtype, *rdatas, ttl=300):
    return sorted(f"{owner} {ttl} IN {qtype} {rdata}" for rdata in rdatas)


A_SERVER1 = "a.server1.prod.region1.skydns.test."
B_SERVER1 = "b.server1.prod.region1.skydns.test."
B_SERVER6 = "b.server6.prod.region1.skydns.test."
ADDRESSES = [
    *records(A_SERVER1, "A", "10.0.0.1"),
    *records(B_SERVER1, "A", "10.0.0.2"),
    *records(B_SERVER6, "AAAA", "::1"),
]
IN_PROD = [f"10 25 8080 {it}" for it in (A_SERVER1, B_SERVER1, B_SERVER6)]
IN_PROD.append("10 25 0 unresolvable.skydns.test.")
SUB = "sub.region1.skydns.test."
ALL = [
    *("10 12 0 sub.server1.", "10 12 0 unresolvable.skydns.test.", "10 12 80 sub.server2."),
    *(f"10 12 8080 {it}" for it in (A_SERVER1, B_SERVER1, B_SERVER6, f"c.{SUB}", "dev.server1.")),
]


@pytest.mark.parametrize(
    ("name", "qtype", "rdatas", "additional"),
    [
        ("a.server1.dev.region1.skydns.test.", "SRV", ["10 100 8080 dev.server1."], []),
        ("a.SERVer1.dEv.region1.skydns.tEst.", "SRV", ["10 100 8080 dev.server1."], []),
        (A_SERVER1, "A", ["10.0.0.1"], []),
        (A_SERVER1, "SRV", [f"10 100 8080 {A_SERVER1}"], records(A_SERVER1, "A", "10.0.0.1")),
        (B_SERVER6, "AAAA", ["::1"], []),
        ("server1.prod.region1.skydns.test.", "A", ["10.0.0.1", "10.0.0.2"], []),
        ("priority.skydns.test.", "SRV", ["333 100 8080 priority.server1."], []),
        (
            SUB, "SRV",
            ["10 33 0 sub.server1.", "10 33 80 sub.server2.", f"10 33 8080 c.{SUB}"],
            records(f"c.{SUB}", "A", "10.0.0.1"),
        ),
        (
            "targetstrip.skydns.test.", "SRV", ["10 100 8080 targetstrip.skydns.test."],
            records("targetstrip.skydns.test.", "A", "10.0.0.1"),
        ),
        ("txt.server1.prod.region1.skydns.test.", "TXT", ['"moretext"', '"sometext"'], []),
        ("prod.*.skydns.test.", "SRV", IN_PROD, ADDRESSES),
        ("prod.any.skydns.test.", "SRV", IN_PROD, ADDRESSES),
        ("ns.dns.skydns.test.", "A", ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"], []),
        ("zonea.test.", "A", ["10.0.0.2", "10.0.0.3"], []),
        ("zoneb.test.", "A", ["10.0.0.4"], []),
        ("zoned.test.", "A", ["10.0.0.4", "10.0.0.5"], []),
        ("zoned.test.", "AAAA", ["2003::8:1", "2003::8:2"], []),
        ("1.0.0.10.in-addr.arpa.", "PTR", ["reverse.example.com."], []),
        ("region2.skydns.test.", "CNAME", ["mainendpoint.region2.skydns.test."], []),
        ("dom.skydns.test.", "A", ["127.0.0.1", "127.0.0.2"], []),
        ("dom2.skydns.test.", "A", ["127.0.0.1", "127.0.0.2"], []),
        ("dom1.skydns.test.", "A", ["127.0.0.1"], []),
        ("dom3.skydns.test.", "TXT", ['"bar"', '"foo"'], []),
        ("dom4.skydns.test.", "A", ["127.0.0.1", "127.0.0.2"], []),
        (
            "a.mail.skydns.test.", "MX", ["50 mx.skydns.test."],
            [
                "a.ipaddr.skydns.test. 300 IN A 172.16.1.1",
                "mx.skydns.test. 300 IN CNAME a.ipaddr.skydns.test.",
            ],
        ),
        (
            "mx2.skydns.test.", "MX", ["10 a.ipaddr.skydns.test.", "10 b.ipaddr.skydns.test."],
            [
                *records("a.ipaddr.skydns.test.", "A", "172.16.1.1"),
                *records("b.ipaddr.skydns.test.", "A", "172.16.1.2"),
            ],
        ),
        (
            "mx3.skydns.test.", "MX", ["20 a.ipaddr.skydns.test.", "30 a.ipaddr.skydns.test."],
            records("a.ipaddr.skydns.test.", "A", "172.16.1.1"),
        ),
        (
            "mx4.skydns.test.", "MX", ["10 mx4.skydns.test."],
            records("mx4.skydns.test.", "A", "172.16.1.9"),
        ),
        ("a1.txt.skydns.test.", "TXT", ['"abc"'], []),
        ("a2.txt.skydns.test.", "TXT", ['"abc abc"'], []),
        ("multiport.http.skydns.test.", "A", ["10.11.11.10"], []),
    ],
)  # fmt: skip
def test_answers(handler, name, qtype, rdatas, additional):
    assert answer(handler, name, qtype) == (records(name, qtype, *rdatas), [], additional)


def test_the_servers_of_a_zone(handler):
    servers = [f"{letter}.ns.dns.skydns.test." for letter in "abc"]
    additional = [
        *records(servers[0], "A", "10.0.0.2"),
        *records(servers[1], "A", "10.0.0.3"),
        *records(servers[2], "A", "10.0.0.4", "10.0.0.5"),
    ]
    found = answer(handler, "skydns.test.", "NS")
    assert found == (records("skydns.test.", "NS", *servers), [], additional)


def test_a_pattern_for_a_label(handler):
    found, _, additional = answer(handler, "*.region1.skydns.test.", "SRV")
    more = "*.region1.skydns.test. 300 IN SRV 10 11 0 cname1.region2.skydns.test."
    expected = [
        it.replace("10 12", "10 11") for it in records("*.region1.skydns.test.", "SRV", *ALL)
    ]
    assert found == sorted([*expected, more])
    assert handler.source.patterns[-1] == b"\1*\7region1\6skydns\4test\0"
    assert records(f"c.{SUB}", "A", "10.0.0.1")[0] in additional


@pytest.mark.parametrize(
    ("name", "qtype", "rcode"),
    [
        ("doesnotexist.skydns.test.", "A", 3),
        ("a.server1.nonexistent.region1.skydns.test.", "HINFO", 3),
        ("a.skydns.test.", "NS", 3),
        ("nothing.*.skydns.test.", "A", 3),
        ("a.server1.dev.region1.skydns.test.", "HINFO", 0),
        ("a.server1.dev.region1.skydns.test.", "MX", 0),
        ("endpoint.region3.skydns.test.", "CNAME", 0),
        ("endpoint.region3.skydns.test.", "A", 0),
        # Where CoreDNS denies a name that exists (RFC 8020), or answers for another one.
        ("dom.skydns.test.", "CNAME", 0),
        ("dom.skydns.test.", "PTR", 0),
        ("dom.skydns.test.", "SOA", 0),
        ("nowhere.skydns.test.", "SOA", 3),
    ],
)
def test_denials(handler, name, qtype, rcode):
    assert answer(handler, name, qtype) == (rcode, DENIAL, [])


@pytest.mark.parametrize("qtype", ["A", "NS", "MX", "SRV", "TXT", "CNAME", "PTR", "DS"])
def test_the_name_of_a_zone_always_exists(handler, qtype):
    soa = SOA.replace("skydns.test", "extra.test")
    assert answer(handler, "extra.test.", qtype) == (0, [f"extra.test. {soa}"], [])
    assert answer(handler, "extra.test.", "SOA") == ([f"extra.test. {soa}"], [], [])


def test_aliases_are_followed_in_order(handler):
    reply = copies.ask(handler, "server2.dev.region1.skydns.test.", "A")
    assert copies.sections(reply) == (
        [
            "server2.dev.region1.skydns.test. 300 IN CNAME cname1.region2.skydns.test.",
            "cname1.region2.skydns.test. 300 IN CNAME cname2.region2.skydns.test.",
            "cname2.region2.skydns.test. 300 IN CNAME endpoint.region2.skydns.test.",
            "endpoint.region2.skydns.test. 300 IN A 10.240.0.1",
        ],
        [],
        [],
    )
    reply = copies.ask(handler, "server2.dev.region1.skydns.test.", "SRV")
    (answers, _, additional) = copies.sections(reply)
    assert answers == [
        "server2.dev.region1.skydns.test. 300 IN SRV 10 100 0 cname1.region2.skydns.test."
    ]
    assert additional[-1] == "endpoint.region2.skydns.test. 300 IN A 10.240.0.1"
    assert len(additional) == 4 - 1


def test_texts_of_aliases(handler):
    reply = copies.ask(handler, "cname2.region3.skydns.test.", "TXT")
    assert copies.sections(reply)[0] == [
        "cname2.region3.skydns.test. 300 IN CNAME cname1.region3.skydns.test.",
        "cname1.region3.skydns.test. 300 IN CNAME endpoint.region3.skydns.test.",
        'endpoint.region3.skydns.test. 300 IN TXT "SOME-RECORD-TEXT"',
    ]


def test_an_alias_of_a_missing_name_is_answered_with_the_denial(handler):
    """RFC 6604 section 3; CoreDNS answers NODATA without the alias."""
    alias = "cname.prod.region1.skydns.test. 300 IN CNAME unresolvable.skydns.test."
    assert answer(handler, "cname.prod.region1.skydns.test.", "A") == (3, DENIAL, [alias])


def test_a_loop_of_aliases_is_answered_once(handler):
    assert answer(handler, "a.cname.skydns.test.", "A")[0] == [
        "a.cname.skydns.test. 300 IN CNAME b.cname.skydns.test.",
        "b.cname.skydns.test. 300 IN CNAME a.cname.skydns.test.",
    ]


@pytest.mark.parametrize("size", [254, 255, 256, 400, 600, 2000])
def test_long_texts(size):
    handler = copies.etcd_with([("t.skydns.test", {"text": "0" * size})])
    reply = copies.ask(handler, "t.skydns.test.", "TXT")
    assert b"".join(reply.record.rr[0].rdata.data) == b"0" * size


# -- external-dns


def test_as_external_dns_writes_it():
    """provider/coredns/coredns.go: a random label below the name, the registry's text beside."""
    registry = '"heritage=external-dns,external-dns/owner=default"'
    handler = copies.etcd_with(
        [
            (
                "1a2b3c4d.www.skydns.test",
                {"host": "192.0.2.1", "text": registry, "ttl": 60, "targetstrip": 1, "owner": "x"},
            ),
            ("5e6f7a8b.www.skydns.test", {"host": "192.0.2.2", "ttl": 60, "targetstrip": 1}),
            ("0badcafe.alias.skydns.test", {"host": "www.skydns.test", "targetstrip": 1, "text": registry}),
            ("4.3.2.1.in-addr.arpa", {"host": "www.skydns.test"}),
            ("6.3.2.1.in-addr.arpa", {"text": registry}),
            ("deadbeef.5.3.2.1.in-addr.arpa", {"host": "hashed.skydns.test", "targetstrip": 1}),
            ("9c9c9c9c.a-www.skydns.test", {"text": registry, "targetstrip": 1}),
        ],
        ["skydns.test.", "in-addr.arpa."],
    )  # fmt: skip
    www = records("www.skydns.test.", "A", "192.0.2.1", "192.0.2.2", ttl=60)
    text = f'"{registry}"'  # dnslib does not escape the quotes
    assert answer(handler, "www.skydns.test.", "A") == (www, [], [])
    assert answer(handler, "www.skydns.test.", "TXT")[0] == records(
        "www.skydns.test.", "TXT", text, ttl=60
    )
    assert answer(handler, "www.skydns.test.", "SRV")[0] == [
        "www.skydns.test. 60 IN SRV 10 100 0 www.skydns.test."
    ]
    assert answer(handler, "a-www.skydns.test.", "TXT")[0] == records(
        "a-www.skydns.test.", "TXT", text
    )
    alias = "alias.skydns.test. 300 IN CNAME www.skydns.test."
    assert answer(handler, "alias.skydns.test.", "A")[0] == sorted([alias, *www])
    assert answer(handler, "alias.skydns.test.", "CNAME")[0] == [alias]
    assert answer(handler, "alias.skydns.test.", "TXT")[0] == records(
        "alias.skydns.test.", "TXT", text
    )
    assert answer(handler, "alias.skydns.test.", "SRV")[0] == [
        "alias.skydns.test. 300 IN SRV 10 100 0 www.skydns.test."
    ]
    for last, target in (("4", "www"), ("5", "hashed")):
        name = f"{last}.3.2.1.in-addr.arpa."
        assert answer(handler, name, "PTR")[0] == records(name, "PTR", f"{target}.skydns.test.")
    assert answer(handler, "6.3.2.1.in-addr.arpa.", "PTR")[0] == 0


# -- the handler


def test_fallthrough():
    handler = copies.etcd_with(SERVICES, fallthrough=["fall.skydns.test."])
    below = Recorder()
    for name, qtype in [
        ("x.fall.skydns.test.", "A"),
        ("a.example.", "A"),
        ("fall.skydns.test.", "SOA"),
    ]:
        copies.ask(handler, name, qtype, below)
    assert [request.name for request in below.requests] == [
        *("x.fall.skydns.test.", "a.example.", "fall.skydns.test.")
    ]
    assert answer(handler, "nofall.skydns.test.", "A", below=below)[0] == 3
    assert answer(handler, "dom.skydns.test.", "HINFO", below=below)[0] == 0


def test_no_answer_before_the_services_are_known():
    handler = copies.etcd_with(SERVICES)
    handler.source.is_synced = False
    reply = copies.ask(handler, A_SERVER1)
    assert reply.rcode == 2
    assert not handler.ready()
    assert handler.inputs is None


def test_status_and_explain():
    handler = copies.etcd_with(
        [("a.skydns.test", {"host": "10.0.0.1"}), ("b.skydns.test", {"ttl": -1})]
    )
    assert handler.status() == {"state": "synced", "problems": [], "keys": 1, "ignored": 1}
    found = {"zone": "skydns.test.", "keys": 1}
    for name, state in {
        "a.skydns.test.": {"state": "found", "name": "a.skydns.test.", "services": 1} | found,
        "b.skydns.test.": {"state": "no such name", "name": "b.skydns.test.", "services": 0}
        | found,
        "a.example.": {"state": "the name is outside its zones"},
    }.items():
        assert handler.explain_state(make_request(name)) == state
    handler.source.store.problem = "some are left out"
    handler.source.watcher = SimpleNamespace(problem="refused", endpoint="http://a", revision=5)
    status = handler.status()
    assert status["problems"] == ["some are left out", "refused"]
    assert (status["endpoint"], status["revision"]) == ("http://a", 5)
    handler.source.is_synced = False
    assert handler.status()["state"] == "not synced"
    state = handler.explain_state(make_request("a.skydns.test."))
    assert state == {"state": "not synced", "zone": "skydns.test."}
    handler.source = None
    assert handler.status() is None


@pytest.mark.parametrize(("qtype", "flags"), [("AXFR", {}), ("IXFR", {}), ("SOA", {"opcode": 4})])
def test_transfers_and_notifications_are_refused(handler, qtype, flags):
    assert copies.ask(handler, "skydns.test.", qtype, **flags).rcode == 5


def test_replies_are_repeated_for_a_second(handler):
    reply = copies.ask(handler, A_SERVER1)
    assert (reply.since, reply.deadline) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("lease", "left", "ttl", "expected"),
    [
        (0, None, None, 300),
        (0, None, 5, 5),
        (9, None, None, 30),  # not asked for yet
        (9, 120, None, 119),
        (9, 120, 60, 60),
        (9, 10, None, 30),
        (9, 10, 5, 5),
        (9, 10**9, None, 600),
    ],
)
def test_ttls_of_leases(monkeypatch, lease, left, ttl, expected):
    monkeypatch.setattr("corepy_etcd.handler.time.monotonic", lambda: 1000.5)
    handler = copies.etcd_with([], bounds=LeaseBounds(30, 600))
    store = handler.source.store
    members = {"host": "10.0.0.1"} | ({"ttl": ttl} if ttl else {})
    copies.fill(store, [("a.skydns.test", members)], lease)
    if left is not None:
        store.leases.checked(lease, 1000.0, left, 10**9)
    assert answer(handler, "a.skydns.test.", "A")[0] == records(
        "a.skydns.test.", "A", "10.0.0.1", ttl=expected
    )
