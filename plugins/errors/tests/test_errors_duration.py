"""Durations are Go's."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy_errors import duration


@pytest.mark.parametrize(
    ("text", "nanoseconds", "shown"),
    [
        ("0", 0, "0s"),
        ("30s", 30 * 10**9, "30s"),
        ("1m", 60 * 10**9, "1m0s"),
        ("5m", 300 * 10**9, "5m0s"),
        ("1h", 3600 * 10**9, "1h0m0s"),
        ("1h30m0.5s", 5_400_500_000_000, "1h30m0.5s"),
        ("1.5h", 5400 * 10**9, "1h30m0s"),
        ("90m", 5400 * 10**9, "1h30m0s"),
        ("100ms", 10**8, "100ms"),
        ("1500us", 1_500_000, "1.5ms"),
        ("1\u00b5s1\u03bcs", 2000, "2\u00b5s"),
        ("999ns", 999, "999ns"),
        ("-5s", -5 * 10**9, "-5s"),
        ("+.5s", 5 * 10**8, "500ms"),
        ("1.s", 10**9, "1s"),
        ("0.0000000019s", 1, "1ns"),
        ("9223372036854775807ns", 2**63 - 1, "2562047h47m16.854775807s"),
    ],
)
def test_parse_and_show(text: str, nanoseconds: int, shown: str) -> None:
    assert duration.parse(text) == nanoseconds
    assert duration.show(nanoseconds) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("", "3", "-", "s", ".", "-.", ".s", "+.s", "1d", "1 s", "1s ", "--1s", "1m30", "1S"),
        *("\u0661s", "9223372036854775808ns", "3000000h"),
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration.parse(text)


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_what_is_shown_can_be_read(nanoseconds: int) -> None:
    assert duration.parse(duration.show(nanoseconds)) == nanoseconds


@given(st.text("0123456789.-+smhnu\u00b5 ", max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert abs(duration.parse(text)) < 2**63
