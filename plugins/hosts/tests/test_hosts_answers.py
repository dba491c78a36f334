"""Replies: the cases of plugin/hosts/hosts_test.go, and those in which RFCs decide otherwise."""

import pytest
from dnslib import RR

from corepy.dns import constants as c
from corepy.plugin import Cacheability
from corepy.testing import Recorder, make_request, run_chain, serve, set_up

LINES = """
127.0.0.1 localhost localhost.domain
::1 localhost localhost.domain
10.0.0.1 example.org
::FFFF:10.0.0.2 example.com
10.0.0.3 fallthrough-example.org
1.2.3.4 aa.example.com
5.6.7.8 *.apps.example.com
"""
FALLS = "no record of its own"


def handler(options="", lines=LINES, zones=""):
    text = f"hosts /nonexistent/hosts {zones} {{\n{lines}\n{options}\n}}"
    (hosts,) = set_up(text).handlers
    return hosts


def answer(hosts, name, qtype="A", **question):
    """The records of the reply as text, its rcode if it is an error, FALLS if another answers."""
    below = Recorder()
    reply = run_chain(make_request(name, qtype, **question), hosts, below)
    if below.requests:
        return FALLS
    if reply.rcode:
        return reply.rcode
    assert reply.aa
    return [str(rr) for rr in (*reply.record.rr, *reply.record.auth)]


def records(*texts):
    return [str(rr) for text in texts for rr in RR.fromZone(text)]


def soa(name, ttl=3600):
    return records(f"{name} {ttl} SOA {name} nobody.invalid. 1 3600 1200 604800 {ttl}")


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        ("example.org.", "A", ["example.org. 3600 A 10.0.0.1"]),
        ("example.com.", "A", ["example.com. 3600 A 10.0.0.2"]),
        ("localhost.", "AAAA", ["localhost. 3600 AAAA ::1"]),
        ("1.0.0.10.in-addr.arpa.", "PTR", ["1.0.0.10.in-addr.arpa. 3600 PTR example.org."]),
        ("2.0.0.10.in-addr.arpa.", "PTR", ["2.0.0.10.in-addr.arpa. 3600 PTR example.com."]),
        (
            "1.0.0.127.in-addr.arpa.", "PTR",
            [
                "1.0.0.127.in-addr.arpa. 3600 PTR localhost.",
                "1.0.0.127.in-addr.arpa. 3600 PTR localhost.domain.",
            ],
        ),
        ("aa.example.com.", "A", ["aa.example.com. 3600 A 1.2.3.4"]),
        ("x.apps.example.com.", "A", ["x.apps.example.com. 3600 A 5.6.7.8"]),
        (
            f"{'1.' + 31 * '0.'}ip6.arpa.", "PTR",
            [
                f"{'1.' + 31 * '0.'}ip6.arpa. 3600 PTR localhost.",
                f"{'1.' + 31 * '0.'}ip6.arpa. 3600 PTR localhost.domain.",
            ],
        ),
    ],
)  # fmt: skip
def test_coredns_answers(name, qtype, expected):
    assert answer(handler(), name, qtype) == records(*expected)


@pytest.mark.parametrize(("qtype"), ["AAAA", "MX", "TXT", "HTTPS", "SOA", "NS", "CNAME"])
def test_a_type_that_the_name_does_not_have_is_denied_with_a_soa_record(qtype):
    assert answer(handler(), "example.org.", qtype) == soa("example.org.")
    assert answer(handler("ttl 7"), "x.apps.example.com.", qtype) == soa("x.apps.example.com.", 7)


@pytest.mark.parametrize(
    ("options", "name", "qtype", "falls"),
    [
        ("fallthrough", "example.org.", "TXT", False),
        ("fallthrough\nfallthrough_unsupported", "example.org.", "TXT", True),
        ("fallthrough\nfallthrough_unsupported", "example.org.", "ANY", True),
        ("fallthrough\nfallthrough_unsupported", "example.org.", "AAAA", False),
        ("fallthrough example.net\nfallthrough_unsupported", "example.org.", "TXT", False),
        ("fallthrough", "missing.example.org.", "TXT", True),
    ],
)
def test_coredns_passes_unsupported_types(options, name, qtype, falls):
    assert (answer(handler(options), name, qtype) == FALLS) == falls


@pytest.mark.parametrize(
    ("options", "zones", "name", "qtype", "expected"),
    [
        ("", "", "missing.", "A", c.SERVFAIL),
        ("", "", "apps.example.com.", "A", c.SERVFAIL),
        ("", "", "deep.x.apps.example.com.", "A", c.SERVFAIL),
        ("fallthrough", "", "missing.", "A", FALLS),
        ("fallthrough org", "", "missing.", "A", c.SERVFAIL),
        ("fallthrough org", "", "missing.org.", "A", FALLS),
        ("", "org", "missing.com.", "A", FALLS),
        ("", "org", "example.com.", "A", FALLS),  # the line is outside the zones
        ("", "org", "missing.org.", "A", c.SERVFAIL),
        ("", "", "9.0.0.10.in-addr.arpa.", "PTR", FALLS),
        ("", "", "example.org.", "PTR", FALLS),
        ("", "", "10.in-addr.arpa.", "SOA", c.SERVFAIL),
        ("no_reverse", "", "1.0.0.10.in-addr.arpa.", "PTR", FALLS),
        ("no_reverse", "", "1.0.0.10.in-addr.arpa.", "TXT", c.SERVFAIL),
    ],
)  # fmt: skip
def test_names_without_an_entry(options, zones, name, qtype, expected):
    assert answer(handler(options, zones=zones), name, qtype) == expected


