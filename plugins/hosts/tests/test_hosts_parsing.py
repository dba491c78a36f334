"""Hosts files: the cases of plugin/hosts/hostsfile_test.go and wildcard_test.go, and broken files."""

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corepy.dns.names import from_text, to_text
from corepy.plugin import ZoneMatcher
from corepy_hosts.parsing import LONGEST_LINE, HostsParser
from corepy_hosts.reverse import address_of
from corepy_hosts.table import MOST_BYTES

HOSTS = """255.255.255.255	broadcasthost
	127.0.0.2	odin
	127.0.0.3	odin  # inline comment
	::2             odin
	127.1.1.1	thor
	# aliases
	127.1.1.2	ullr ullrhost
	fe80::1%lo0	localhost
	# Bogus entries that must be ignored.
	123.123.123	loki
	321.321.321.321"""
ONE_LINE = "127.0.0.2  odin"
IPV4 = """# See https://tools.ietf.org/html/rfc1123.
	#

	# internet address and host name
	127.0.0.1	localhost	# inline comment separated by tab
	127.0.0.2	localhost       # inline comment separated by space

	# internet address, host name and aliases
	127.0.0.3	localhost	localhost.localdomain"""
IPV6 = """# See https://tools.ietf.org/html/rfc5952, https://tools.ietf.org/html/rfc4007.
	::1						localhost	# inline comment separated by tab
	fe80:0000:0000:0000:0000:0000:0000:0001		localhost       # inline comment
	fe80:0000:0000:0000:0000:0000:0000:0002%lo0	localhost
	fe80::3%lo0					localhost	localhost.localdomain"""
CASE = """127.0.0.1	PreserveMe	PreserveMe.local
		::1		PreserveMe	PreserveMe.local"""
WILDCARDS = """
127.0.0.53 *.example.org
127.0.1.52 *.intern.example.org
127.0.0.54 foo.example.org
192.168.33.10 *.example.com
192.168.33.11 a.example.com
192.168.33.12 b.example.com
"""


def table_of(text, zones=(".",), *, with_reverse=True):
    parser = HostsParser(ZoneMatcher(zones), with_reverse=with_reverse)
    parser.read(text if isinstance(text, bytes) else text.encode())
    return parser.table


def addresses(table, name):
    """The addresses of a name as text, those of IPv4 first."""
    v4, v6 = table.find(from_text(name).lower()) or (b"", b"")
    packed = [v4[at : at + 4] for at in range(0, len(v4), 4)]
    packed += [v6[at : at + 16] for at in range(0, len(v6), 16)]
    return [str(ip_address(each)) for each in packed]


def names(table, address):
    reverse = ip_address(address).reverse_pointer
    return [to_text(name) for name in table.names_of(from_text(reverse))]


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (HOSTS, "odin.", ["127.0.0.2", "127.0.0.3", "::2"]),
        (HOSTS, "thor.", ["127.1.1.1"]),
        (HOSTS, "ullr.", ["127.1.1.2"]),
        (HOSTS, "ullrhost.", ["127.1.1.2"]),
        (HOSTS, "localhost.", ["fe80::1"]),
        (HOSTS, "loki.", []),
        (ONE_LINE, "odin.", ["127.0.0.2"]),
        (IPV4, "localhost.", ["127.0.0.1", "127.0.0.2", "127.0.0.3"]),
        (IPV4, "localhost.localdomain.", ["127.0.0.3"]),
        (IPV6, "localhost.", ["::1", "fe80::1", "fe80::2", "fe80::3"]),
        (IPV6, "localhost.localdomain.", ["fe80::3"]),
        (CASE, "PreserveMe.", ["127.0.0.1", "::1"]),
        (CASE, "PRESERVEME.local.", ["127.0.0.1", "::1"]),
        (WILDCARDS, "foo.example.org.", ["127.0.0.54"]),
        (WILDCARDS, "bar.example.org.", ["127.0.0.53"]),
        (WILDCARDS, "bar.intern.example.org.", ["127.0.1.52"]),
        (WILDCARDS, "a.example.com.", ["192.168.33.11"]),
        (WILDCARDS, "b.example.com.", ["192.168.33.12"]),
        (WILDCARDS, "c.example.com.", ["192.168.33.10"]),
        (WILDCARDS, "example.com.", []),
        (WILDCARDS, "deep.foo.example.org.", []),
        (WILDCARDS, ".", []),
    ],
)
def test_coredns_finds_addresses(text, name, expected):
    assert addresses(table_of(text), name) == expected


