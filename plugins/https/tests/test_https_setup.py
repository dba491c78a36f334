"""The directive: what it takes and what it refuses (plugin/https/setup_test.go)."""

import pytest

from corepy.plugin import HTTPSLimits
from corepy.testing import refusal, set_up


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("https", HTTPSLimits(200)),
        ("https {\n}", HTTPSLimits(200)),
        ("https {\nmax_connections 200\n}", HTTPSLimits(200)),
        ("https {\nmax_connections 100\n}", HTTPSLimits(100)),
        ("https {\nmax_connections 0\n}", HTTPSLimits(0)),
        ("https {\nmax_connections +5\n}", HTTPSLimits(5)),
        ("https {\nplaintext\n}", HTTPSLimits(200, plaintext=True)),
        ("https {\nplaintext\nmax_connections 3\n}", HTTPSLimits(3, plaintext=True)),
    ],
)
def test_accepted(text, limits):
    controller = set_up(text)
    assert controller.config.get(HTTPSLimits) == limits
    assert not controller.handlers
    assert not controller.warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https {\nmax_connections\n}", "wrong argument count"),
        ("https {\nmax_connections 1 2\n}", "wrong argument count"),
        ("https {\nmax_connections abc\n}", "not a whole number"),
        ("https {\nmax_connections 1.5\n}", "not a whole number"),
        ("https {\nmax_connections -1\n}", "needs to be 0 (no limit) or a positive integer"),
        ("https {\nmax_connections 100\nmax_connections 200\n}", "is given twice"),
        ("https {\nunknown_option 123\n}", "unknown option"),
        ("https {\nmax_streams 5\n}", "unknown option"),
        ("https {\nplaintext yes\n}", "wrong argument count"),
        ("https extra_arg", "wrong argument count"),
        ("https\nhttps", "only be used once"),
    ],
)
def test_refused(text, message):
    assert message in refusal(text).message
