"""The directive (plugin/timeouts/timeouts_test.go), and that the server goes by it."""

import socket

import pytest

from corepy.corefile import CorefileError
from corepy.plugin import Timeouts
from corepy.testing import refusal, serve, set_up


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("read 30s", (30, 5, 10)),
        ("read 1m\nwrite 2m", (60, 120, 10)),
        ("idle 1h", (3, 5, 3600)),
        ("read 10\nwrite 20\nidle 60", (10, 20, 60)),
        ("idle 1s\nread 24h", (86400, 5, 1)),
        ("read 5s\nread 6s", (6, 5, 10)),
        ("read +7\nwrite 1.5s", (7, 1.5, 10)),
        ("maxtcpqueries -1", (3, 5, 10)),
    ],
)
def test_accepted(options, expected):
    controller = set_up(f"timeouts {{\n{options}\n}}")
    timeouts = controller.config.get(Timeouts)
    assert (timeouts.read, timeouts.write, timeouts.idle) == expected
    assert not controller.handlers
    assert not controller.warnings


@pytest.mark.parametrize(("number", "expected"), [("128", 128), ("-1", None)])
def test_a_number_of_queries(number, expected):
    controller = set_up(f"timeouts {{\nread 10s\nmaxtcpqueries {number}\n}}")
    assert controller.config.get(Timeouts).max_queries == expected
    assert not controller.warnings


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("maxconnections 100", (100, None, None)),
        ("maxconnections 100 10", (100, 10, None)),
        ("maxpending 64", (None, None, 64)),
        ("maxconnections 100 10\nmaxconnections 5", (5, 10, None)),
    ],
)
def test_limits_of_connections(option, expected):
    """CoreDNS does not have them."""
    timeouts = set_up(f"timeouts {{\n{option}\n}}").config.get(Timeouts)
    found = timeouts.max_connections, timeouts.max_client_connections, timeouts.max_pending
    assert found == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timeouts", "block with no timeouts specified"),
        ("timeouts {\n}", "block with no timeouts specified"),
        ("timeouts 10s", "wrong argument count"),
        ("timeouts {\nread 10s\ngiraffe 30s\n}", "unknown option"),
        ("timeouts {\nread 10s 20s\nwrite 30s\n}", "wrong argument count"),
        ("timeouts {\nread\n}", "wrong argument count"),
        ("timeouts {\nwrite snake\n}", "invalid duration"),
        ("timeouts {\nidle 0s\n}", "needs to be between"),
        ("timeouts {\nidle -5\n}", "needs to be between"),
        ("timeouts {\nread 10S\n}", "unknown unit"),
        ("timeouts {\nidle -5s\n}", "needs to be between"),
        ("timeouts {\nread 48h\n}", "needs to be between"),
        ("timeouts {\nmaxtcpqueries 0\n}", "needs to be -1"),
        ("timeouts {\nmaxtcpqueries -2\n}", "needs to be -1"),
        ("timeouts {\nmaxtcpqueries snake\n}", "not a whole number"),
        ("timeouts {\nmaxtcpqueries 1 2\n}", "wrong argument count"),
        ("timeouts {\nmaxconnections 0\n}", "needs to be a positive integer"),
        ("timeouts {\nmaxconnections 4 -1\n}", "needs to be a positive integer"),
        ("timeouts {\nmaxconnections 1 2 3\n}", "wrong argument count"),
        ("timeouts {\nmaxconnections\n}", "wrong argument count"),
        ("timeouts {\nmaxpending 0\n}", "needs to be a positive integer"),
        ("timeouts {\nmaxpending many\n}", "not a whole number"),
    ],
)
def test_refused(text, message):
    assert message in refusal(text).message


def test_the_server_closes_silent_connections():
    text = ". {\nbind 127.0.0.1\ntimeouts {\nread 1s\nidle 1s\n}\nwhoami\n}"
    with serve(text) as server, socket.create_connection(server.address, timeout=60) as stream:
        assert stream.recv(1) == b""


def test_all_mistakes_of_a_block_are_reported():
    with pytest.raises(CorefileError) as caught:
        set_up("timeouts {\nraed 5s\nread 0s\nmaxpending x\n}")
    assert len(caught.value.diagnostics) == 3
