"""Far more new names than a silent upstream lets through, in a control group of 64 MiB.

Ten seconds of what `python -m benchmarks.overload` does for a minute; that one prints the latencies
of hits as well, on a machine that has nothing else to do.
"""

import pytest

from benchmarks import overload

pytestmark = pytest.mark.serial


def test_a_flood_neither_kills_the_server_nor_stops_its_hits():
    result = overload.run(seconds=8)
    assert result.alive
    assert result.peak < overload.MEMORY
    assert result.group_peak < overload.MEMORY
    assert set(result.codes) == {"SERVFAIL"}
    assert result.rejects <= result.codes["SERVFAIL"] + result.lost
    assert result.rejects > result.codes["SERVFAIL"] / 2  # a busy machine loses the rest unread
    assert result.wrong == 0
    assert result.hits > result.unanswered
