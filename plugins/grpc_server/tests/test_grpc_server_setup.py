"""The directive: what it takes and what it refuses (plugin/grpc_server/setup_test.go)."""

import pytest

from corepy.plugin import GRPCLimits
from corepy.testing import refusal, set_up


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("grpc_server", GRPCLimits(max_connections=200)),
        ("grpc_server {\n}", GRPCLimits(max_connections=200)),
        ("grpc_server {\nmax_connections 200\n}", GRPCLimits(max_connections=200)),
        ("grpc_server {\nmax_connections 100\n}", GRPCLimits(max_connections=100)),
        ("grpc_server {\nmax_connections 0\n}", GRPCLimits(max_connections=0)),
        ("grpc_server {\nmax_connections +5\n}", GRPCLimits(max_connections=5)),
        ("grpc_server {\nmax_streams 100\n}", GRPCLimits(100)),
        ("grpc_server {\nmax_streams 0\n}", GRPCLimits(0)),
        (
            "grpc_server {\nmax_streams 50\nmax_connections 100\n}",
            GRPCLimits(50, max_connections=100),
        ),
        ("grpc_server {\nplaintext\n}", GRPCLimits(plaintext=True)),
        (
            "grpc_server {\nplaintext\nmax_connections 3\n}",
            GRPCLimits(max_connections=3, plaintext=True),
        ),
    ],
)
def test_accepted(text, limits):
    controller = set_up(text)
    assert controller.config.get(GRPCLimits) == limits
    assert not controller.handlers
    assert not controller.warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grpc_server {\nmax_connections\n}", "wrong argument count"),
        ("grpc_server {\nmax_connections 1 2\n}", "wrong argument count"),
        ("grpc_server {\nmax_connections abc\n}", "not a whole number"),
        ("grpc_server {\nmax_connections 1.5\n}", "not a whole number"),
        ("grpc_server {\nmax_connections -1\n}", "needs to be 0 (no limit) or a positive integer"),
        ("grpc_server {\nmax_connections 100\nmax_connections 200\n}", "is given twice"),
        ("grpc_server {\nunknown_option 123\n}", "unknown option"),
        ("grpc_server {\nmax_streams -1\n}", "needs to be 0"),
        ("grpc_server {\nmax_streams\n}", "wrong argument count"),
        ("grpc_server {\nmax_streams abc\n}", "not a whole number"),
        ("grpc_server {\nmax_streams 1\nmax_streams 1\n}", "is given twice"),
        ("grpc_server {\nplaintext yes\n}", "wrong argument count"),
        ("grpc_server extra_arg", "wrong argument count"),
        ("grpc_server\ngrpc_server", "only be used once"),
    ],
)
def test_refused(text, message):
    assert message in refusal(text).message
