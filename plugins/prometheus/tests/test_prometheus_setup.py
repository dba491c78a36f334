"""What *prometheus* accepts; the tables hold the cases of CoreDNS's setup test."""

import pytest

from corepy.plugin import Cacheability
from corepy.testing import refusal, set_up
from corepy_prometheus.handler import Prometheus


@pytest.mark.parametrize(
    ("text", "address", "runtime"),
    [
        ("prometheus", "localhost:9153", False),
        ("prometheus localhost:53", "localhost:53", False),
        ("prometheus {\nruntime_metrics\n}", "localhost:9153", True),
        ("prometheus localhost:53 {\nruntime_metrics\n}", "localhost:53", True),
        ("prometheus :9153", ":9153", False),
        ("prometheus [::1]:9153", "[::1]:9153", False),
    ],
)
def test_accepts(text: str, address: str, runtime: bool) -> None:
    (handler,) = set_up(text).handlers
    assert isinstance(handler, Prometheus)
    assert (handler.address, handler.runtime) == (address, runtime)
    assert handler.cacheability is Cacheability.OBSERVES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prometheus {}", "missing port in address"),
        ("prometheus {\nruntime_metrics extra_arg\n}", "wrong argument count"),
        ("prometheus /foo", "missing port in address"),
        ("prometheus a b c", "wrong argument count"),
        ("prometheus {\nruntime\n}", "unknown option 'runtime'"),
        ("prometheus\nprometheus", "only be used once"),
        ("prometheus {\ntop 21\n}", "top takes a number from 1 to 20"),
        ("prometheus {\ntop 0\n}", "top takes a number from 1 to 20"),
        ("prometheus {\ntop many\n}", "'many'"),
        ("prometheus {\ntop 1 2\n}", "wrong argument count"),
        ("prometheus {\ntls\n}", "wrong argument count"),
        ("prometheus {\ntls a b\n}", "wrong argument count"),
        ("prometheus {\ntls web.yml\n}", "does not export metrics over TLS"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    assert message in refusal(text).message


@pytest.mark.parametrize(
    ("text", "top"),
    [("prometheus", 0), ("prometheus {\ntop\n}", 20), ("prometheus {\ntop 5\n}", 5)],
)
def test_top(text: str, top: int) -> None:
    (handler,) = set_up(text).handlers
    assert isinstance(handler, Prometheus)
    assert handler.top == top
