"""The *grpc* directive: accepted and refused forms (CoreDNS: setup_test.go, setup_policy_test.go)."""

import subprocess
import sys

import pytest

from corepy.testing import refusal, set_up
from corepy.testing.tls import CERTIFICATE
from corepy_grpc.handler import GRPC


def settings(text):
    (handler,) = set_up(text).handlers
    assert isinstance(handler, GRPC)
    return handler.settings


def option(*lines):
    return "grpc . 127.0.0.1 {\n" + "\n".join(lines) + "\n}\n"


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("127.0.0.1", ["127.0.0.1:53"]),
        ("127.0.0.1:53", ["127.0.0.1:53"]),
        ("127.0.0.1:8080", ["127.0.0.1:8080"]),
        ("[::1]:53", ["[::1]:53"]),
        ("[2003::1]:53", ["[2003::1]:53"]),
        ("unix:///var/run/g.sock", ["unix:///var/run/g.sock"]),
        ("dns://192.0.2.1", ["192.0.2.1:53"]),
        ("grpc://192.0.2.1", ["192.0.2.1:443"]),
        (
            "192.0.2.1 unix:///a 192.0.2.2 unix:///b",
            ["192.0.2.1:53", "unix:///a", "192.0.2.2:53", "unix:///b"],
        ),
        (" ".join(["192.0.2.1"] * 15), ["192.0.2.1:53"] * 15),
    ],
)
def test_upstreams(text, addresses):
    found = settings(f"grpc . {text}")
    assert found.zone == "."
    assert [target.address for target in found.targets] == addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grpc . 127.0.0.1", {"policy": "random", "context": None, "excluded": []}),
        ("grpc Example.org 127.0.0.1", {"zone": "example.org."}),
        (option("except miek.nl"), {"excluded": ["miek.nl."]}),
        (
            option("except a.example b.example", "except c.example"),
            {"excluded": ["a.example.", "b.example.", "c.example."]},
        ),
        (option("policy random"), {"policy": "random"}),
        (option("policy round_robin"), {"policy": "round_robin"}),
        (option("policy sequential"), {"policy": "sequential"}),
        (option("tls_servername dns"), {"server_name": "dns"}),
        (option("tls"), {"server_name": ""}),
    ],
)
def test_options(text, expected):
    found = settings(text)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("line", "zones"),
    [
        ("", ()),
        ("fallthrough", (".",)),
        ("fallthrough example.org", ("example.org.",)),
        ("fallthrough example.org example.com", ("example.org.", "example.com.")),
    ],
)
def test_fallthrough(line, zones):
    assert settings(option(line)).fallthrough.zones == zones


@pytest.mark.parametrize(
    ("line", "is_secure"),
    [("", False), ("tls", True), ("tls_servername dns", True), ("tls {ca}", True)],
)
def test_tls(tmp_path, line, is_secure):
    ca = tmp_path / "ca.pem"
    ca.write_text(CERTIFICATE)
    controller = set_up(option(line.format(ca=ca)))
    (handler,) = controller.handlers
    assert (handler.settings.context is not None) == is_secure
    assert controller.files == ([ca] if "{ca}" in line else [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grpc . a27.0.0.1", "not an IP address or file: 'a27.0.0.1'"),
        (option("blaatl"), "unknown option 'blaatl'"),
        ("grpc . ::1\ngrpc com ::2", "this plugin can only be used once per Server Block"),
        (f"grpc {'x' * 64} 127.0.0.1", f"{'x' * 64}' is not a valid domain name"),
        (option("policy random2"), "unknown policy 'random2'"),
        ("grpc", "wrong argument count"),
        ("grpc .", "wrong argument count"),
        ("grpc . unix://", "invalid address: 'unix://'"),
        ("grpc . tls://127.0.0.1", "'tls' is not a transport of gRPC upstreams"),
        ("grpc . 127.0.0.1:70000", "not a port number: '127.0.0.1:70000'"),
        ("grpc . " + "127.0.0.1 " * 16, "more than 15 TOs configured: 16"),
        (option("except"), "wrong argument count"),
        (option("policy"), "wrong argument count"),
        (option("tls_servername"), "wrong argument count"),
        (option("tls_servername a..b"), "not a server name for TLS: 'a..b'"),
        (option("tls a b c d"), "wrong argument count"),
        (option("tls /no/such/ca.pem"), "tls: "),
    ],
)
def test_refused(text, message):
    assert message in refusal(text).message


def test_a_file_like_resolv_conf(tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 10.10.255.252\nnameserver 10.10.255.253")
    controller = set_up(f"grpc . {path}")
    (handler,) = controller.handlers
    found = [target.address for target in handler.settings.targets]
    assert found == ["10.10.255.252:53", "10.10.255.253:53"]
    assert controller.files == [path]


def test_a_network_that_is_several_zones():
    controller = set_up("grpc 10.9.3.0/18 127.0.0.1")
    assert "expands to 64 zones" in controller.warnings[0].message


def test_grpcio_is_not_needed():
    program = (
        "import sys; from corepy.testing import set_up; set_up('grpc . 192.0.2.1');"
        "print({'grpc', 'google'} & {name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "set()"
