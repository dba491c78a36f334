"""Durations are Go's; the numbers and texts are what time.ParseDuration and String gave."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.plugin import parse_duration, show_duration
from corepy.plugin.duration import parse_nanoseconds, show_nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds", "shown"),
    [
        ("0", 0, "0s"),
        ("+0", 0, "0s"),
        ("-0", 0, "0s"),
        ("0s", 0, "0s"),
        ("30s", 30 * 10**9, "30s"),
        ("1m", 60 * 10**9, "1m0s"),
        ("5m", 300 * 10**9, "5m0s"),
        ("1h", 3600 * 10**9, "1h0m0s"),
        ("1h2m3s", 3723 * 10**9, "1h2m3s"),
        ("1h30m0.5s", 5_400_500_000_000, "1h30m0.5s"),
        ("1.5h", 5400 * 10**9, "1h30m0s"),
        ("90m", 5400 * 10**9, "1h30m0s"),
        (".5m", 30 * 10**9, "30s"),
        ("100ms", 10**8, "100ms"),
        ("1500us", 1_500_000, "1.5ms"),
        ("1\u00b5s1\u03bcs", 2000, "2\u00b5s"),
        ("1234ns", 1234, "1.234\u00b5s"),
        ("999ns", 999, "999ns"),
        ("-5s", -5 * 10**9, "-5s"),
        ("-300ms", -3 * 10**8, "-300ms"),
        ("+.5s", 5 * 10**8, "500ms"),
        ("1.s", 10**9, "1s"),
        ("0.0000000019s", 1, "1ns"),
        ("0.3333333333333333333h", 1_200_000_000_000, "20m0s"),
        ("0.9223372036854775808h", 3_320_413_933_267, "55m20.413933267s"),
        ("0.9999999999999999999s", 10**9, "1s"),
        ("1.00000000000000000000000000001h", 3600 * 10**9, "1h0m0s"),
        ("300000h", 1_080_000_000 * 10**9, "300000h0m0s"),
        ("00000000000000000000000007s", 7 * 10**9, "7s"),
        ("9223372036854775807ns", 2**63 - 1, "2562047h47m16.854775807s"),
        ("-9223372036854775808ns", -(2**63), "-2562047h47m16.854775808s"),
    ],
)
def test_parse_and_show(text, nanoseconds, shown):
    assert parse_nanoseconds(text) == nanoseconds
    assert show_nanoseconds(nanoseconds) == shown
    assert parse_duration(text) == nanoseconds / 10**9


def test_seconds_are_shown():
    assert [show_duration(it) for it in (90, 0.001, 86400.0, -0.3)] == [
        "1m30s",
        "1ms",
        "24h0m0s",
        "-300ms",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((text, "invalid") for text in ("", "-", "+", "s", ".", "-.", ".s", "+.s", "--1s", " 1s")),
        *((text, "missing unit") for text in ("3", "1m30", "1..s", "1.2.3s")),
        *((text, "unknown unit") for text in ("1d", "1 s", "1s ", "1S", "1e3s", "1s x")),
        *((text, "invalid") for text in ("\u0661s", "9223372036854775808ns", "3000000h")),
        ("9" * 9000 + "h", "invalid"),
    ],
)
def test_refuses(text, reason):
    with pytest.raises(ValueError, match=f"{reason}.*duration"):
        parse_duration(text)


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_what_is_shown_can_be_read(nanoseconds):
    assert parse_nanoseconds(show_nanoseconds(nanoseconds)) == nanoseconds


@settings(deadline=None)
@given(st.text("0123456789.-+smhnu\u00b5 ", max_size=30))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ValueError):
        assert -(2**63) <= parse_nanoseconds(text) < 2**63


def test_the_message_names_what_is_wrong():
    with pytest.raises(ValueError, match=r"^unknown unit 'd' in duration '1h2d'$"):
        parse_duration("1h2d")
