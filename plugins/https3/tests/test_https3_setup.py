"""The directive: what it takes and what it refuses (plugin/https3/setup_test.go)."""

import pytest

from corepy.corefile import CorefileError
from corepy.plugin import HTTPS3Limits
from corepy.testing import refusal, set_up


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https3", (256, 200)),
        ("https3 {\n}", (256, 200)),
        ("https3 {\nmax_streams 100\n}", (100, 200)),
        ("https3 {\nmax_streams 0\n}", (0, 200)),
        ("https3 {\nmax_connections 0\n}", (256, 0)),
        ("https3 {\nmax_connections 7\nmax_streams 8\n}", (8, 7)),
    ],
)
def test_accepted(text, expected):
    controller = set_up(text)
    limits = controller.config.get(HTTPS3Limits)
    assert (limits.max_streams, limits.max_connections) == expected
    assert not controller.handlers
    assert not controller.warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https3 extra_arg", "wrong argument count"),
        ("https3 {\nmax_streams\n}", "wrong argument count"),
        ("https3 {\nmax_streams 1 2\n}", "wrong argument count"),
        ("https3 {\nmax_streams abc\n}", "not a whole number"),
        ("https3 {\nmax_streams -1\n}", "max_streams must be a non-negative integer: -1"),
        ("https3 {\nmax_streams 100\nmax_streams 200\n}", "max_streams already defined"),
        ("https3 {\nmax_connections -1\n}", "must be a non-negative integer"),
        ("https3 {\nmax_connections abc\n}", "not a whole number"),
        ("https3 {\nmax_connections 1\nmax_connections 1\n}", "already defined"),
        ("https3 {\nunknown_option 123\n}", "unknown option"),
    ],
)
def test_refused(text, message):
    assert message in str(refusal(text))


def test_all_mistakes_of_a_block_are_reported():
    with pytest.raises(CorefileError) as caught:
        set_up("https3 {\nmax_stream 5\nmax_connections -1\nmax_streams x\n}")
    assert len(caught.value.diagnostics) == 3
