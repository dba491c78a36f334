"""The *dns64* directive (plugin/dns64/setup_test.go), and the prefix (RFC 6052)."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.names import from_text, lower, to_text
from corepy.testing import refusal, set_up
from corepy_dns64.dns64 import DNS64
from corepy_dns64.prefix import Prefix

WELL_KNOWN = "64:ff9b::/96"
COREDNS_ACCEPTS = [
    ("dns64", WELL_KNOWN, False),
    ("dns64 64:dead::/96", "64:dead::/96", False),
    ("dns64 {\ntranslate_all\n}", WELL_KNOWN, False),
    ("dns64", WELL_KNOWN, False),
    ("dns64 {\nprefix 64:ff9b::/96\n}", WELL_KNOWN, False),
    ("dns64 {\nprefix 64:ff9b::/32\n}", "64:ff9b::/32", False),
    ("dns64 {\nprefix 64:ff9b::/96\n}", WELL_KNOWN, False),
    ("dns64 {\nprefix 2002:ac12:b083::/96\n}", "2002:ac12:b083::/96", False),
    ("dns64 {\nprefix 2002:c0a8:a88a::/48\n}", "2002:c0a8:a88a::/48", False),
    ("dns64 {\nallow_ipv4\n}", WELL_KNOWN, True),
]
COREDNS_REFUSES = [
    ("dns64 {\nprefix 64:ff9b::/52\n}", "invalid prefix length 52"),
    ("dns64 {\nprefix 64:ff9b::/104\n}", "invalid prefix length 104"),
    ("dns64 {\nprefix 8.8.8.8/24\n}", "8.8.8.8/24 is an IPv4 network, not an IPv6 prefix"),
    ("dns64 foobar {\nprefix 64:ff9b::/96\n}", "invalid CIDR address: foobar"),
    ("dns64 foobar", "invalid CIDR address: foobar"),
    ("dns64 {\nfoobar\n}", "unknown option 'foobar'"),
]


def prefix(text):
    return Prefix(ipaddress.IPv6Network(text))


def test_the_cases_are_all_of_coredns():
    assert (len(COREDNS_ACCEPTS), len(COREDNS_REFUSES)) == (10, 6)


@pytest.mark.parametrize(
    ("text", "expected", "allow_ipv4"),
    [
        *COREDNS_ACCEPTS,
        ("dns64 64:1::/64 {\nallow_ipv4\ntranslate_all\n}", "64:1::/64", True),
        ("dns64 64:1::/64 {\nprefix 64:2::/56\nprefix 64:3::/40\n}", "64:3::/40", False),
        ("dns64 64:1::/64\ndns64 {\nallow_ipv4\n}", "64:1::/64", True),
        ("dns64 2001:db8::1/96", "2001:db8::/96", False),
        ("dns64 2001:db8::ff:0:0/64", "2001:db8::/64", False),
    ],
)
def test_accepted(text, expected, allow_ipv4):
    controller = set_up(text)
    (handler,) = controller.handlers
    assert isinstance(handler, DNS64)
    assert handler.prefix.reverse_zone == prefix(expected).reverse_zone
    assert handler.allow_ipv4 is allow_ipv4
    assert handler.translate_all is ("translate_all" in text)
    assert controller.warnings == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *COREDNS_REFUSES,
        ("dns64 64:ff9b::", "invalid CIDR address: 64:ff9b::"),
        ("dns64 64:ff9b::/", "invalid CIDR address"),
        ("dns64 64:ff9b::/+96", "invalid CIDR address"),
        ("dns64 64:ff9b::%eth0/96", "invalid CIDR address"),
        ("dns64 64:ff9b::/129", "invalid CIDR address"),
        ("dns64 64:ff9b::/24", "invalid prefix length 24"),
        ("dns64 64:1::/96 64:2::/96", "wrong argument count"),
        ("dns64 {\nprefix\n}", "wrong argument count"),
        ("dns64 {\ntranslate_all yes\n}", "wrong argument count"),
        ("dns64 {\nallow_ipv4 yes\n}", "wrong argument count"),
        ("dns64 2001:db8:0:0:100::/96", "bits 64 to 71 of 2001:db8:0:0:100::/96 are not zero"),
        ("dns64 2001:db8:0:0:8000::/72", "bits 64 to 71 of 2001:db8:0:0:8000::/72 are not zero"),
    ],
)
def test_refused(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize("size", [72, 80, 88])
def test_lengths_that_rfc_6052_does_not_have(size):
    (warning,) = set_up(f"dns64 2001:db8::/{size}").warnings
    assert (warning.message, warning.token.text) == (
        f"RFC 6052 has no prefix of {size} bits", f"2001:db8::/{size}"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("network", "ipv4", "expected"),
    [
        # plugin/dns64/dns64_test.go
        ("64:ff9b::/96", "64.64.64.64", "64:ff9b::4040:4040"),
        ("64:ff9b::/64", "64.64.64.64", "64:ff9b::40:4040:4000:0"),
        ("64:ff9b::/56", "64.64.64.64", "64:ff9b:0:40:40:4040::"),
        ("64::/32", "64.64.64.64", "64:0:4040:4040::"),
        # RFC 6052 section 2.4
        ("2001:db8::/32", "192.0.2.33", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "192.0.2.33", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "192.0.2.33", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "192.0.2.33", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "192.0.2.33", "2001:db8:122:344:c0:2:2100:0"),
        ("2001:db8:122:344::/96", "192.0.2.33", "2001:db8:122:344::192.0.2.33"),
        # lengths that only CoreDNS has
        ("2001:db8::/72", "192.0.2.33", "2001:db8::c0:2:2100:0"),
        ("2001:db8::/88", "192.0.2.33", "2001:db8::c0:2:2100"),
    ],
)
def test_embedding(network, ipv4, expected):
    embedded = prefix(network).embed(ipaddress.ip_address(ipv4).packed)
    assert embedded == ipaddress.ip_address(expected).packed


LENGTHS = st.sampled_from([32, 40, 48, 56, 64, 72, 80, 88, 96])


@st.composite
def prefixes(draw):
    packed = bytearray(draw(st.binary(min_size=16, max_size=16)))
    packed[8] = 0
    return prefix(ipaddress.ip_network((bytes(packed), draw(LENGTHS)), strict=False))


@settings(deadline=None)
@given(prefixes(), st.ip_addresses(v=4), st.ip_addresses(v=6))
def test_embedded_addresses_and_their_reverse_names(network, ipv4, other):
    ipv6 = network.embed(ipv4.packed)
    assert network.extract(ipv6) == ipv4.packed
    name = lower(from_text(ipaddress.ip_address(ipv6).reverse_pointer))
    target = network.reverse_target(name)
    assert to_text(target) == ipv4.reverse_pointer + "."
    found = network.reverse_target(lower(from_text(other.reverse_pointer)))
    assert found is None or network.embed(network.extract(other.packed)) == other.packed


@pytest.mark.parametrize(
    "name",
    [
        "b.9.f.f.4.6.0.0.ip6.arpa.",
        "0." * 24 + "b.9.f.f.4.6.0.1.ip6.arpa.",
        "g." + "0." * 15 + "b.9.f.f.4.6.0.0.ip6.arpa.",
        "0." * 25 + "0.b.9.f.f.4.6.0.0.ip6.arpa.",
        "00." + "0." * 6 + "0." * 15 + "0.b.9.f.f.4.6.0.0.ip6.arpa.",
        "b.9.f.f.4.6.0.0.ip6.arpa.example.",
    ],
)
def test_names_of_no_address_with_the_prefix(name):
    assert prefix(WELL_KNOWN).reverse_target(from_text(name)) is None


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_hostile_names(labels):
    network = prefix(WELL_KNOWN)
    for name in (
        labels + network.reverse_zone,
        labels[:48].ljust(48, b"\1") + network.reverse_zone,
    ):
        found = network.reverse_target(name)
        assert found is None or found.endswith(b"\7in-addr\4arpa\0")
