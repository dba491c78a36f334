"""What a client gets: the cases of plugin/dns64/dns64_test.go, RFC 6147, and the faults of CoreDNS."""

import dnslib
import pytest

from corepy.dns import Reply
from corepy.plugin import Cacheability, Handler
from corepy.testing import (
    Recorder,
    Upstream,
    make_request,
    query,
    reply_of,
    run_chain,
    serve,
    set_up,
    with_handlers,
)
from corepy.testing.client import exchange
from corepy_dns64.metrics import TRANSLATED

NAME = "www.example.com."
SOA = "example.com. 70 IN SOA foo. bar. 1 1 1 1 1"
A = [f"{NAME} 60 IN A 192.0.2.42", f"{NAME} 5000 IN A 192.0.2.43"]
AAAA = [f"{NAME} 60 IN AAAA 2001:db8::1", f"{NAME} 5000 IN AAAA 2001:db8::2"]
MAPPED = f"{NAME} 60 IN AAAA ::ffff:c000:201"
ALIAS = f"{NAME} 90 IN CNAME target.example.com."
SIGNED_A = f"{NAME} 60 IN RRSIG A 8 3 60 20300101000000 20200101000000 1 example.com. AAAA"
SIGNED_AAAA = SIGNED_A.replace("RRSIG A ", "RRSIG AAAA ")
SIGNED_ALIAS = SIGNED_A.replace("RRSIG A ", "RRSIG CNAME ")
GLUE = "ns.example.com. 300 IN A 192.0.2.53"
MADE = [f"{NAME} 60 IN AAAA 64:ff9b::c000:22a", f"{NAME} 70 IN AAAA 64:ff9b::c000:22b"]
MADE_WITHOUT_SOA = [MADE[0], f"{NAME} 600 IN AAAA 64:ff9b::c000:22b"]


def message(answer=(), authority=(), additional=(), **header):
    """A function that makes this reply."""

    values = {"aa": 0, **header}

    def reply(request):
        question = dnslib.DNSRecord.parse(request.wire)
        return Reply.from_wire(reply_of(question, answer, authority, additional, **values))

    return reply


NODATA = message([], [SOA])
ADDRESSES = message(A)


class Zone(Handler):
    """Answers by type; its replies may be repeated for a minute if `keep` is set."""

    name = "zone"
    keep = 0.0

    def __init__(self, replies):
        self.replies = replies
        self.asked = []
        self.cacheability = Cacheability.SETS_DEADLINE
        self.hits = 0

    async def serve_dns(self, request):
        self.asked.append(request.type)
        reply = self.replies[request.type](request)
        if self.keep:
            reply.deadline = request.received + self.keep
            reply.since = request.received
            reply.hit_counters = (self,)
        return reply

    def count_hits(self, times):
        self.hits += times


def serve_zone(directive="dns64", host="::1", above="", **replies):
    """Run a server with *dns64* above a handler that answers by type."""
    plugins = with_handlers(zone=lambda: Zone(replies))
    bound = f"bind {host}\n" if host else ""
    return serve(
        f".:0 {{\n{bound}{above}\n{directive}\nzone\n}}\n",
        plugins=plugins,
        order="zone after cache",
    )


def ask(server, name=NAME, qtype="AAAA", **options):
    return server.ask(name, qtype, **options)


def lines(records):
    return [str(record).replace("\t", " ") for record in records]


def listed(texts):
    return [line for text in texts for line in lines(dnslib.RR.fromZone(text))]


def answer(reply):
    return sorted(" ".join(line.split()) for line in lines(reply.rr))


def expect(texts):
    return sorted(" ".join(line.split()) for line in listed(texts))


