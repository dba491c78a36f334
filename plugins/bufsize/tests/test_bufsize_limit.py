"""What the directive takes, and what a query says below it."""

import dnslib
import pytest

from corepy.dns import Edns, Request, query
from corepy.plugin import Cacheability, CorefileError
from corepy.testing import Recorder, Upstream, run_chain, serve, set_up
from corepy_bufsize.bufsize import Bufsize

NAME = b"\7example\0"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("bufsize", 1232),
        ('bufsize "1220"', 1220),
        ("bufsize 512", 512),
        ("bufsize 4096", 4096),
        ("bufsize +0600", 600),
        ("bufsize 600\nbufsize nonsense", 600),
    ],
)
def test_size(text, size):
    (handler,) = set_up(text).handlers
    assert isinstance(handler, Bufsize)
    assert (handler.size, handler.cacheability) == (size, Cacheability.SAFE)


@pytest.mark.parametrize(
    "argument", ["5000", '"512 512"', "512 512", "511", "-600", "abc123", "0x400", "9" * 5000, "{\nx\n}"]
)  # fmt: skip
def test_refused(argument):
    with pytest.raises(CorefileError):
        set_up(f"bufsize {argument}")


@pytest.mark.parametrize(
    ("said", "passed_on"), [(1152, 1024), (1024, 1024), (896, 896), (None, None)]
)
def test_limit(said, passed_on):
    (handler,) = set_up("bufsize 1024").handlers
    below = Recorder()
    edns = None if said is None else Edns(udp_size=said, do=True)
    run_chain(Request.from_wire(query(NAME, 1, edns=edns)), handler, below)
    (request,) = below.requests
    assert (None if request.edns is None else request.edns.udp_size) == passed_on
    assert request.do is (said is not None)


def test_served():
    records = [f'example. 60 IN TXT "{"x" * 200}"' for _ in range(6)]
    with Upstream({"example. TXT": records}) as upstream:
        text = f". {{\nbind 127.0.0.1\nbufsize 600\nforward . {upstream.to} {{\nforce_tcp\n}}\n}}"
        with serve(text) as server:
            wire = query(NAME, 16, edns=Edns(udp_size=4000))
            over_udp = server.exchange(wire)
            over_tcp = server.exchange(wire, tcp=True)
    assert len(over_udp) <= 600
    assert dnslib.DNSRecord.parse(over_udp).header.tc
    assert len(dnslib.DNSRecord.parse(over_tcp).rr) == 6
