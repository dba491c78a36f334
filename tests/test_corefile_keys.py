"""What the keys of a block mean; CoreDNS's register_test, address_test, normalize_test, cidr_test."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.corefile import (
    CorefileError,
    OverlapChecker,
    ZoneAddress,
    is_domain_name,
    normalize_zone,
    parse,
    reverse_zones,
    server_keys,
    split_host_port,
    split_transport,
    zones_from_args,
)
from corepy.dns.names import InvalidName, from_text


def addresses(keys: str, port: int = 53) -> list[str]:
    return [str(key) for block in parse(keys, env={}).blocks for key in server_keys(block, port)]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("example.org", ["dns://example.org.:53"]),
        ("EXAMPLE.ORG", ["dns://example.org.:53"]),
        ("example.org:1053", ["dns://example.org.:1053"]),
        ("tls://example.org", ["tls://example.org.:853"]),
        ("quic://example.org", ["quic://example.org.:853"]),
        ("grpc://example.org", ["grpc://example.org.:443"]),
        ("https://example.org.", ["https://example.org.:443"]),
        ("https3://example.org.", ["https3://example.org.:443"]),
        ("unix://example.org.", ["unix://example.org.:0"]),
        ("tls://example.org:5353", ["tls://example.org.:5353"]),
        ("example.org,example.com:1053", ["dns://example.org,example.com.:1053"]),
        ("example.org example.com:1053", ["dns://example.org.:53", "dns://example.com.:1053"]),
        ("example.org.", ["dns://example.org.:53"]),
        (
            "example.org {\n}\nsub.example.org:1054 {\n}",
            ["dns://example.org.:53", "dns://sub.example.org.:1054"],
        ),
        (
            "10.0.0.0/15:54 a",
            ["dns://0.10.in-addr.arpa.:54", "dns://1.10.in-addr.arpa.:54", "dns://a.:53"],
        ),
        (".:+54", ["dns://.:54"]),
        (".:0", ["dns://.:0"]),
        ("http://a", ["dns://http://a.:53"]),
        ("1053{", ["dns://1053{.:53"]),
        ("::1", ["dns://:.:1"]),
    ],
)
def test_server_keys(keys: str, expected: list[str]) -> None:
    assert addresses(keys) == expected


def test_the_default_port_is_for_plain_dns_only() -> None:
    assert addresses(". tls://.", 1053) == ["dns://.:1053", "tls://.:853"]


def test_each_wrong_key_is_reported() -> None:
    with pytest.raises(CorefileError) as caught:
        addresses(f":53 a..b ok x: {'y' * 64}.org .:65536 .:-1 ::/0 {'é' * 127}:53")
    assert [d.token.column if d.token else 0 for d in caught.value.diagnostics] == [
        *(1, 5, 13, 16, 85, 93, 98, 103),
    ]
    assert caught.value.diagnostics[0].hint == "write '.:53' for the root zone at that port"


@pytest.mark.parametrize(
    ("cidr", "zones"),
    [
        ("10.0.0.0/15", ["0.10.in-addr.arpa.", "1.10.in-addr.arpa."]),
        ("10.0.0.0/16", ["0.10.in-addr.arpa."]),
        ("192.168.1.1/23", ["0.168.192.in-addr.arpa.", "1.168.192.in-addr.arpa."]),
        ("10.129.60.0/22", [f"{n}.129.10.in-addr.arpa." for n in (60, 61, 62, 63)]),
        ("2001:db8::/31", ["8.b.d.0.1.0.0.2.ip6.arpa.", "9.b.d.0.1.0.0.2.ip6.arpa."]),
        ("0.0.0.0/0", ["in-addr.arpa."]),
        ("1::/0", ["ip6.arpa."]),
        ("1.2.3.4/32", ["4.3.2.1.in-addr.arpa."]),
        ("255.255.255.255/31", [f"{n}.255.255.255.in-addr.arpa." for n in (254, 255)]),
        ("2001:db8::/29", [f"{n}.b.d.0.1.0.0.2.ip6.arpa." for n in "89abcdef"]),
        ("2001:db8::/115", [f"{n}.{'0.' * 20}8.b.d.0.1.0.0.2.ip6.arpa." for n in "01"]),
    ],
)
def test_reverse_zones(cidr: str, zones: list[str]) -> None:
    assert reverse_zones(cidr) == zones
    assert zones_from_args([cidr], []) == zones


@pytest.mark.parametrize("text", ["", "10.0.0.0", "10.0.0.0/33", "::/0", "0::/8", "a/8", "10.0/8"])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match="invalid CIDR"):
        reverse_zones(text)


@pytest.mark.parametrize(
    ("text", "zones"),
    [
        (".:53", ["."]),
        ("example.org:53", ["example.org."]),
        ("example.org.:53", ["example.org."]),
        ("10.0.0.0/8:53", ["10.in-addr.arpa."]),
        ("10.9.3.0/18", [f"{n}.9.10.in-addr.arpa." for n in range(64)]),
        ("2001:db8::/112", ["0." * 20 + "8.b.d.0.1.0.0.2.ip6.arpa."]),
        ("2001:db8::/108", ["0." * 19 + "8.b.d.0.1.0.0.2.ip6.arpa."]),
        ("::fFFF:B:F/115", []),
        ("dns://example.org", ["example.org."]),
    ],
)
def test_zones_from_args(text: str, zones: list[str]) -> None:
    assert zones_from_args([text], ["ignored.local"]) == zones


def test_zones_from_the_server_block() -> None:
    assert zones_from_args([], ["Example.org"]) == ["example.org."]
    assert zones_from_args([], ["10.0.0.0/15"]) == ["0.10.in-addr.arpa."]
    assert zones_from_args([], ["\udcff\n:", "example.org"]) == ["\udcff\n:", "example.org."]
    assert zones_from_args(["\udcff\n:", "example.org"], []) == ["example.org."]
    assert zones_from_args([], ["unix://\udcff\netcd"]) == ["\ufffd\netcd."]


@pytest.mark.parametrize(
    ("text", "transport"),
    [
        ("dns://.:53", "dns"),
        ("2003::1/64.:53", "dns"),
        ("grpc://example.org:1443 ", "grpc"),
        ("tls://example.org ", "tls"),
        ("https://example.org ", "https"),
        ("https3://example.org ", "https3"),
        ("TLS://example.org", "dns"),
    ],
)
def test_split_transport(text: str, transport: str) -> None:
    assert split_transport(text)[0] == transport


@pytest.mark.parametrize(
    ("text", "zones", "port"),
    [
        ("a:053", ["a"], 53),
        ("a:+5", ["a"], 5),
        ("a:-5", ["a"], -5),
        ("a:5x", ["a:5x"], None),
        ("a:\u0665", ["a:\u0665"], None),
        ("a:9223372036854775807", ["a"], (1 << 63) - 1),
        ("a:9223372036854775808", ["a:9223372036854775808"], None),
        (f"a:{'9' * 200}", [f"a:{'9' * 200}"], None),
    ],
)
def test_split_host_port(text: str, zones: list[str], port: int | None) -> None:
    if len(text) > 64:
        with pytest.raises(ValueError, match="not a valid domain name"):
            split_host_port(text)
        return
    assert split_host_port(text) == (zones, port)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", False),
        (".", True),
        ("a.", True),
        (".a", False),
        ("a..b", False),
        ("a..", False),
        ("x" * 63, True),
        ("x" * 64, False),
        ("\\065" * 63, True),
        ("\\065" * 64, False),
        ("\\." * 63, True),
        ("é" * 31, True),
        ("é" * 32, False),
        ("a\\", False),
        ("a\\\\", True),
        ("a\\.", True),
        ("a\\12.", False),
        ("\\256", False),
        ("\\999.example", False),
        ("\\00_0dir", False),
        ("10.0.0.0/\\00", False),
        ("\\255", True),
        ("\\123.", True),
        (("x" * 49 + ".") * 5, True),
        (("x" * 63 + ".") * 4, False),
        (("x" * 63 + ".") * 3 + "x" * 61, True),
        (("x" * 63 + ".") * 3 + "x" * 62, False),
        (("x" * 63 + ".") * 4 + "y.", False),
    ],
)
def test_is_domain_name(name: str, expected: bool) -> None:
    assert is_domain_name(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("example.org", "example.org."),
        ("Example.ORG.", "example.org."),
        ("a\\.", "a\\.."),
        ("a\\\\.", "a\\\\."),
        ("\u0130.ΑΣ", "i.\u03b1\u03c3."),
    ],
)
def test_normalize_zone(name: str, expected: str) -> None:
    assert normalize_zone(name) == expected


def key(spot: str) -> tuple[ZoneAddress, str]:
    """Return what "zone:port" or "zone:port on host" says."""
    zone, _, host = spot.partition(" on ")
    (address,) = server_keys(parse(zone).blocks[0], 53)
    return address, host


@pytest.mark.parametrize(
    "steps",
    [
        [(".:53", None), (".:53", "already defined")],
        [(".:53", None), (".:54", None), (".:53 on 127.0.0.1", "overlaps")],
        [(".:53 on 127.0.0.1", None), (".:54", None), (".:53 on 127.0.0.1", "already defined")],
        [
            (".:53 on 127.0.0.1", None),
            (".:54", None),
            (".:53 on 128.0.0.1", None),
            (".:53 on 129.0.0.1", None),
            (".:53", "dns://.:53 on 129.0.0.1 is defined"),
        ],
        [
            (".:53 on 127.0.0.1", None),
            ("com.:53 on 127.0.0.1", None),
            ("com.:53", "dns://com.:53 on 127.0.0.1 is defined"),
        ],
        [(".:53", None), ("tls://.:53", None), ("a:53", None)],
    ],
)
def test_overlaps(steps: list[tuple[str, str | None]]) -> None:
    checker = OverlapChecker()
    for spot, expected in steps:
        found = checker.check(*key(spot))
        assert (found is None) == (expected is None)
        if found and expected:
            text = f"{found.message}, {found.related[0][0]}"
            assert expected in text
            assert found.token is not found.related[0][1]


def test_filtered_blocks_may_share_a_zone() -> None:
    checker = OverlapChecker()
    assert checker.check(*key(".:53"), filtered=True) is None
    assert checker.check(*key(".:53")) is None
    assert checker.check(*key(".:53"), filtered=True) is None
    found = checker.check(*key(".:53 on 127.0.0.1"), filtered=True)
    assert found is not None
    assert "overlaps" in found.message


@pytest.mark.parametrize(("length", "shown"), [(64, "x" * 64), (65, "x" * 61 + "...")])
def test_a_message_shows_as_much_of_a_name_as_a_line_holds(length: int, shown: str) -> None:
    with pytest.raises(ValueError, match="not a valid domain name") as caught:
        split_host_port("x" * length)
    assert f"zone '{shown}' is" in str(caught.value)


ODD = st.text(st.sampled_from("\\.:/019aAé,-+{%\udc80")) | st.text()


@given(ODD | st.lists(st.sampled_from(["x" * 62, "\u023a" * 20, "\\123", "a", "."])).map(".".join))
@settings(max_examples=300, deadline=None)
def test_what_is_a_domain_name_is_one_for_a_message(text: str) -> None:
    """The Corefile's notion and the message's, which know nothing of each other, agree."""
    name = normalize_zone(text)
    try:
        from_text(name)
        expected = True
    except InvalidName:
        expected = False
    assert is_domain_name(name) is expected
    for zone in zones_from_args([text], []):
        from_text(zone)


@given(ODD)
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_zone_or_refused(text: str) -> None:
    zones = zones_from_args([text], [])
    if zones:
        assert all(is_domain_name(zone) for zone in zones)
    else:
        with pytest.raises(ValueError, match=r".+"):
            split_host_port(split_transport(text)[1])


@pytest.mark.parametrize(
    ("key", "warning"),
    [
        (
            "10.0.0.0/33",
            ("not as a network", "the length after the slash is a number from 0 to 32"),
        ),
        (
            "10.0.0.0/a:53",
            ("not as a network", "the length after the slash is a number from 0 to 32"),
        ),
        (
            "fd00::/129",
            ("not as a network", "the length after the slash is a number from 0 to 128"),
        ),
        ("example.org:dns", ("colon included", "a port is a number, such as example.org:53")),
        ("tls:.:853", ("colon included", "a scheme ends with '://', such as tls://.")),
        ("https:/a.b:443", ("colon included", "a scheme ends with '://', such as https://a.b")),
        (
            "https://example.org/dns-query",
            ("path included", "DNS over HTTPS has one path, /dns-query: write the zone only"),
        ),
        ("https://10.0.0.0/8:1053", None),
        ("https://0/25.2.0.192.in-addr.arpa", None),
        ("10.0.0.0/8:1053", None),
        ("fd00::/8", None),
        ("fd00::/8:53", None),
        ("example.org/24:53", None),
        ("0-31.2.0.192.in-addr.arpa", None),
        ("example.org:1053", None),
        (".:53", None),
    ],
)
def test_a_key_that_was_meant_otherwise(key, warning):
    found = parse(f"{key} {{\n}}\n", env={}).warnings
    expected = [(f"{key!r} is taken as a zone, {warning[0]}", warning[1])] if warning else []
    assert [(each.message, each.hint) for each in found] == expected


def test_a_block_without_its_opening_brace_is_hinted_at():
    (found,) = parse(".:53\nwhoami\n}\n", env={}).warnings
    assert found.hint == "put a '{' after .:53"
    (found,) = parse(". {\nlog\n}\nwhoami\n}\n", env={}).warnings
    assert found.hint is None
