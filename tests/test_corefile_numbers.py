"""Whole numbers are Go's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.corefile import parse_integer, parse_unsigned


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7), ("+7", 7), ("-07", -7), ("0", 0), ("-0", 0), ("", None), ("+", None),
        ("1_0", None), ("1.0", None), (" 1", None), ("1 ", None), ("--1", None), ("\u0663", None),
        ("\u00b2", None), ("9223372036854775807", 2**63 - 1), ("9223372036854775808", None),
        ("-9223372036854775808", -(2**63)), ("-9223372036854775809", None), ("0" * 9000 + "5", 5),
        ("5" * 9000, None),
    ],
)  # fmt: skip
def test_integer(text, number):
    assert parse_integer(text) == number


@pytest.mark.parametrize(
    ("text", "most", "number"),
    [
        ("0", 65535, 0), ("65535", 65535, 65535), ("065535", 65535, 65535), ("65536", 65535, None),
        ("+1", 65535, None), ("-1", 65535, None), ("", 65535, None), ("1", 0, None), ("00", 0, 0),
        ("\u0661", 9, None),
    ],
)  # fmt: skip
def test_unsigned(text, most, number):
    assert parse_unsigned(text, most) == number


@settings(deadline=None)
@given(st.integers())
def test_what_fits_is_read(number):
    assert parse_integer(str(number)) == (number if -(2**63) <= number < 2**63 else None)
    assert parse_unsigned(str(number), 2**64) == (number if 0 <= number <= 2**64 else None)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_number_or_none(text):
    number = parse_integer(text)
    assert number is None or number == int(text)
