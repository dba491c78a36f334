"""The directive: the cases of plugin/etcd/setup_test.go, and every option with its mistakes."""

import pytest

from corepy.corefile import CorefileError
from corepy.plugin import StartupError
from corepy.plugin.tls_client import TLSFiles
from corepy.testing import refusal, serve, set_up
from corepy.testing.tls import CERTIFICATE, KEY
from corepy_etcd.gateway import Credentials
from corepy_etcd.handler import LeaseBounds

COUNT = "wrong argument count or unexpected line ending after"


def directive(text, zone="."):
    """Set up a directive; return its handler and the messages of its warnings."""
    controller = set_up(text, zone)
    (handler,) = controller.handlers
    return handler, [warning.message for warning in controller.warnings]


def urls(handler):
    return [endpoint.url for endpoint in handler.settings.endpoints]


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("etcd", ["http://localhost:2379/"]),
        (
            "etcd {\nendpoint http://localhost:2379 http://localhost:3379 http://localhost:4379\n\n}",
            ["http://localhost:2379/", "http://localhost:3379/", "http://localhost:4379/"],
        ),
        ("etcd skydns.local {\nendpoint localhost:300\n}\n", ["http://localhost:300/"]),
        ("etcd {\nendpoint [2001:db8::1]:2379\n}\n", ["http://[2001:db8::1]:2379/"]),
        ("etcd {\nendpoint localhost:300\ntls\n}\n", ["https://localhost:300/"]),
    ],
)
def test_endpoints(text, endpoints):
    handler, _ = directive(text)
    assert urls(handler) == endpoints
    assert handler.settings.prefix == "/skydns/"


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        *(("skydns", "/skydns/"), ("/skydns", "/skydns/"), ("/skydns/", "/skydns/")),
        *(("a/b", "/a/b/"), ("/", "/"), ("//a//./b/../c", "/a/c/"), ("/../..", "/")),
    ],
)
def test_the_path_is_normalized(path, prefix):
    handler, _ = directive(f"etcd {{\npath {path}\n}}")
    assert handler.settings.prefix == prefix


def test_zones_are_those_of_the_block_unless_named():
    handler, _ = directive("etcd skydns.local 10.0.0.0/24 {\nfallthrough 0.0.10.in-addr.arpa\n}")
    assert handler._zones.zones == ("skydns.local.", "0.0.10.in-addr.arpa.")
    assert handler._fallthrough.zones == ("0.0.10.in-addr.arpa.",)
    handler, _ = directive("etcd {\nfallthrough\n}", "skydns.local")
    assert handler._zones.zones == ("skydns.local.",)
    assert handler._fallthrough.zones == (".",)


def test_credentials():
    handler, _ = directive("etcd {\ncredentials username password\n}")
    assert handler.settings.credentials == Credentials("username", "password")
    handler, _ = directive('etcd {\ncredentials username ""\n}')  # CoreDNS uses both or none
    assert handler.settings.credentials is None
    controller = set_up("etcd {\ncredentials username word\n}")
    hidden = [token.text for token in controller.sibling("etcd")[0].source.hidden]
    assert hidden == ["word"]
    assert "password" not in directive("etcd {\ncredentials u password\n}")[0].settings.name