@pytest.mark.parametrize(
    ("aaaa", "a", "rcode", "expected", "asked"),
    [
        # plugin/dns64/dns64_test.go, TestDNS64
        (NODATA, ADDRESSES, 0, MADE, ["AAAA", "A"]),
        (NODATA, NODATA, 0, [], ["AAAA", "A"]),
        (message(rcode=5), ADDRESSES, 0, MADE_WITHOUT_SOA, ["AAAA", "A"]),
        (message([], [SOA], rcode=3), ADDRESSES, 3, [], ["AAAA"]),
        (message(AAAA), ADDRESSES, 0, AAAA, ["AAAA"]),
        # RFC 6147 section 5.1.2: any other error is like no records ...
        (message(rcode=2), ADDRESSES, 0, MADE_WITHOUT_SOA, ["AAAA", "A"]),
        (message(rcode=4), ADDRESSES, 0, MADE_WITHOUT_SOA, ["AAAA", "A"]),
        # ... but it is passed on if there is no A record either. CoreDNS answers NOERROR.
        (message(rcode=2), message(rcode=2), 2, [], ["AAAA", "A"]),
        (message(rcode=5), message(rcode=5), 5, [], ["AAAA", "A"]),
        (message(rcode=4), NODATA, 4, [], ["AAAA", "A"]),
        (message(rcode=2), message(rcode=3), 2, [], ["AAAA", "A"]),
        (NODATA, message(rcode=2), 2, [], ["AAAA", "A"]),
        (NODATA, message(rcode=5), 5, [], ["AAAA", "A"]),
        (NODATA, message([], [SOA], rcode=3), 0, [], ["AAAA", "A"]),
        # section 5.1.4
        (message([MAPPED]), ADDRESSES, 0, MADE_WITHOUT_SOA, ["AAAA", "A"]),
        (message([MAPPED, *AAAA]), ADDRESSES, 0, AAAA, ["AAAA"]),
        (message([SIGNED_AAAA, AAAA[0], MAPPED]), ADDRESSES, 0, AAAA[:1], ["AAAA"]),
        (message([MAPPED]), NODATA, 0, [], ["AAAA", "A"]),
        # section 5.1.5
        (
            message([ALIAS], [SOA]),
            message([ALIAS, "target.example.com. 5000 IN A 192.0.2.42"]),
            0,
            [ALIAS, "target.example.com. 70 IN AAAA 64:ff9b::c000:22a"],
            ["AAAA", "A"],
        ),
        (message([ALIAS], [SOA]), message([ALIAS], [SOA]), 0, [ALIAS], ["AAAA", "A"]),
        # signatures of what is replaced do not fit
        (NODATA, message([ALIAS, SIGNED_ALIAS, *A, SIGNED_A]), 0, [ALIAS, SIGNED_ALIAS, *MADE],
         ["AAAA", "A"]),
        # a TTL of 2^31 or more is 0 (RFC 2181 section 8)
        (NODATA, message([f"{NAME} 2147483648 IN A 192.0.2.42"]), 0,
         [f"{NAME} 0 IN AAAA 64:ff9b::c000:22a"], ["AAAA", "A"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tcp", [False, True])
def test_outcomes(aaaa, a, rcode, expected, asked, tcp):
    with serve_zone(AAAA=aaaa, A=a) as server:
        reply = ask(server, tcp=tcp)
        assert (reply.header.rcode, answer(reply)) == (rcode, expect(expected))
        (zone,) = server.plugins(Zone)
        assert zone.asked == asked
        assert str(reply.q.qname) == NAME
        assert reply.header.ra


def test_truncated():
    """plugin/dns64/dns64_test.go: a truncated reply to the A query."""
    with serve_zone(AAAA=NODATA, A=message(A, tc=1)) as server:
        reply = ask(server)
        assert (reply.header.tc, reply.header.aa, answer(reply)) == (1, 0, expect(MADE))


@pytest.mark.parametrize("aaaa", [NODATA, message(AAAA), message(rcode=2)])
def test_translate_all(aaaa):
    with serve_zone("dns64 {\ntranslate_all\n}", AAAA=aaaa, A=ADDRESSES) as server:
        assert answer(ask(server)) == expect(MADE if aaaa is NODATA else MADE_WITHOUT_SOA)


def test_translate_all_without_a_records():
    """As in CoreDNS, existing AAAA records are not sent."""
    none = message([], [SOA], aa=1, ra=0)
    with serve_zone("dns64 {\ntranslate_all\n}", AAAA=message(AAAA), A=none) as server:
        reply = ask(server)
        assert (reply.header.rcode, reply.rr, len(reply.auth)) == (0, [], 1)
        assert reply.header.aa  # glibc asks again after an empty reply without AA and RA


def test_the_other_sections_are_those_of_the_a_reply():
    delegation = message(A, ["example.com. 300 IN NS ns.example.com."], [GLUE], aa=1, ad=1)
    with serve_zone(AAAA=NODATA, A=delegation) as server:
        reply = ask(server, do=True)
        assert " ".join(str(reply.auth[0]).split()) == "example.com. 300 IN NS ns.example.com."
        assert [" ".join(str(it).split()) for it in reply.ar[:-1]] == [GLUE]
        header = reply.header
        assert (header.ra, header.aa, header.ad, header.rd) == (1, 0, 0, 1)


@pytest.mark.parametrize(
    ("options", "is_translated"),
    [
        ({}, True),
        ({"do": True}, True),
        ({"cd": 1}, True),
        ({"edns": 1232, "cd": 1}, True),
        ({"do": True, "cd": 1}, False),
    ],
)
def test_clients_that_validate(options, is_translated):
    """RFC 6147 section 5.5: no synthesis if DO and CD are set."""
    with serve_zone(AAAA=NODATA, A=ADDRESSES) as server:
        assert answer(ask(server, **options)) == (expect(MADE) if is_translated else [])


def test_other_types_and_classes_pass():
    with serve_zone(AAAA=NODATA, A=ADDRESSES, MX=NODATA) as server:
        assert answer(ask(server, qtype="A")) == expect(A)
        assert not ask(server, qtype="MX").rr
        (zone,) = server.plugins(Zone)
        assert zone.asked == ["A", "MX"]


def test_other_classes_pass():
    (handler,) = set_up("dns64").handlers
    request = make_request(NAME, "AAAA", peer=("2001:db8::1", 53))
    request.qclass = 3
    below = Recorder(NODATA)
    assert not run_chain(request, handler, below).ancount
    assert len(below.requests) == 1


def test_the_letters_of_the_name_are_the_client_s():
    with serve_zone(
        AAAA=message([], [SOA]), A=lambda q: message([f"{q.qname} 60 IN A 192.0.2.42"])(q)
    ) as server:
        reply = ask(server, "wWw.Example.COM.")
        assert str(reply.rr[0].rname) == "wWw.Example.COM."


def test_metric():
    with serve_zone(AAAA=NODATA, A=ADDRESSES, MX=NODATA) as server:
        (endpoint,) = server.server.endpoints.values()
        translated = TRANSLATED.labels(endpoint.label)
        before = translated.value  # an earlier server may have had this port
        for qtype in ("AAAA", "A", "AAAA", "MX"):
            ask(server, qtype=qtype)
        assert translated.value - before == 2


# -- clients over IPv4


@pytest.mark.parametrize(
    ("directive", "host", "is_translated"),
    [
        ("dns64", "127.0.0.1", False),
        ("dns64", "", False),
        ("dns64 {\nallow_ipv4\n}", "127.0.0.1", True),
        ("dns64 {\nallow_ipv4\n}", "", True),
        ("dns64 {\nallow_ipv4\n}", "::1", True),
    ],
)
def test_families(directive, host, is_translated):
    with serve_zone(directive, host, AAAA=NODATA, A=ADDRESSES) as server:
        for tcp in (False, True):
            assert answer(ask(server, tcp=tcp)) == (expect(MADE) if is_translated else [])


PACKED = query(NAME, "AAAA")


def data(reply):
    """The records without their TTLs, which the packet cache lowers if a second passes."""
    return sorted(f"{it.rname} {it.rtype} {it.rdata}" for it in reply.rr)


def from_family(server, family):
    """Ask the same bytes over one family at a dual-stack socket."""
    address = ("127.0.0.1" if family == 4 else "::1", server.address[1])
    return dnslib.DNSRecord.parse(exchange(address, PACKED))


@pytest.mark.parametrize(
    "directive", ["dns64", "dns64 {\ntranslate_all\n}", "dns64 {\nallow_ipv4\n}"]
)
@pytest.mark.parametrize("aaaa", [NODATA, message(AAAA), message([MAPPED]), message(rcode=3)])
def test_the_packet_cache_of_a_dual_stack_socket(directive, aaaa):
    """Clients of each family get what they would get alone, in whatever order they ask."""
    alone = {}
    for family in (4, 6):
        with serve_zone(directive, "", AAAA=aaaa, A=ADDRESSES) as server:
            reply = from_family(server, family)
            alone[family] = (reply.header.rcode, data(reply))
    for families in ((4, 4, 4, 6, 6, 6, 4), (6, 6, 6, 4, 4, 4, 6)):
        with serve_zone(directive, "", AAAA=aaaa, A=ADDRESSES) as server:
            (zone,) = server.plugins(Zone)
            zone.keep = 60.0
            for family in families:
                reply = from_family(server, family)
                assert (reply.header.rcode, data(reply)) == alone[family]


@pytest.mark.parametrize(
    ("directive", "host", "asked"),
    [
        ("dns64", "::1", 2),
        ("dns64", "::", 2),
        ("dns64 {\nallow_ipv4\n}", "127.0.0.1", 2),
        ("dns64", "", 8),
        ("dns64 {\nallow_ipv4\n}", "", 2),
    ],
)
def test_the_packet_cache_repeats_a_translation(directive, host, asked):
    """It does where every client gets the same, as long as both replies may be repeated."""
    with serve_zone(directive, host, AAAA=NODATA, A=ADDRESSES) as server:
        (zone,) = server.plugins(Zone)
        zone.keep = 60.0
        family = 4 if host == "127.0.0.1" else 6
        (endpoint,) = server.server.endpoints.values()
        translated = TRANSLATED.labels(endpoint.label)
        before = translated.value
        for _ in range(4):
            made = [f"{NAME} 28 64:ff9b::c000:22a", f"{NAME} 28 64:ff9b::c000:22b"]
            assert data(from_family(server, family)) == made
        assert len(zone.asked) == asked
        server.call(endpoint.forget)
        assert zone.hits == (6 if asked == 2 else 0)  # both replies were repeated three times
        assert translated.value - before == 4


@pytest.mark.parametrize(("host", "asked"), [("127.0.0.1", 1), ("0.0.0.0", 1), ("", 4)])
def test_the_packet_cache_repeats_what_clients_over_ipv4_get(host, asked):
    """It does at a socket for IPv4 only, where no client gets a translation."""
    with serve_zone("dns64", host, AAAA=NODATA, A=ADDRESSES) as server:
        (zone,) = server.plugins(Zone)
        zone.keep = 60.0
        for _ in range(4):
            assert answer(from_family(server, 4)) == []
        assert len(zone.asked) == asked


def test_a_translation_ends_with_the_first_of_both_replies():
    (handler,) = set_up("dns64 {\nallow_ipv4\n}").handlers
    request = make_request(NAME, "AAAA")
    reply, aaaa, a = (request.error(0) for _ in range(3))
    aaaa.deadline, aaaa.since, aaaa.hit_counters = 20.0, 5.0, ("first",)
    a.deadline, a.since, a.hit_counters = 30.0, 4.0, ("second",)
    combined = handler._combined(request, reply, aaaa, a)
    assert (combined.deadline, combined.since) == (20.0, 5.0)
    assert combined.hit_counters == ("first", "second")
    a.deadline = None
    assert handler._combined(request, reply, aaaa, a).deadline is None


# -- failures


def test_dropped_queries():
    def drop(request):
        return request.drop()

    with serve_zone(AAAA=drop, A=ADDRESSES) as server:
        assert server.drops(NAME, "AAAA")
        assert server.plugins(Zone)[0].asked == ["AAAA"]
    with serve_zone(AAAA=NODATA, A=drop) as server:
        assert server.drops(NAME, "AAAA")
        assert server.drops(NAME, "AAAA", tcp=True)


def momentary(request):
    reply = request.error(2)
    reply.is_momentary = True
    return reply


def test_a_server_under_load_gets_no_second_query():
    with serve_zone(AAAA=momentary, A=ADDRESSES) as server:
        assert ask(server).header.rcode == 2
        assert server.plugins(Zone)[0].asked == ["AAAA"]


def broken(request):
    """An A record of three bytes, which a third party's handler might make."""
    reply = request.error(0)
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\3\1\2\3"
    reply.wire = reply.wire[:6] + b"\0\1" + reply.wire[8:] + record
    return reply


def test_records_that_cannot_be_read(caplog):
    with serve_zone(AAAA=NODATA, A=broken, above="errors") as server:
        assert ask(server).header.rcode == 2
    assert "plugin/dns64: a reply that it has to translate is malformed" in caplog.text
    assert "Traceback" not in caplog.text


def test_records_without_an_address():
    def empty(request):
        reply = message(A)(request)
        reply.wire = reply.wire[:6] + b"\0\1" + reply.wire[8 : request.question_end]
        reply.wire += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\0"
        return reply

    with serve_zone(AAAA=NODATA, A=empty) as server:
        assert (ask(server).header.rcode, ask(server).rr) == (0, [])


def test_more_addresses_than_a_message_holds():
    many = [f"{NAME} 60 IN A 10.0.{n >> 8}.{n & 255}" for n in range(3000)]
    with serve_zone(AAAA=NODATA, A=message(many)) as server:
        reply = ask(server, tcp=True)
        assert 2000 < len(reply.rr) < 3000
        assert reply.header.tc


def test_without_a_server():
    (handler,) = set_up("dns64").handlers
    request = make_request(NAME, "AAAA", peer=("2001:db8::1", 53))
    reply = run_chain(request, handler, Recorder(NODATA))
    assert (reply.rcode, reply.error) == (2, "plugin/dns64: too many nested look-ups")


def test_an_upstream_that_answers_later():
    """*forward* below *cache* answers in a callback."""
    zone = {f"{NAME} A": A, f"{NAME} AAAA": []}
    with Upstream(zone) as upstream:
        text = f".:0 {{\nbind ::1\ndns64\ncache\nforward . {upstream.to}\n}}\n"
        with serve(text) as server:
            for _ in range(3):
                assert len(ask(server).rr) == 2


def test_two_of_them_in_one_process():
    """A reload changes the prefix."""
    with serve_zone(AAAA=NODATA, A=ADDRESSES) as server:
        assert answer(ask(server)) == expect(MADE)
        server.reload(".:0 {\nbind ::1\ndns64 64:1::/96\ntemplate IN AAAA {\n}\n"
                      'template IN A {\nanswer "{{ .Name }} 9 IN A 192.0.2.42"\n}\n}\n')  # fmt: skip
        assert answer(ask(server)) == expect([f"{NAME} 9 IN AAAA 64:1::c000:22a"])


CLUSTER = """\
.:0 {{
    errors
    cache {{
        success 9984 30
        denial 9984 5
    }}
    reload
    loop
    bind ::1
    dns64
    prometheus 127.0.0.1:0
    forward . {upstream}
    loadbalance
}}
"""


def test_the_cache_of_a_node_without_ipv4():
    """As in a cluster without IPv4 (kops): its own names have AAAA records, the others mostly not."""
    records = {
        "db.cluster.local. AAAA": ["db.cluster.local. 30 IN AAAA fd00::5"],
        f"{NAME} A": A[:1],
        f"{NAME} AAAA": [],
        "42.2.0.192.in-addr.arpa. PTR": [f"42.2.0.192.in-addr.arpa. 60 IN PTR {NAME}"],
    }
    with Upstream(records) as upstream, serve(CLUSTER.format(upstream=upstream.to)) as server:
        for tcp in (False, True, False):
            assert [str(it.rdata) for it in ask(server, tcp=tcp).rr] == ["64:ff9b::c000:22a"]
            own = ask(server, "db.cluster.local.", tcp=tcp)
            assert [str(it.rdata) for it in own.rr] == ["fd00::5"]
            assert str(ask(server, REVERSE, "PTR", tcp=tcp).rr[1].rdata) == NAME
            assert ask(server, "gone.example.com.", tcp=tcp).header.rcode == 3


# -- reverse names

REVERSE = "a.2.2.0.0.0.0.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.b.9.f.f.4.6.0.0.ip6.arpa."
IPV4_REVERSE = "42.2.0.192.in-addr.arpa."
PTR = message([f"{IPV4_REVERSE} 60 IN PTR {NAME}"])


@pytest.mark.parametrize("host", ["::1", "127.0.0.1", ""])
def test_reverse_names(host):
    with serve_zone(host=host, PTR=PTR) as server:
        reply = ask(server, REVERSE, "PTR")
        assert [" ".join(str(it).split()) for it in reply.rr] == [
            f"{REVERSE} 600 IN CNAME {IPV4_REVERSE}", f"{IPV4_REVERSE} 60 IN PTR {NAME}"
        ]  # fmt: skip
        assert (reply.header.rcode, reply.header.ra) == (0, 1)


@pytest.mark.parametrize(("rcode", "records"), [(2, 0), (5, 0), (3, 1), (0, 1)])
def test_reverse_names_without_a_name(rcode, records):
    authority = [] if rcode in (2, 5) else ["2.0.192.in-addr.arpa. 60 IN SOA a. b. 1 1 1 1 1"]
    with serve_zone(PTR=message([], authority, rcode=rcode)) as server:
        reply = ask(server, REVERSE, "PTR")
        assert (reply.header.rcode, len(reply.rr), len(reply.auth)) == (
            rcode,
            records,
            len(authority),
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("1." + "0." * 31 + "ip6.arpa.", {}),
        ("b.9.f.f.4.6.0.0.ip6.arpa.", {}),
        (REVERSE, {"do": True, "cd": 1}),
        (IPV4_REVERSE, {}),
    ],
)
def test_reverse_names_that_pass(name, options):
    with serve_zone(PTR=message(rcode=3)) as server:
        reply = ask(server, name, "PTR", **options)
        assert (reply.header.rcode, reply.rr) == (3, [])


def test_reverse_names_that_are_dropped():
    with serve_zone(PTR=lambda request: request.drop()) as server:
        assert server.drops(REVERSE, "PTR")


def test_the_packet_cache_repeats_reverse_names():
    with serve_zone(host="", PTR=PTR) as server:
        (zone,) = server.plugins(Zone)
        zone.keep = 60.0
        for _ in range(3):
            assert len(ask(server, REVERSE, "PTR", id=5).rr) == 2
        assert zone.asked == ["PTR"]


# -- explanations


@pytest.mark.parametrize(
    ("directive", "name", "qtype", "options", "state"),
    [
        ("dns64", NAME, "AAAA", {}, "translates"),
        ("dns64 {\ntranslate_all\n}", NAME, "AAAA", {}, "translates all"),
        ("dns64", NAME, "A", {}, "no query for AAAA"),
        ("dns64", NAME, "AAAA", {"peer": ("192.0.2.1", 53)}, "the client uses IPv4"),
        ("dns64 {\nallow_ipv4\n}", NAME, "AAAA", {"peer": ("192.0.2.1", 53)}, "translates"),
        ("dns64", NAME, "AAAA", {"do": True, "cd": 1}, "the client validates (DO and CD)"),
        ("dns64", REVERSE, "PTR", {}, "an address with the prefix"),
        ("dns64", IPV4_REVERSE, "PTR", {}, "no query for AAAA"),
    ],
)
def test_the_state(directive, name, qtype, options, state):
    (handler,) = set_up(directive).handlers
    request = make_request(name, qtype, **{"peer": ("2001:db8::1", 53), **options})
    assert handler.explain_state(request) == {"state": state}
