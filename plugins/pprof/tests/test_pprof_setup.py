"""What *pprof* accepts; the tables hold the cases of CoreDNS's setup test."""

import pytest

from corepy.testing import refusal, set_up
from corepy_pprof.endpoint import Pprof


def pprof_of(text):
    controller = set_up(text)
    (pprof,) = controller.hooks
    assert isinstance(pprof, Pprof)
    assert not controller.handlers
    return pprof, [it.message for it in controller.warnings]


OPEN = "all clients that reach {} can profile this server"


@pytest.mark.parametrize(
    ("text", "address", "rate", "frames", "warnings"),
    [
        # CoreDNS: plugin/pprof/setup_test.go
        ("pprof", "localhost:6053", 0, 0, []),
        ("pprof 1.2.3.4:1234", "1.2.3.4:1234", 0, 0, [OPEN.format("1.2.3.4:1234")]),
        ("pprof :1234", ":1234", 0, 0, [OPEN.format(":1234")]),
        ("pprof {\n}", "localhost:6053", 0, 0, []),
        ("pprof { block\n}", "localhost:6053", 1, 0, []),
        ("pprof :1234 {\nblock 20\n}", ":1234", 20, 0, [OPEN.format(":1234")]),
        # further ones
        ("pprof [::1]:1", "[::1]:1", 0, 0, []),
        ("pprof 127.9.9.9:1", "127.9.9.9:1", 0, 0, []),
        ("pprof LOCALHOST.:1", "LOCALHOST.:1", 0, 0, []),
        ("pprof node.example:1", "node.example:1", 0, 0, [OPEN.format("node.example:1")]),
        ("pprof [fe80::1%eth0]:1", "[fe80::1%eth0]:1", 0, 0, [OPEN.format("[fe80::1%eth0]:1")]),
        ("pprof {\nblock\nblock +7\n}", "localhost:6053", 7, 0, []),
        ("pprof {\nblock 0\n}", "localhost:6053", 0, 0, ["block 0 turns the block profile off"]),
        ("pprof {\nblock -3\n}", "localhost:6053", -3, 0, ["block -3 turns the block profile off"]),
        ("pprof {\nheap\n}", "localhost:6053", 0, 8, []),
        ("pprof {\nheap 1\n}", "localhost:6053", 0, 1, []),
        ("pprof {\nheap 64\nblock\n}", "localhost:6053", 1, 64, []),
    ],
)
def test_accepts(text, address, rate, frames, warnings):
    pprof, warned = pprof_of(text)
    assert (pprof.address, pprof.block_rate, pprof.heap_frames) == (address, rate, frames)
    assert warned == warnings


@pytest.mark.parametrize(
    ("text", "message", "word"),
    [
        # CoreDNS: plugin/pprof/setup_test.go
        ("pprof :1234 -1", "wrong argument count", "-1"),
        ("pprof /foo", "missing port in address", "/foo"),
        ("pprof {\na b\n}", "unknown option 'a'", "a"),
        ("pprof {\nblock 20 30\n}", "wrong argument count", "30"),
        ("pprof {\nblock invalid\n}", "not a whole number: 'invalid'", "invalid"),
        ("pprof {\nunknown_property\n}", "unknown option 'unknown_property'", "unknown_property"),
        ("pprof\npprof", "this plugin can only be used once per Server Block", "pprof"),
        # further ones
        ("pprof localhost:99999", "port 99999 is outside 0 to 65535", "localhost:99999"),
        ("pprof {\nblock 1s\n}", "not a whole number: '1s'", "1s"),
        ("pprof {\nblock 9223372036854775808\n}", "not a whole number", "9223372036854775808"),
        ("pprof {\nheap 0\n}", "FRAMES must be from 1 to 64, not 0", "0"),
        ("pprof {\nheap 65\n}", "FRAMES must be from 1 to 64, not 65", "65"),
        ("pprof {\nheap 1 2\n}", "wrong argument count", "2"),
        ("pprof {\nbock\n}", "unknown option 'bock'", "bock"),
    ],
)
def test_refuses(text, message, word):
    diagnostic = refusal(text)
    assert message in diagnostic.message
    assert diagnostic.token is not None
    assert diagnostic.token.text == word


def test_hints():
    assert refusal("pprof {\nbock\n}").hint == "did you mean 'block'?"
    (warning,) = set_up("pprof :1234").warnings
    assert warning.hint == "use a loopback address, such as localhost:6053"