def test_a_password_without_a_user_is_not_shown():
    with pytest.raises(CorefileError) as caught:
        set_up("etcd {\ncredentials hunter2\n}")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "bounds"),
    [
        ("", (30, 86400)),
        ("min-lease-ttl 60", (60, 86400)),
        ("max-lease-ttl 1h", (30, 3600)),
        ("min-lease-ttl 120\nmax-lease-ttl 7200", (120, 7200)),
        ("min-lease-ttl 1h30m45s", (5445, 86400)),
        ("min-lease-ttl 90s", (90, 86400)),
        ("min-lease-ttl 0\nmax-lease-ttl 0s", (30, 86400)),
        ('min-lease-ttl ""', (30, 86400)),
        ("max-lease-ttl 1500ms", (30, 1)),
    ],
)
def test_bounds_of_leases(options, bounds):
    handler, _ = directive(f"etcd {{\n{options}\n}}")
    assert handler._bounds == LeaseBounds(*bounds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("endpoints localhost:300", "unknown option 'endpoints'"),
        ("credentials username", "credentials requires 2 arguments, username and password"),
        ("credentials a b c", "credentials requires 2 arguments, username and password"),
        ("credentials", f"{COUNT} 'credentials'"),
        ("path", f"{COUNT} 'path'"),
        ("endpoint", f"{COUNT} 'endpoint'"),
        ("path a b", "unknown option 'b'"),
        ("stubzones x", "unknown option 'x'"),
        ("min-lease-ttl", f"{COUNT} 'min-lease-ttl'"),
        ("min-lease-ttl -30s", "TTL '-30s' is out of range"),
        ("min-lease-ttl abc", "invalid TTL 'abc'"),
        ("max-lease-ttl 1y", "invalid TTL '1y'"),
        ("max-lease-ttl 4294967296s", "TTL '4294967296s' is out of range"),
        ("tls a b c d", f"{COUNT} 'd'"),
        ("endpoint unix:///run/etcd", "endpoint 'unix:///run/etcd'"),
        ("endpoint http://localhost:0", "endpoint 'http://localhost:0'"),
        ("endpoint http://u:p@localhost", "an endpoint has no user name and password"),
    ],
)
def test_refused(options, message):
    assert refusal(f"etcd {{\n{options}\n}}").message.startswith(message)


@pytest.mark.parametrize(
    ("options", "warnings"),
    [
        ("stubzones\ndebug", ["stubzones is ignored", "debug is ignored"]),
        ("upstream 8.8.8.8:53 8.8.4.4:53", ["upstream is ignored"]),
        ("tls\nendpoint http://a", ["tls has no effect: no endpoint begins with https://"]),
        ("endpoint http://a/v3", ["the path of 'http://a/v3' is ignored"]),
        (
            "max-lease-ttl 10s",
            ["max-lease-ttl (10 s) has no effect: it is below min-lease-ttl (30 s)"],
        ),
        ("max-lease-ttl 30s", []),
    ],
)
def test_options_without_effect(options, warnings):
    assert directive(f"etcd {{\n{options}\n}}")[1] == warnings


def test_only_the_first_directive_of_a_block_has_an_effect():
    handler, warnings = directive("etcd a.example\netcd b.example {\ndebug\n}")
    assert handler._zones.zones == ("a.example.",)
    assert "only the first etcd of a block has an effect" in warnings


def test_tls_files(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_text(CERTIFICATE)
    key.write_text(KEY)
    for words, files in {
        f"{certificate}": TLSFiles(ca=certificate),
        f"{certificate} {key}": TLSFiles(certificate, key),
        f"{certificate} {key} {certificate}": TLSFiles(certificate, key, certificate),
    }.items():
        handler, _ = directive(f"etcd {{\ntls {words}\nendpoint https://a\n}}")
        assert handler.settings.tls == files
    missing = tmp_path / "none"
    assert str(missing) in refusal(f"etcd {{\ntls {missing}\n}}").message
    assert str(key) in refusal(f"etcd {{\ntls {key}\n}}").message
    message = f"tls: could not load TLS cert {certificate} with key {certificate}"
    assert refusal(f"etcd {{\ntls {certificate} {certificate}\n}}").message.startswith(message)


def test_autopath_cannot_use_it():
    """As in CoreDNS: a plugin without search paths is refused at the start."""
    text = "example.com {\nautopath @etcd\netcd {\nendpoint http://127.0.0.1:1\n}\n}"
    problem = "etcd in .* does not implement SearchPathSource"
    with pytest.raises(StartupError, match=problem), serve(text):
        pass