def test_addresses_have_names_outside_the_zones_of_the_directive():
    hosts = handler(zones="org")
    reverse = "1.0.0.10.in-addr.arpa."
    assert answer(hosts, reverse, "PTR") == records(f"{reverse} 3600 PTR example.org.")
    assert answer(hosts, reverse, "TXT") == FALLS


def test_a_reverse_name_exists_for_all_types():
    reverse = "1.0.0.10.in-addr.arpa."
    assert answer(handler("fallthrough"), reverse, "TXT") == soa(reverse)
    assert answer(handler(), reverse, "A") == soa(reverse)


def test_any_gets_one_set_of_records():
    lines = "10.0.0.1 a b\n::1 a c"
    assert answer(handler(lines=lines), "a.", "ANY") == records("a. 3600 A 10.0.0.1")
    assert answer(handler(lines=lines), "c.", "ANY") == records("c. 3600 AAAA ::1")


@pytest.mark.parametrize("change", [{"qclass": c.CLASS_CH}, {"flags_set": 4 << 11}])
def test_other_classes_and_opcodes_are_not_for_it(change):
    below = Recorder()
    request = make_request("example.org.").derive(**change)
    run_chain(request, handler(), below)
    assert below.requests == [request]


def test_the_flags_and_the_case_of_the_query_come_back():
    reply = run_chain(make_request("eXample.ORG.", cd=1, ad=1), handler())
    header = reply.record.header
    flags = (header.qr, header.aa, header.rd, header.cd, header.ad, header.ra, header.tc)
    assert flags == (1, 1, 1, 1, 0, 0, 0)
    assert str(reply.record.rr[0].rname) == "eXample.ORG."
    assert run_chain(make_request("example.org.", rd=0), handler()).record.header.rd == 0


def test_several_addresses_in_the_order_of_the_file():
    lines = "10.0.0.2 a\n10.0.0.1 a\n10.0.0.2 a\n::2 a"
    expected = records("a. 60 A 10.0.0.2", "a. 60 A 10.0.0.1")
    assert answer(handler("ttl 60", lines), "a.") == expected
    assert answer(handler("ttl 60", lines), "a.", "AAAA") == records("a. 60 AAAA ::2")


def test_its_replies_may_be_repeated():
    assert handler().cacheability is Cacheability.SAFE


def test_large_sets_are_truncated_over_udp_and_whole_over_tcp(tmp_path):
    (tmp_path / "hosts").write_text("".join(f"10.0.0.{n} a\n0.0.0.0 n{n}.b\n" for n in range(250)))
    with serve(f". {{\nhosts {tmp_path}/hosts\n}}") as server:
        for name, qtype in (("a.", "A"), ("0.0.0.0.in-addr.arpa.", "PTR")):
            short = server.ask(name, qtype)
            assert short.header.tc
            assert len(short.rr) < 250
            whole = server.ask(name, qtype, tcp=True)
            assert (whole.header.tc, len(whole.rr)) == (0, 250)


def test_the_largest_sets_fit_into_a_message(tmp_path):
    lines = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255} a\n0.0.0.0 n{n}.b\n" for n in range(10_000)]
    (tmp_path / "hosts").write_text("".join(lines))
    with serve(f". {{\nhosts {tmp_path}/hosts\n}}") as server:
        assert len(server.ask("a.", tcp=True).rr) == 3750
        assert len(server.ask("0.0.0.0.in-addr.arpa.", "PTR", tcp=True).rr) > 1000


def test_a_denial_is_cached_for_the_ttl():
    text = ". {\ncache\nhosts /nonexistent/hosts {\n10.0.0.1 a\nttl 60\n}\n}"
    with serve(text) as server:
        server.ask("a.", "AAAA")
        reply = server.ask("a.", "AAAA")
        assert [str(rr.rname) for rr in reply.auth] == ["a."]
        (state,) = [plugin for plugin in server.plugins(object) if hasattr(plugin, "store")]
        assert len(state.store.denial.entries) == 1


def test_a_file_in_the_folder_of_root(tmp_path):
    (tmp_path / "names").write_text("10.0.0.1 a")
    text = f". {{\nhosts names\nroot {tmp_path}\n}}"
    with serve(text) as server:
        assert [str(rr.rdata) for rr in server.ask("a.").rr] == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("name", "qtype", "state"),
    [
        ("localhost.", "A", {"state": "has addresses", "IPv4": 1, "IPv6": 1}),
        ("1.0.0.127.in-addr.arpa.", "PTR", {"state": "has names", "first": "localhost."}),
        ("missing.", "A", {"state": "no entry"}),
        ("9.9.9.9.in-addr.arpa.", "PTR", {"state": "no entry"}),
    ],
)
def test_explained(name, qtype, state):
    hosts = handler(lines="127.0.0.1 localhost\n::1 localhost")
    expected = state | {"file": "/nonexistent/hosts", "entries": 4}
    assert hosts.explain_state(make_request(name, qtype)) == expected


def test_explained_outside_its_zones():
    state = handler(zones="org").explain_state(make_request("example.com."))
    assert state["state"] == "the name is outside its zones"
