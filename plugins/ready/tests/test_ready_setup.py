"""What *ready* accepts; the tables hold the cases of CoreDNS's setup test."""

import pytest

from corepy.testing import refusal, set_up
from corepy_ready.ready import Ready


@pytest.mark.parametrize(
    ("text", "address", "continuously"),
    [
        ("ready", ":8181", False),
        ("ready localhost:1234", "localhost:1234", False),
        ("ready {\nmonitor until-ready\n}", ":8181", False),
        ("ready {\nmonitor continuously\n}", ":8181", True),
        ("ready localhost:1234 {\nmonitor continuously\n}", "localhost:1234", True),
        ("ready {\nmonitor continuously\nmonitor until-ready\n}", ":8181", False),
        ("ready [::1]:1234", "[::1]:1234", False),
    ],
)
def test_accepts(text: str, address: str, continuously: bool) -> None:
    controller = set_up(text)
    (ready,) = controller.hooks
    assert isinstance(ready, Ready)
    assert (ready.address, ready.continuously) == (address, continuously)
    assert not controller.handlers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ready localhost:1234 {\nmonitor 404\n}", "monitor type '404' not supported"),
        ("ready {\nmonitro continuously\n}", "unknown option 'monitro'"),
        ("ready localhost:1234 b", "wrong argument count"),
        ("ready bla", "missing port in address"),
        ("ready bla:a", "'a' is neither a port nor a service"),
        ("ready bla bla", "wrong argument count"),
        ("ready {\nmonitor\n}", "wrong argument count"),
        ("ready {\nmonitor a b\n}", "wrong argument count"),
        ("ready\nready", "only be used once"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    assert message in refusal(text).message