@pytest.mark.parametrize(
    ("text", "address", "expected"),
    [
        (HOSTS, "255.255.255.255", ["broadcasthost."]),
        (HOSTS, "127.0.0.2", ["odin."]),
        (HOSTS, "127.0.0.3", ["odin."]),
        (HOSTS, "::2", ["odin."]),
        (HOSTS, "127.1.1.1", ["thor."]),
        (HOSTS, "127.1.1.2", ["ullr.", "ullrhost."]),
        (HOSTS, "fe80::1", ["localhost."]),
        (HOSTS, "127.0.0.9", []),
        (ONE_LINE, "127.0.0.2", ["odin."]),
        (IPV4, "127.0.0.1", ["localhost."]),
        (IPV4, "127.0.0.2", ["localhost."]),
        (IPV4, "127.0.0.3", ["localhost.", "localhost.localdomain."]),
        (IPV6, "::1", ["localhost."]),
        (IPV6, "fe80::1", ["localhost."]),
        (IPV6, "fe80::2", ["localhost."]),
        (IPV6, "fe80::3", ["localhost.", "localhost.localdomain."]),
        (CASE, "127.0.0.1", ["preserveme.", "preserveme.local."]),
        (CASE, "::1", ["preserveme.", "preserveme.local."]),
        (WILDCARDS, "127.0.0.53", []),
        ("::ffff:10.0.0.2 mapped", "10.0.0.2", ["mapped."]),
        ("::ffff:10.0.0.2 mapped", "::ffff:10.0.0.2", ["mapped."]),
    ],
)
def test_coredns_finds_names(text, address, expected):
    assert names(table_of(text), address) == expected


def test_duplicates_count_once():
    table = table_of("10.0.0.1 a a A\n10.0.0.1 a.\n10.0.0.2 a\n::1 a\n::1 a")
    assert addresses(table, "a.") == ["10.0.0.1", "10.0.0.2", "::1"]
    assert names(table, "10.0.0.1") == ["a."]
    assert table.entries == 6  # three addresses of a name, three names of an address


def test_an_address_within_two_others_is_none_of_them():
    table = table_of("1.2.3.4 a\n5.6.7.8 a\n3.4.5.6 a")
    assert addresses(table, "a.") == ["1.2.3.4", "5.6.7.8", "3.4.5.6"]


def test_a_name_of_its_own_hides_the_wildcard_for_both_families():
    table = table_of("10.0.0.1 *.a\n::1 *.a\n10.0.0.2 b.a")
    assert addresses(table, "b.a.") == ["10.0.0.2"]
    assert addresses(table, "c.a.") == ["10.0.0.1", "::1"]
    assert addresses(table, "*.a.") == ["10.0.0.1", "::1"]


def test_names_outside_the_zones_are_left_out():
    table = table_of("10.0.0.1 a.example.org b.example.net", ["example.org."])
    assert addresses(table, "a.example.org.") == ["10.0.0.1"]
    assert addresses(table, "b.example.net.") == []
    assert names(table, "10.0.0.1") == ["a.example.org."]


def test_without_reverse():
    table = table_of(HOSTS, with_reverse=False)
    assert names(table, "127.0.0.2") == []
    assert table.entries == 8


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"10.0.0.1 a\r\n10.0.0.2 a\r\n", ""),
        (b"\xef\xbb\xbf10.0.0.1 a\n10.0.0.2 a", ""),
        (b"10.0.0.1\ta\t\n\n \t\n#\n10.0.0.2   a#b", ""),
        (b"10.0.0.1 a\n10.0.0.2\xc2\xa0a\n", ""),
        (b"10.0.0.1 a\n10.0.0.2\xe2\x80\x83a", ""),
        (b"10.0.0.1 a\n\0\0\0\n10.0.0.2 a", "line 2: '\\x00\\x00\\x00' is not an IP address"),
        (b"10.0.0.1 a\n10.0.0.2 a b\0c", "line 2: 'b\\x00c' is not printable text"),
        (b"10.0.0.1 a\n10.0.0.2 \xff\xfe a", "line 2: '\\\\xff\\\\xfe' is not printable text"),
        (b"10.0.0.1 a\n10.0.0.2 . a", "line 2: '.' is not a host name: it has no domain"),
        (b"10.0.0.1 a\n10.0.0.2 * a", "line 2: '*' is not a host name: it has no domain"),
        (b"10.0.0.1 a\n10.0.0.2 a a..b", "line 2: empty label in name 'a..b'"),
        (
            b"10.0.0.1 a\n10.0.0.2 a " + b"x" * 64,
            f"line 2: label longer than 63 bytes in name {'x' * 64!r}",
        ),
        (
            b"10.0.0.1 a\n" + b"x" * LONGEST_LINE + b"\n" + b"y" * 300_000 + b"\n10.0.0.2 a",
            "2 lines cannot be used; the first is line 2: longer than 64 KiB",
        ),
        (
            b"10.0.0.1 a\n010.0.0.1 a\n10.0.0.2 a\n10.0.0 a\na",
            "3 lines cannot be used; the first is line 2: '010.0.0.1' is not an IP address",
        ),
    ],
)
def test_a_broken_line_costs_itself(content, problem):
    table = table_of(content)
    assert addresses(table, "a.") == ["10.0.0.1", "10.0.0.2"]
    assert table.problem == problem


