"""No query is lost when a server is replaced, reloaded, upgraded or rolled, and few when it fails.

The short form of `python -m benchmarks.soak`: fewer turns, and a load that leaves time for a server
that gets a tenth of a CPU, so that a query is lost by a handover only.
"""

import pytest

from benchmarks.failures import FAILURES
from benchmarks.handover import HANDOVERS, measure
from benchmarks.streams import Traffic
from corepy.testing.netns import isolated

# The load and the servers take most of two cores.
pytestmark = pytest.mark.serial

TURNS = 3
TRAFFIC = Traffic(1000, 200, 400, 200)


@pytest.mark.parametrize("name", HANDOVERS)
@isolated
def test_handovers_lose_nothing(name, tmp_path):
    result = measure(name, HANDOVERS[name], TURNS, TRAFFIC, tmp_path)
    assert result.udp.sent > 300
    assert result.tcp.sent > 300
    assert (result.udp.unanswered, result.udp.wrong) == (0, 0), result
    assert (result.tcp.unanswered, result.tcp.wrong) == (0, 0), result


@pytest.mark.parametrize(("name", "turns"), [("killed", 3), ("stopped", 1), ("blocked", 1)])
@isolated
def test_after_a_failure_what_was_asked_meanwhile_is_answered(name, turns, tmp_path):
    result = measure(name, FAILURES[name], turns, TRAFFIC, tmp_path)
    assert result.udp.sent > 1000
    assert (result.udp.wrong, result.tcp.wrong, result.tcp.unanswered) == (0, 0, 0)
    # The worker may have taken a batch of 64 from the socket when it failed.
    assert result.udp.unanswered <= 64 * turns
