"""The weight file, and the directive (cases of weighted_test.go and setup_test.go)."""

import os
import time
from collections import Counter
from pathlib import Path

import dnslib
import pytest

from corepy.dns.names import from_text
from corepy.plugin import StartupError
from corepy.testing import Upstream, refusal, serve, set_up
from corepy_loadbalance.loadbalance import LoadBalance
from corepy_loadbalance.weights import WeightError, WeightFile, parse

ONE = "w1,example.org\n192.168.1.15 10\n192.168.1.14 20\n"
TWO = """
# domain 1
W1.example.org
192.168.1.15   10
192.168.1.14   20

# domain 2
w2.example.org
 # domain 3
 w3.example.org.
 192.168.2.16 11
 2001:db8::1 255
"""
FOUR, SIX = b"\xc0\xa8\1\x0f", bytes.fromhex("20010db8" + 11 * "00" + "01")


def test_weights():
    domains = parse(TWO)
    assert domains[from_text("w1.example.org")] == {FOUR: 10, b"\xc0\xa8\1\x0e": 20}
    assert domains[from_text("w2.example.org")] == {}
    assert domains[from_text("w3.example.org")] == {b"\xc0\xa8\2\x10": 11, SIX: 255}
    assert parse("") == {}
    assert list(parse(ONE)) == [from_text("w1,example.org")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("w1,example.org\n192.168.1.14\n192.168.1.15 20", "wrong domain name"),
        ("# missing\n192.168.1.14 10\nw2.example.org", "missing domain name"),
        ("w1.example.org\n192.168.1.300 10", "wrong IP address"),
        ("w1.example.org\n192.168.1.14 300", "wrong weight value"),
        ("w1.example.org\n192.168.1.14 0", "wrong weight value"),
        ("w1.example.org\n192.168.1.14 -1", "wrong weight value"),
        ("w1.example.org\n192.168.1.14 10000000005", "wrong weight value"),
        ("w1.example.org\n192.168.1.14 1 1", "could not parse weight line"),
        ("w1..example.org", "empty label"),
    ],
)
def test_mistakes_in_the_file(text, message):
    with pytest.raises(WeightError, match=message):
        parse(text)


def test_unknown_addresses_weigh_one(tmp_path):
    path = tmp_path / "weights"
    path.write_text(TWO)
    weights = WeightFile(path, 0)
    weights.read()
    assert weights.weight(from_text("w1.example.org"), FOUR) == 10
    assert weights.weight(from_text("w1.example.org"), SIX) == 1
    assert weights.weight(from_text("other"), FOUR) == 1


def test_a_broken_file_keeps_the_weights(tmp_path):
    path = tmp_path / "weights"
    path.write_text(ONE)
    weights = WeightFile(path, 0)
    weights.read()
    path.write_text("192.168.1.15 10")
    with pytest.raises(WeightError):
        weights.read()
    assert weights.weight(from_text("w1,example.org"), FOUR) == 10


@pytest.mark.parametrize(
    ("text", "path", "seconds"),
    [
        ("loadbalance weighted wfile", "wfile", 30),
        ("loadbalance weighted wf {\nreload 10s\n}", "wf", 10),
        ("loadbalance weighted wf {\nreload 0s\n}", "wf", 0),
        ("loadbalance\nloadbalance weighted wf {\nreload 1h\n}", "wf", 3600),
    ],
)
def test_weighted(text, path, seconds):
    (handler,) = set_up(text).handlers
    assert isinstance(handler, LoadBalance)
    assert handler.weights is not None
    assert (handler.weights.path, handler.weights.interval) == (Path(path), seconds)


@pytest.mark.parametrize(
    "text",
    [
        "loadbalance",
        "loadbalance round_robin",
        "loadbalance {\n}",
        "loadbalance weighted wf\nloadbalance round_robin",
    ],
)
def test_round_robin(text):
    (handler,) = set_up(text).handlers
    assert isinstance(handler, LoadBalance)
    assert (handler.weights, handler.preference) == (None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loadbalance fleeb", "unknown policy"),
        ("loadbalance round_robin a", "unknown property"),
        ("loadbalance weighted", "missing weight file argument"),
        ("loadbalance weighted a b", "unexpected argument"),
        ("loadbalance weighted wfile {\nsusu\n}", "unknown option"),
        ("loadbalance weighted wfile {\nreload\n}", "wrong argument count"),
        ("loadbalance weighted wfile {\nreload a\n}", "invalid duration"),
        ("loadbalance weighted wfile {\nreload 30\n}", "missing unit"),
        ("loadbalance weighted wfile {\nreload -3s\n}", "negative"),
        ("loadbalance weighted wfile {\nreload 30s  a\n}", "wrong argument count"),
        ("loadbalance weighted wfile {\nprefer 10.0.0.0/8\n}", "unknown option"),
        ("loadbalance {\nreload 30s\n}", "unknown option"),
        ("loadbalance {\nprefer 10.0.0.1\n}", "invalid CIDR"),
        ("loadbalance {\nprefer 10.0.0.0/33\n}", "invalid CIDR"),
    ],
)
def test_refused(text, message):
    assert message in refusal(text).message