def test_names_in_utf8_are_the_bytes_of_the_query():
    table = table_of("10.0.0.1 caf\N{LATIN SMALL LETTER E WITH ACUTE}.example")
    assert addresses(table, r"caf\195\169.example.") == ["10.0.0.1"]


def test_more_addresses_than_fit_into_a_message():
    table = table_of("".join(f"10.0.{n >> 8}.{n & 255} a\n" for n in range(10_000)))
    v4, _ = table.find(from_text("a."))
    assert len(v4) == MOST_BYTES // 16 * 4
    assert table.problem.startswith("6250 lines cannot be used; the first is line 3751: its name")


def test_more_names_than_fit_into_a_message():
    table = table_of("".join(f"0.0.0.0 n{n}.example\n" for n in range(10_000)))
    assert len(names(table, "0.0.0.0")) == MOST_BYTES // 14
    assert addresses(table, "n9999.example.") == ["0.0.0.0"]
    assert table.problem == ""


def test_a_table_can_be_freed():
    table = table_of(HOSTS)
    assert from_text("odin.") in table.names()
    table.free()
    assert table.names() == set()
    assert names(table, "127.0.0.2") == []


@pytest.mark.parametrize(
    "name",
    [
        "in-addr.arpa.", "10.in-addr.arpa.", "1.2.3.in-addr.arpa.", "1.2.3.4.5.in-addr.arpa.",
        "01.0.0.127.in-addr.arpa.", "256.0.0.127.in-addr.arpa.", "a.0.0.127.in-addr.arpa.",
        r"1\.0.0.127.in-addr.arpa.", "1.0.0.127.in-addr.arpa.example.", "ip6.arpa.", ".",
        "1." * 31 + "ip6.arpa.", "1." * 33 + "ip6.arpa.", "g." + "0." * 31 + "ip6.arpa.",
        "10." + "0." * 30 + "ip6.arpa.", "xin-addr.arpa.", "1.0.0.127.xin-addr.arpa.",
    ],
)  # fmt: skip
def test_names_that_are_no_addresses(name):
    assert address_of(from_text(name)) is None


@given(st.ip_addresses())
def test_every_reverse_name_leads_to_its_address(address):
    mapped = getattr(address, "ipv4_mapped", None)
    expected = (mapped or address).packed
    assert address_of(from_text(address.reverse_pointer)) == expected


@given(st.binary(max_size=200), st.booleans())
@example(b"::1%\xff a", True)
def test_whatever_the_bytes_one_line_of_them_does_not_harm_the_others(noise, with_reverse):
    before, after = b"10.0.0.1 before.test\n", b"\n10.0.0.2 after.test"
    table = table_of(before + noise + after, with_reverse=with_reverse)
    assert "10.0.0.1" in addresses(table, "before.test.")
    assert "10.0.0.2" in addresses(table, "after.test.")


words = st.one_of(
    st.sampled_from(["10.0.0.1", "::1", "a", "*.a", "b.a", "#", "*", ".", "a..b", "1.2.3.4%x"]),
    st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=5),
)


@given(st.lists(st.lists(words, max_size=5).map(" ".join), max_size=8).map("\n".join))
def test_all_names_are_in_their_zone_and_have_addresses(text):
    table = table_of(text, ["a."])
    for name in table.names():
        assert name.endswith(from_text("a."))
        assert table.find(name)
