"""What *health* accepts; the tables hold the cases of CoreDNS's setup test."""

import pytest

from corepy.testing import refusal, set_up
from corepy_health.health import Health


@pytest.mark.parametrize(
    ("text", "address", "lameduck"),
    [
        ("health", ":8080", 0),
        ("health localhost:1234", "localhost:1234", 0),
        ("health localhost:1234 {\nlameduck 4s\n}", "localhost:1234", 4),
        ("health bla:80", "bla:80", 0),
        ("health bla:http", "bla:http", 0),
        ("health [::1]:80", "[::1]:80", 0),
        ("health [fe80::1%eth0]:80", "[fe80::1%eth0]:80", 0),
        ("health my_host.example:0", "my_host.example:0", 0),
        ("health {\nlameduck 1m0.5s\n}", ":8080", 60.5),
        ("health {\nlameduck -1s\n}", ":8080", -1),
        ("health :1\nhealth :2 {\nlameduck 1s\n}", ":2", 1),
    ],
)
def test_accepts(text: str, address: str, lameduck: float) -> None:
    controller = set_up(text)
    (health,) = controller.hooks
    assert isinstance(health, Health)
    assert (health.address, health.lameduck) == (address, lameduck)
    assert not controller.handlers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("health bla", "missing port in address"),
        ("health bla:a", "'a' is neither a port nor a service"),
        ("health :65536", "port 65536 is outside 0 to 65535"),
        ("health 10.0.0.256:80", "no IP address or host name: '10.0.0.256'"),
        ('health "a b:80"', "no IP address or host name: 'a b'"),
        ("health 10.0.0.1,10.0.0.2:80", "no IP address or host name"),
        ("health bla bla", "wrong argument count"),
        (
            "health localhost:1234 {\nlameduck a\n}",
            "invalid duration 'a'",
        ),
        ("health localhost:1234 {\nlamedudk 4\n}", "unknown option 'lamedudk'"),
        ("health {\nlameduck\n}", "wrong argument count"),
        ("health {\nlameduck 1s 2s\n}", "wrong argument count"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    assert message in refusal(text).message
