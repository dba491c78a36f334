"""The *cancel* directive: what it takes and what it refuses (plugin/cancel/setup_test.go)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.corefile import parse
from corepy.plugin import CorefileError, QueryTimeout
from corepy.server.build.builder import build
from corepy.testing import refusal, set_up


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        # The accepted cases of CoreDNS.
        ("cancel", 5.001),
        ("cancel 5s", 5.0),
        # Our own.
        ("cancel 1m30s", 90.0),
        ("cancel 1ns", 1e-9),
        ("cancel 1s\ncancel 2s", 2.0),
        ("cancel 1s\ncancel", 5.001),
        ("cancel 1s {\n}", 1.0),
    ],
)
def test_accepted(text, seconds):
    controller = set_up(text)
    assert controller.config.get(QueryTimeout) == QueryTimeout(seconds)
    assert (controller.handlers, controller.hooks) == ([], [])


POSITIVE = "(use a duration such as 5s, or remove cancel for the limit of the server)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # The refused cases of CoreDNS.
        ("cancel 5", "missing unit in duration '5'"),
        ("cancel -1s", f"the time limit '-1s' is not positive {POSITIVE}"),
        # Our own.
        ("cancel 0s", f"the time limit '0s' is not positive {POSITIVE}"),
        ("cancel 0", f"the time limit '0' is not positive {POSITIVE}"),
        ("cancel soon", "invalid duration 'soon'"),
        ("cancel 1s 2s", "wrong argument count or unexpected line ending after '2s'"),
        ("cancel {\n    x\n}", "unknown option 'x' (this directive has no options)"),
    ],
)
def test_refused(text, message):
    diagnostic = refusal(text)
    assert message in str(diagnostic)
    assert diagnostic.token is not None


@settings(deadline=None)
@given(st.text(alphabet="0123456789.hmsuµn-+e", max_size=12))
def test_any_text_is_a_positive_duration_or_refused(text):
    try:
        controller = set_up(f'cancel "{text}"')
    except CorefileError:
        return
    assert controller.config.get(QueryTimeout).seconds > 0


def test_each_block_has_its_own_limit():
    text = ". {\ncancel 2s\nwhoami\n}\na.test {\nwhoami\n}\nb.test {\ncancel\nwhoami\n}\n"
    generation = build(parse(text))
    assert sorted(generation.time_limits()) == [0.0, 2.0, 5.001]


def test_the_packet_cache_stays_on():
    (router,) = build(parse(". {\ncancel\ncache\nforward . 192.0.2.53\n}")).routers.values()
    assert router.routes[0].obstacle is None
