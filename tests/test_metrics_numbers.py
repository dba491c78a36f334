"""Numbers as Go writes them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.http.metrics.go_numbers import go_number, with_go_numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        # By the rules of strconv.FormatFloat(value, 'g', -1, 64) (ftoa.go).
        (0, "0"),
        (0.0, "0"),
        (1, "1"),
        (-1.0, "-1"),
        (100.0, "100"),
        (0.00025, "0.00025"),
        (8.192, "8.192"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (0.000012345, "1.2345e-05"),
        (123456.0, "123456"),
        (123456.5, "123456.5"),
        (999999.9, "999999.9"),
        (1000000.0, "1e+06"),
        (1234567.0, "1.234567e+06"),
        (-1234567.5, "-1.2345675e+06"),
        (10.0**10, "1e+10"),
        (1.5e9, "1.5e+09"),
        (2.0**53, "9.007199254740992e+15"),
        (2.0**63, "9.223372036854776e+18"),
        (1e21, "1e+21"),
        (1e100, "1e+100"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (2**63, "9.223372036854776e+18"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert go_number(value) == text


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_nothing_of_a_number_is_lost(value: float) -> None:
    assert float(go_number(value)) == value


def test_only_the_values_of_samples_change() -> None:
    text = (
        b"# HELP a_total About 5.0\n# TYPE a_total counter\n"
        b'a_total{x="1.0 2.0"} 3.0\na_total 1e+010\nb{c="\\n 1.0"} +Inf\nd NaN\n'
    )
    assert with_go_numbers(text) == (
        b"# HELP a_total About 5.0\n# TYPE a_total counter\n"
        b'a_total{x="1.0 2.0"} 3\na_total 1e+10\nb{c="\\n 1.0"} +Inf\nd NaN\n'
    )
