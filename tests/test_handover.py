"""No query is lost when a server is replaced, reloaded, upgraded or rolled, and few when it fails.

The short form of `python -m benchmarks.soak`: the same load, fewer turns.
"""

import pytest

from benchmarks.failures import FAILURES
from benchmarks.handover import HANDOVERS, measure
from benchmarks.streams import Traffic
from corepy.testing.netns import isolated

# The load alone takes most of two cores.
pytestmark = pytest.mark.serial

TURNS = 3


@pytest.mark.parametrize("name", HANDOVERS)
@isolated
def test_handovers_lose_nothing(name, tmp_path):
    result = measure(name, HANDOVERS[name], TURNS, Traffic(), tmp_path)
    assert result.udp.sent > 1000
    assert result.tcp.sent > 1000
    assert (result.udp.unanswered, result.udp.wrong) == (0, 0)
    assert (result.tcp.unanswered, result.tcp.wrong) == (0, 0)


@pytest.mark.parametrize(("name", "turns"), [("killed", 3), ("stopped", 1), ("blocked", 1)])
@isolated
def test_after_a_failure_what_was_asked_meanwhile_is_answered(name, turns, tmp_path):
    result = measure(name, FAILURES[name], turns, Traffic(1000, 200, 400, 200), tmp_path)
    assert result.udp.sent > 1000
    assert (result.udp.wrong, result.tcp.wrong, result.tcp.unanswered) == (0, 0, 0)
    # The worker may have taken a batch of 64 from the socket when it failed.
    assert result.udp.unanswered <= 64 * turns