def test_prefer_without_networks_is_warned_of():
    assert set_up("loadbalance {\nprefer\n}").warnings


def tops(server, count):
    return Counter(str(server.ask("w.test").rr[0].rdata) for _ in range(count))


def test_served(tmp_path):
    path = tmp_path / "weights"
    path.write_text("w.test\n10.0.0.1 1\n10.0.0.2 255\n10.0.0.3 255\n")
    records = {"w.test. A": [f"w.test. 60 IN A 10.0.0.{i}" for i in (1, 2, 3)]}
    with Upstream(records) as upstream:
        text = f". {{\nbind 127.0.0.1\nloadbalance weighted {path} {{\nreload 50ms\n}}\nforward . {upstream.to}\n}}"
        with serve(text) as server:
            seen = tops(server, 100)
            assert seen["10.0.0.1"] < 20
            assert min(seen["10.0.0.2"], seen["10.0.0.3"]) > 20
            new = tmp_path / "new"
            new.write_text("w.test\n10.0.0.1 255\n")
            os.replace(new, path)
            deadline = time.monotonic() + 20
            while tops(server, 20)["10.0.0.1"] < 15:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            path.unlink()
            assert server.ask("w.test").header.rcode == dnslib.RCODE.NOERROR


def test_a_file_that_is_not_there(tmp_path):
    text = (
        f". {{\nbind 127.0.0.1\nloadbalance weighted {tmp_path}/none {{\nreload %s\n}}\nwhoami\n}}"
    )
    with serve(text % "10s") as server:
        assert server.ask("w.test").header.rcode == 0
    with pytest.raises(StartupError, match="cannot read weight file"), serve(text % "0s"):
        pass


def test_a_file_with_mistakes(tmp_path):
    path = tmp_path / "weights"
    path.write_text("nonsense with words")
    text = f". {{\nbind 127.0.0.1\nloadbalance weighted {path}\nwhoami\n}}"
    with pytest.raises(StartupError, match="could not parse weight line"), serve(text):
        pass


def test_a_fifo_in_place_of_the_file_stops_nobody(tmp_path):
    """Opening it would wait for a writer, in the event loop."""
    path = tmp_path / "weights"
    path.write_text("example.org\n192.0.2.1 3\n")
    weights = WeightFile(path, 0)
    weights.read()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file but a FIFO"):
        weights.read()
    assert weights.weight(from_text("example.org"), bytes([192, 0, 2, 1])) == 3


W1 = "w1.example.org\n192.0.2.1 3\n"


@pytest.mark.parametrize(
    ("content", "weight"),
    [
        (W1.encode(), 3),
        (W1.replace("\n", "\r\n").encode(), 3),
        (W1.replace("\n", "\n\n\t").encode(), 3),
        # Editors of Windows write the mark; it would be the beginning of a name that nobody asks.
        (b"\xef\xbb\xbf" + W1.encode(), 3),
        (b"# caf\xe9\n" + W1.encode(), 3),
        (b"W1.Example.ORG.\n192.0.2.1 3", 3),
        (b"", 1),
        (b"w1.example.org\n", 1),
        (b"w1.example.org\n192.0.2.1 3\n192.0.2.1 5\n", 3),
        (b"w1.example.org\n192.0.2.1\n", "maybe a missing weight value"),
        (b"w1.example.org\n192.0.2.1 0\n", "wrong weight value: '0'"),
        (b"w1.example.org\n192.0.2.1 256\n", "wrong weight value: '256'"),
        (b"w1.example.org\n192.0.2.300 3\n", "wrong IP address: '192.0.2.300'"),
        (b"192.0.2.1 3\n", "missing domain name"),
        (b"\0" * 100, "could not parse|label longer"),
        (b"a b c\n", "could not parse weight line: 'a b c'"),
    ],
)
def test_contents_as_they_are_found(tmp_path, content, weight):
    path = tmp_path / "weights"
    path.write_bytes(content)
    weights = WeightFile(path, 0)
    if isinstance(weight, str):
        with pytest.raises(WeightError, match=weight):
            weights.read()
    else:
        weights.read()
        assert weights.weight(from_text("w1.example.org"), bytes([192, 0, 2, 1])) == weight
