"""The *acl* directive: what it takes and what it refuses (plugin/acl/setup_test.go)."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.corefile import CorefileError
from corepy.testing import refusal, set_up
from corepy_acl.acl import ACL
from corepy_acl.networks import read_network
from corepy_acl.rule import Action

COREDNS_ACCEPTS = [
    "acl {\nblock type A net 192.168.0.0/16\n}",
    "acl {\nblock type * net 192.168.0.0/16\n}",
    "acl {\nblock type A net *\n}",
    "acl {\nallow type * net 192.168.1.0/24\nblock type * net 192.168.0.0/16\n}",
    "acl {\nfilter type A net 192.168.0.0/16\n}",
    "acl {\nallow type * net 192.168.0.0/16\nblock type * net *\n}",
    "acl {\ndrop type * net 192.168.0.0/16\n}",
    "acl a.example.org {\nblock type * net 192.168.1.0/24\n}",
    "acl a.example.org {\nblock type * net 192.168.1.0/24\n}\nacl b.example.org {\nblock type * net 192.168.2.0/24\n}",
    "acl example.org {\nblock type * net 192.168.1.0/24 192.168.3.0/24\n}",
    "acl example.org {\nblock type TXT ANY CNAME net 192.168.3.0/24\n}",
    "acl {\nblock type A net 2001:0db8:85a3:0000:0000:8a2e:0370:7334\n}",
    "acl {\nblock type * net 2001:db8:85a3::8a2e:370:7334\n}",
    "acl {\nblock type A\n}",
    "acl {\nallow net 2001:db8:abcd:0012::0/64\nblock net 2001:db8:abcd:0012::0/48\n}",
    "acl {\nfilter type A net 2001:0db8:85a3:0000:0000:8a2e:0370:7334\n}",
    "acl {\nallow net 2001:db8:abcd:0012::0/64\nblock\n}",
    "acl {\ndrop net 2001:db8:abcd:0012::0/64\n}",
    "acl a.example.org {\nblock net 2001:db8:abcd:0012::0/64\n}",
    "acl a.example.org {\nblock net 2001:db8:abcd:0012::0/64\n}\nacl b.example.org {\nblock net 2001:db8:abcd:0013::0/64\n}",
    "acl example.org {\nblock net 2001:db8:abcd:0012::0/64 2001:db8:85a3::8a2e:370:7334/64\n}",
]
COREDNS_REFUSES = [
    ("acl {\nblock A net 192.168.0.0/16\n}", "unexpected 'A', expected 'type' or 'net'"),
    ("acl {\nblock type net 192.168.0.0/16\n}", "no value in the section 'type'"),
    ("acl {\nblock type ABC net 192.168.0.0/16\n}", "unknown query type 'ABC'"),
    (
        "acl {\nblck type A net 192.168.0.0/16\n}",
        "unexpected 'blck', expected 'allow', 'block', 'filter' or 'drop'",
    ),
    ("acl {\nblock type A net 192.168.0/16\n}", "illegal CIDR notation '192.168.0/16'"),
    ("acl {\nblock type A net 192.168.0.0/33\n}", "illegal CIDR notation '192.168.0.0/33'"),
    (
        "acl {\nblock type A net 2001::85a3::8a2e:370:7334\n}",
        "illegal CIDR notation '2001::85a3::8a2e:370:7334'",
    ),
    (
        "acl {\nblock type A net 2001:db8:85a3:::8a2e:370:7334\n}",
        "illegal CIDR notation '2001:db8:85a3:::8a2e:370:7334'",
    ),
]


def test_the_cases_are_all_of_coredns():
    assert (len(COREDNS_ACCEPTS), len(COREDNS_REFUSES)) == (21, 8)


@pytest.mark.parametrize(
    "text",
    [
        *COREDNS_ACCEPTS,
        "acl",
        "acl {\n}",
        "acl example.org",
        "acl {\nblock\n}\nacl",
        "acl {\nBLOCK TYPE A NET 192.0.2.1\n}",
        "acl {\nblock net 192.0.2.1 type A\n}",
        "acl {\nblock type A type AAAA net 192.0.2.1 net 192.0.2.2\n}",
        "acl {\nblock type None\n}",
        "acl {\nblock type ANY AXFR IXFR NSAP-PTR HTTPS\n}",
        "acl {\nblock net 192.0.2.77/24 0.0.0.0/0 ::/0 ::ffff:192.0.2.1 255.255.255.255/032\n}",
        "acl {\nblock net 2001:DB8::1 ::1.2.3.4/128\n}",
    ],
)
def test_accepted(text):
    controller = set_up(text, "example.org")
    (handler,) = controller.handlers
    assert isinstance(handler, ACL)
    assert controller.warnings == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *COREDNS_REFUSES,
        ("acl {\nblock net\n}", "no value in the section 'net'"),
        ("acl {\nblock type A net\n}", "no value in the section 'net'"),
        ("acl {\nblock type net type A\n}", "no value in the section 'type'"),
        ("acl {\nblock type a\n}", "unknown query type 'a'"),
        ("acl {\nblock type TYPE65280\n}", "unknown query type 'TYPE65280'"),
        ("acl {\nblock net 192.0.2.1/\n}", "illegal CIDR notation"),
        ("acl {\nblock net 192.0.2.0/255.255.255.0\n}", "illegal CIDR notation"),
        ("acl {\nblock net 192.0.2.0/+8\n}", "illegal CIDR notation"),
        ("acl {\nblock net 192.0.2.0/8/8\n}", "illegal CIDR notation"),
        ("acl {\nblock net 192.0.2.01\n}", "illegal CIDR notation"),
        ("acl {\nblock net fe80::1%eth0\n}", "illegal CIDR notation"),
        ("acl {\nblock net 2001:db8::/129\n}", "illegal CIDR notation"),
        ("acl {\nblock net example.org\n}", "illegal CIDR notation"),
        ("acl {\nblock net 192.0.2.1/8 - 3\n}", "illegal CIDR notation '-'"),
    ],
)
def test_refused(text, message):
    with pytest.raises(CorefileError) as refused:
        set_up(text)
    assert message in str(refused.value.diagnostics[0])


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("blck", "did you mean 'block'?"),
        ("block A", "did you mean 'type A'?"),
        ("block 192.0.2.0/24", "did you mean 'net 192.0.2.0/24'?"),
        ("block *", "did you mean 'net *'?"),
        ("block nets 192.0.2.1", "did you mean 'net'?"),
        ("block type aaaa", "did you mean 'AAAA'?"),
        ("block type MXX", "did you mean 'MX'?"),
        ("block type", "such as type A or AAAA, or *"),
        (
            "block net 192.0.2",
            "an address or a network, such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32",
        ),
    ],
)
def test_hints(line, hint):
    assert refusal(f"acl {{\n{line}\n}}").hint == hint


def test_each_mistake_is_reported_where_it_is():
    with pytest.raises(CorefileError) as refused:
        set_up("acl {\nblok\nblock type X Y net 1.2 192.0.2.1 3.4\n}\nacl {\ndrop net\n}")
    found = [(it.token.line, it.token.text) for it in refused.value.diagnostics]
    assert found == [(3, "blok"), (4, "X"), (4, "Y"), (4, "1.2"), (4, "3.4"), (7, "net")]


@pytest.mark.parametrize(
    ("lines", "warned"),
    [
        ("drop net 192.0.2.0/24\nblock net 192.0.2.128/25", ["block"]),
        ("block\ndrop type A\nallow net ::/0", ["drop", "allow"]),
        ("block type A\ndrop", []),
        ("block net 192.0.2.0/25 192.0.2.128/25\ndrop net 192.0.2.0/24", ["drop"]),
        ("block net 192.0.2.0/25 192.0.2.128/25\ndrop net 192.0.2.0/23", []),
        ("block net * 192.0.2.1", ["192.0.2.1"]),
        ("block type * X Y", ["X", "Y"]),
    ],
)
def test_warnings(lines, warned):
    controller = set_up(f"acl {{\n{lines}\n}}")
    assert [it.token.text for it in controller.warnings] == warned


def test_what_is_read():
    (handler,) = set_up(
        "acl example.org 10.0.0.0/8 {\nblock type A AAAA net 192.0.2.7/24 2001:db8::\n}"
    ).handlers
    (rule,) = handler.rules
    (policy,) = rule.policies
    assert rule.zones.zones == ("example.org.", "10.in-addr.arpa.")
    assert (policy.action, policy.types) == (Action.BLOCK, {1, 28})
    network = int(ipaddress.ip_address("192.0.2.0"))
    address = int(ipaddress.ip_address("2001:db8::"))
    assert policy.networks == [(32, network, network + 255), (128, address, address)]
    assert policy.place == "Corefile:3"


WORDS = st.sampled_from(
    ["acl", "allow", "block", "drop", "type", "net", "*", "A", "ANY", "192.0.2.0/24", "::/0", "{", "}",
     "example.org", "x", "1.2.3.4.5", "\n"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(WORDS, max_size=12))
def test_any_words_are_a_rule_or_a_diagnostic(words):
    try:
        controller = set_up(f"acl {' '.join(words)}\n")
    except CorefileError as error:
        tokens = [it.token for it in error.diagnostics]
    else:
        tokens = [controller.token]
    assert None not in tokens


NETWORKS = st.one_of(
    st.ip_addresses().map(str),
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)).map(lambda it: f"{it[0]}/{it[1]}"),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 128)).map(lambda it: f"{it[0]}/{it[1]}"),
    st.tuples(st.integers(0, 2**32 - 1), st.integers(96, 128)).map(
        lambda it: f"::ffff:{ipaddress.IPv4Address(it[0])}/{it[1]}"
    ),
)


@settings(deadline=None)
@given(NETWORKS)
def test_a_network_has_the_addresses_that_ipaddress_gives_it(text):
    expected = ipaddress.ip_network(text, strict=False)
    network = read_network(text)
    mapped = getattr(expected.network_address, "ipv4_mapped", None)
    if mapped is not None and expected.prefixlen >= 96:
        expected = ipaddress.ip_network(f"{mapped}/{expected.prefixlen - 96}")
    ends = int(expected.network_address), int(expected.broadcast_address)
    assert network == (expected.max_prefixlen, *ends)


@settings(deadline=None)
@given(st.text(alphabet="0123456789abcdef.:/%-+ xg\0ü", max_size=40) | st.text())
def test_any_other_text_is_a_value_error(text):
    try:
        network = read_network(text)
    except ValueError:
        return
    assert 0 <= network.first <= network.last < 1 << network.bits
