"""What *health* accepts; the tables hold the cases of CoreDNS's setup test."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.corefile import CorefileError
from corepy.testing import set_up
from corepy_health.duration import parse_duration
from corepy_health.health import Health


@pytest.mark.parametrize(
    ("text", "address", "lameduck"),
    [
        ("health", ":8080", 0),
        ("health localhost:1234", "localhost:1234", 0),
        ("health localhost:1234 {\nlameduck 4s\n}", "localhost:1234", 4),
        ("health bla:a", "bla:a", 0),
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
        ("health bla bla", "wrong argument count"),
        (
            "health localhost:1234 {\nlameduck a\n}",
            "unable to parse lameduck duration value: invalid duration 'a'",
        ),
        ("health localhost:1234 {\nlamedudk 4\n}", "unknown option 'lamedudk'"),
        ("health {\nlameduck\n}", "wrong argument count"),
        ("health {\nlameduck 1s 2s\n}", "wrong argument count"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(CorefileError) as caught:
        set_up(text)
    assert message in caught.value.diagnostics[0].message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("+0", 0),
        ("-0", 0),
        ("5s", 5),
        ("1.5m", 90),
        (".5s", 0.5),
        ("5.s", 5),
        ("1h1m1s", 3661),
        ("100ms", 0.1),
        ("1us1\u00b5s1\u03bcs", 3e-6),
        ("-2s", -2),
        ("", None),
        ("4", None),
        ("s", None),
        (".s", None),
        ("1x", None),
        ("1s ", None),
        ("--1s", None),
        ("1e3s", None),
        ("\u0661s", None),
        ("3000000h", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError, match="duration"):
            parse_duration(text)
    else:
        assert parse_duration(text) == pytest.approx(seconds)


@given(st.text(alphabet="0123456789.+-nuµmsh ", max_size=30))
def test_no_text_hurts(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert abs(seconds) < 1e10
