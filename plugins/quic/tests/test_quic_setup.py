"""The directive: what it takes and what it refuses (plugin/quic/setup_test.go)."""

import pytest

from corepy.corefile import CorefileError
from corepy.plugin import QUICLimits
from corepy.testing import refusal, set_up


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quic", (256, 1024)),
        ("quic {\n}", (256, 1024)),
        ("quic {\n# a comment\n}", (256, 1024)),
        ("quic {\nmax_streams 100\n}", (100, 1024)),
        ("quic {\nworker_pool_size 1000\n}", (256, 1000)),
        ("quic {\nmax_streams 100\nworker_pool_size 1000\n}", (100, 1000)),
        ("quic {\nmax_streams 1\n}\nquic {\nworker_pool_size 2\n}", (1, 2)),
    ],
)
def test_accepted(text, expected):
    controller = set_up(text)
    limits = controller.config.get(QUICLimits)
    assert (limits.max_streams, limits.worker_pool_size) == expected
    assert limits.max_connections == 200
    assert not controller.handlers
    assert not controller.warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quic arg", "wrong argument count"),
        ("quic {\nmax_streams\n}", "wrong argument count"),
        ("quic {\nmax_streams 100 200\n}", "wrong argument count"),
        ("quic {\nmax_streams abc\n}", "not a whole number"),
        ("quic {\nmax_streams 0\n}", "max_streams must be a positive integer: 0"),
        ("quic {\nmax_streams -10\n}", "max_streams must be a positive integer: -10"),
        ("quic {\nmax_streams 100\nmax_streams 200\n}", "max_streams already defined"),
        ("quic {\nworker_pool_size\n}", "wrong argument count"),
        ("quic {\nworker_pool_size 1 2\n}", "wrong argument count"),
        ("quic {\nworker_pool_size abc\n}", "not a whole number"),
        ("quic {\nworker_pool_size 0\n}", "must be a positive integer: 0"),
        ("quic {\nworker_pool_size -10\n}", "must be a positive integer: -10"),
        ("quic {\nworker_pool_size 1\nworker_pool_size 2\n}", "already defined"),
        ("quic {\nunknown_directive\n}", "unknown option"),
    ],
)
def test_refused(text, message):
    assert message in str(refusal(text))


def test_all_mistakes_of_a_block_are_reported():
    with pytest.raises(CorefileError) as caught:
        set_up("quic {\nmax_stream 5\nworker_pool_size 0\nmax_streams x\n}")
    assert len(caught.value.diagnostics) == 3
