"""What `forward` accepts and refuses: the cases of CoreDNS's setup_test.go, and ours."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from corepy.testing import refusal, set_up
from corepy.testing.certificates import Authority
from corepy_forward.handler import Forward
from corepy_forward.settings import Settings


def handler(text: str) -> Forward:
    found = set_up(text).handlers[0]
    assert isinstance(found, Forward)
    return found


def settings(text: str) -> Settings:
    return handler(text).settings


def refused(text: str, hosts: Sequence[str] = ("",)) -> str:
    return str(refusal(text, hosts=hosts))


def option(line: str) -> str:
    return f"forward . 127.0.0.1 {{\n{line}\n}}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("forward . 127.0.0.1", {"zone": ".", "max_fails": 2, "read_timeout": 2.0, "expire": 10.0}),
        ("forward . 127.0.0.1", {"max_connect_attempts": None, "max_idle_conns": 0}),
        ("forward . 127.0.0.1", {"max_concurrent": 0, "max_age": None, "policy": "random"}),
        (option("except miek.nl"), {"ignored": ["miek.nl."]}),
        (option("except a.org 10.0.0.0/8"), {"ignored": ["a.org.", "10.in-addr.arpa."]}),
        (option("max_fails 3"), {"max_fails": 3}),
        (option("force_tcp"), {"force_tcp": True, "prefer_udp": False}),
        (option("prefer_udp"), {"force_tcp": False, "prefer_udp": True}),
        (option("force_tcp\nprefer_udp"), {"force_tcp": True, "prefer_udp": True}),
        ("forward 10.9.3.0/18 127.0.0.1", {"zone": "0.9.10.in-addr.arpa."}),
        ("forward EXAMPLE.org 127.0.0.1", {"zone": "example.org."}),
        (option("max_concurrent 1000"), {"max_concurrent": 1000}),
        (option(""), {"max_connect_attempts": None}),
        (option("max_connect_attempts 0"), {"max_connect_attempts": 0}),
        (option("max_connect_attempts 5"), {"max_connect_attempts": 5}),
        (option("max_idle_conns 10"), {"max_idle_conns": 10}),
        (option("max_idle_conns 0"), {"max_idle_conns": 0}),
        (option("max_age 30s"), {"max_age": 30.0}),
        (option("expire 10s\nmax_age 10s"), {"max_age": 10.0}),
        (option("max_age 0s"), {"max_age": 0.0}),
        (option("read_timeout 5s"), {"read_timeout": 5.0}),
        (option("read_timeout 500ms"), {"read_timeout": 0.5}),
        (option("policy random"), {"policy": "random"}),
        (option("policy round_robin"), {"policy": "round_robin"}),
        (option("policy sequential"), {"policy": "sequential"}),
        (option("next NXDOMAIN"), {"next_rcodes": {3}}),
        (option("next SERVFAIL"), {"next_rcodes": {2}}),
        (option("next NXDOMAIN SERVFAIL refused"), {"next_rcodes": {2, 3, 5}}),
        (option("next_on_nodata"), {"next_on_nodata": True}),
        (option("failover ServFail Refused"), {"failover_rcodes": {2, 5}}),
        (option("failfast_all_unhealthy_upstreams"), {"failfast": True}),
        (option("source_address 192.0.2.1"), {"source_address": "192.0.2.1"}),
        (option("source_address ::ffff:192.0.2.1"), {"source_address": "192.0.2.1"}),
        (
            option("source_address 2001:0db8:85a3:0000:1319:8a2e:0370:7344"),
            {"source_address": "2001:db8:85a3:0:1319:8a2e:370:7344"},
        ),
        (option("resolver 10.0.0.1 [::1]:53 ::1"), {"resolvers": ["10.0.0.1", "[::1]:53", "::1"]}),
        (option("doh_method GET"), {"doh_method": "GET"}),
        (option("tls"), {"tls_contexts": {}}),
        (option("tls_servername dns"), {"tls_servername": "dns", "tls_contexts": {}}),
    ],
)
def test_accepted(text: str, expected: dict[str, object]):
    found = settings(text)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("line", "interval", "recursion", "domain"),
    [
        ("health_check 0.5s", 0.5, True, "."),
        ("health_check 0.5s no_rec", 0.5, False, "."),
        ("health_check 1m no_rec domain example.org", 60.0, False, "example.org."),
        ("health_check 1m no_rec\nhealth_check 2s", 2.0, False, "."),  # as in CoreDNS
        ("health_check 0.5s domain Example.org.", 0.5, True, "example.org."),
        ("health_check 0.5s domain .", 0.5, True, "."),
    ],
)
def test_health_check(line: str, interval: float, recursion: bool, domain: str):
    check = settings(option(line)).health
    assert (check.interval, check.recursion_desired, check.domain) == (interval, recursion, domain)


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("127.0.0.1:53", [("127.0.0.1:53", "dns", "")]),
        ("127.0.0.1:8080", [("127.0.0.1:8080", "dns", "")]),
        ("dns://127.0.0.1", [("127.0.0.1:53", "dns", "")]),
        ("[::1]:53 [2003::1]:53", [("[::1]:53", "dns", ""), ("[2003::1]:53", "dns", "")]),
        ("::1 127.0.0.1:53 ::1", [("[::1]:53", "dns", ""), ("127.0.0.1:53", "dns", "")]),
        ("https://127.0.0.1", [("127.0.0.1:443", "https", "")]),
        ("tls://127.0.0.1", [("127.0.0.1:853", "tls", "")]),
        ("tls://127.0.0.1%example.net", [("127.0.0.1:853", "tls", "example.net")]),
        ("tls://127.0.0.1%example.net:854", [("127.0.0.1:854", "tls", "example.net")]),
        ("tls://2003::1%example.com", [("[2003::1]:853", "tls", "example.com")]),
        (
            "fe80::1%eth0 [fe80::1%3]:54",
            [("[fe80::1%eth0]:53", "dns", ""), ("[fe80::1%3]:54", "dns", "")],
        ),
        (
            "tls://[2400:3200::1%dns.alidns.com]:853",
            [("[2400:3200::1]:853", "tls", "dns.alidns.com")],
        ),
    ],
)
def test_targets(text: str, targets: list[tuple[str, str, str]]):
    static = handler(f"forward . {text}").static_targets()
    assert [(t.address, t.transport, t.server_name) for t in static] == targets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("forward", "wrong argument count"),
        ("forward .", "wrong argument count"),
        ("forward . {\nforce_tcp\n}", "wrong argument count"),
        ("forward . https://1.1.1.1/", "paths are not allowed in HTTPS upstream addresses"),
        ("forward . grpc://1.1.1.1", "'grpc' is not supported as a destination protocol"),
        ("forward . tls://", "invalid address"),
        ("forward . 127.0.0.1:99999", "not a port number"),
        ("forward . /no/such/file", "no such file"),
        ("forward . __PILLAR__CLUSTER__DNS__", "a placeholder that was not replaced"),
        ("forward . <nil>:53", "a placeholder that was not replaced"),
        ("forward . not..a.name", "not an IP address, file, or valid domain"),
        (f"forward {'x' * 64} 127.0.0.1", "' is not a valid domain name: it has a label of 64"),
        ("forward . " + "127.0.0.1 " * 16, "more than 15 TOs configured: 16"),
        (option("blaatl"), "unknown option 'blaatl'"),
        (option("health_check 0.5s domain"), "unexpected line ending after 'domain'"),
        (option("health_check no_rec"), "invalid duration"),
        (option("health_check domain example.org"), "invalid duration"),
        (option("health_check -1s"), "health_check can't be negative"),
        (option("health_check 0.5s rec"), "health_check: unknown option rec"),
        (option("health_check 0.5s domain example..org"), "health_check: invalid domain name"),
        (option("source_address not-an-ip"), "invalid IP address: not-an-ip"),
        (option("source_address"), "wrong argument count"),
        (option("max_concurrent many"), "invalid"),
        (option("max_concurrent -4"), "negative"),
        (option("max_concurrent 1_000"), "invalid"),
        (option("max_concurrent 9223372036854775808"), "invalid"),
        (option("max_fails +4"), "invalid"),
        (option("max_connect_attempts many"), "invalid"),
        (option("max_connect_attempts -4"), "invalid"),
        (option("max_fails 4294967296"), "invalid"),
        (option("max_idle_conns many"), "invalid"),
        (option("max_idle_conns -1"), "negative"),
        (option("next"), "wrong argument count"),
        (option("next INVALID"), "INVALID is not a valid rcode"),
        (option("next NXDOMAIN INVALID"), "INVALID is not a valid rcode"),
        (option("next_on_nodata yes"), "wrong argument count"),
        (option("failfast_all_unhealthy_upstreams false"), "wrong argument count"),
        (option("failover NOERROR"), "NoError cannot be used in failover"),
        (option("failover NOT_A_VALID_RCODE"), "not a valid rcode"),
        (option("force_tcp yes"), "wrong argument count"),
        (option("prefer_udp yes"), "wrong argument count"),
        (option("except"), "wrong argument count"),
        (option("expire -1s"), "expire can't be negative"),
        (option("expire 10"), "missing unit"),
        (option("max_age -1s"), "negative"),
        (option("max_age invalid"), "invalid"),
        (option("expire 30s\nmax_age 10s"), "max_age (10s) must not be less than expire (30s)"),
        (option("read_timeout 0s"), "read_timeout must be positive"),
        (option("read_timeout -1s"), "read_timeout must be positive"),
        (option("read_timeout invalid"), "invalid"),
        (option("read_timeout"), "wrong argument count"),
        (option("policy random2"), "unknown policy 'random2'"),
        (option("resolver dns.example"), "resolver must be an IP address or IP:port"),
        (option("resolver"), "wrong argument count"),
        (option("doh_method PUT"), "doh_method must be either POST or GET"),
        (option("tls a b c d"), "wrong argument count"),
        (option("tls /no/such/ca.pem"), "/no/such/ca.pem"),
        (option("tls /dev/zero"), "not a regular file but a device"),
        (option("tls_servername .example"), "not a server name for TLS: '.example'"),
        (option("tls_servername ."), "not a server name for TLS: '.'"),
        (
            "forward . tls://127.0.0.1%example.net:854 {\ntls_servername foo\n}",
            "both forward ('foo') and proxy level ('example.net') TLS servernames are set for"
            " upstream proxy 'tls://127.0.0.1:854'",
        ),
    ],
)
def test_refused(text: str, message: str):
    assert message in refused(text)


def test_each_line_is_a_handler_and_a_cidr_of_many_zones_warns():
    controller = set_up("forward . ::1\nforward com ::2")
    assert [handler.settings.zone for handler in controller.handlers] == [".", "com."]
    controller = set_up("forward 10.9.3.0/18 127.0.0.1")
    assert "expands to 64 zones" in controller.warnings[0].message


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        (
            "nameserver 10.10.255.252\nnameserver 10.10.255.253",
            ["10.10.255.252:53", "10.10.255.253:53"],
        ),
        (
            "nameserver 0388:d254:7aec:6892:9f7f:e93b:5806:1b0f%en0",
            ["[388:d254:7aec:6892:9f7f:e93b:5806:1b0f]:53"],
        ),
        ("# nameserver 1.1.1.1\n;nameserver 1.0.0.1\nsearch a", []),
        ("", []),
        ("nameserver nonsense\n nameserver 192.0.2.1 extra", ["192.0.2.1:53"]),
    ],
)
def test_files(tmp_path: Path, text: str, addresses: list[str]):
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    if not addresses:
        assert "no valid upstream addresses found" in refused(f"forward . {path}")
    text = f"forward . {path} 127.0.0.1"
    found = [target.address for target in handler(text).static_targets()]
    assert found == [*addresses, "127.0.0.1:53"]
    assert set_up(text).files == [path]


def test_own_address_is_refused(tmp_path: Path):
    text = refused("forward . 169.254.20.10", hosts=["169.254.20.10"])
    assert "169.254.20.10:53 is an address that this server listens on" in text
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 169.254.20.10\n")
    assert str(path) in refused(f"forward . {path}", hosts=["169.254.20.10"])
    set_up("forward . 169.254.20.10:54", hosts=["169.254.20.10"])


def test_a_missing_file_is_looked_for_nearby(tmp_path: Path):
    (tmp_path / "resolv.conf").touch()
    diagnostic = refusal(f"forward . {tmp_path}/resolf.conf")
    assert diagnostic.hint == f"did you mean '{tmp_path}/resolv.conf'?"


PLAIN = "queries to plain DNS are not encrypted"
ENCRYPTED = "ddr has no effect: all upstreams are encrypted already"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1 {\ntls_servername dns.example\n}", f"tls_servername has no effect: {PLAIN}"),
        ("tls://192.0.2.1 192.0.2.2 {\ntls_servername dns.example\n}", ""),
        ("tls://192.0.2.1 {\nddr\n}", ENCRYPTED),
        ("tls://192.0.2.1 192.0.2.2 {\nddr\n}", ""),
    ],
)
def test_an_option_without_effect_gets_a_warning(text: str, expected: str):
    messages = [warning.message for warning in set_up(f"forward . {text}").warnings]
    assert messages == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1 tls://192.0.2.2#dns.example", "directly after 'tls://192.0.2.2'"),
        ("tls://192.0.2.2 # dns.example", ""),
        ("tls://192.0.2.2 #dns.example", ""),
        ("tls://192.0.2.2", ""),
    ],
)
def test_a_server_name_that_is_a_comment_gets_a_warning(text: str, expected: str):
    warnings = set_up(f"forward . {text}").warnings
    assert [expected in it.message for it in warnings] == ([True] if expected else [])
    assert all("tls://192.0.2.1%dns.example" in str(it.hint) for it in warnings)


def test_certificates_for_plain_upstreams_get_a_warning(tmp_path: Path):
    files = Authority().issue(tmp_path, "dns.example")
    (warning,) = set_up(f"forward . 192.0.2.1 {{\ntls {files.authority}\n}}").warnings
    assert warning.message == f"tls has no effect: {PLAIN}"
