"""Reloads and upgrades lose no query of DNS over TLS, HTTPS and QUIC, all at the same time.

The short form of `python -m benchmarks.encrypted_handover`.
"""

import pytest

from benchmarks.encrypted_handover import Load, measure

# The clients are a process each.
pytestmark = pytest.mark.serial

LOADS = {"dot": Load(8, 80), "doh": Load(4, 40), "doq": Load(2, 10)}


def test_reloads_and_upgrades_lose_nothing(tmp_path):
    fates = measure(LOADS, 1, tmp_path, processes=2, pause=0.2)
    for kind, fate in fates.items():
        assert (fate.lost, fate.wrong, fate.refused) == (0, 0, 0), fate
        assert fate.answered == fate.sent > 0
        assert fate.connections > LOADS[kind].connections  # each client had to leave the old worker
