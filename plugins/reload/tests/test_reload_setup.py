"""What the directive takes and refuses; CoreDNS's cases from plugin/reload/setup_test.go first."""

import pytest

from corepy.plugin import CorefileError
from corepy.testing import set_up
from corepy_reload.setup import draw_jitter


def period(text):
    (hooks,) = set_up(text).hooks
    return hooks.period


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("reload", 22.5, 37.5),
        ("reload 10s", 7.5, 12.5),
        ("reload 10s 2s", 9, 11),
        ("reload 2s 0s", 2, 2),
        ("reload 2s 0", 2, 2),
        ("reload 3s 1s", 2.5, 3.5),
        ("reload 1m 1h", 45, 75),
        ("reload 1m30s 0s", 90, 90),
        ("reload 1h0.5m 0s", 3630, 3630),
    ],
)
def test_accepted(text, least, most):
    assert all(least <= period(text) <= most for _ in range(20))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reload foo", "invalid duration 'foo'"),
        ("reload 10s foo", "invalid duration 'foo'"),
        ("reload 10s 5s foo", "argument"),
        ("reload 1s", "greater or equal to 2s"),
        ("reload 0s", "greater or equal to 2s"),
        ("reload -5s", "greater or equal to 2s"),
        ("reload 3s 0.5s", "jitter value must be 0 or greater or equal to 1s"),
        ("reload 3s -2s", "jitter value must be 0 or greater or equal to 1s"),
        ("reload 30", "missing unit"),
        ("reload 30 s", "missing unit"),
        ("reload\nreload", "only be used once"),
        ("reload {\n interval 3s\n}", "unknown option 'interval'"),
    ],
)
def test_refused(text, message):
    with pytest.raises(CorefileError, match=message):
        set_up(text)


def test_jitter_is_spread_over_both_sides():
    drawn = [draw_jitter(4) for _ in range(200)]
    assert min(drawn) < -1
    assert max(drawn) > 1
    assert all(-2 <= it < 2 for it in drawn)
    assert draw_jitter(0) == 0
