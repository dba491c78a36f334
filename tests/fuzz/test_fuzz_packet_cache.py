"""The same queries to two servers, one of which repeats replies from its packet cache: equal answers."""

from __future__ import annotations

import atexit
import os
from functools import cache

import pytest

from corepy.dns import constants as c
from corepy.dns import edns, query
from corepy.dns.wire import read_name, walk
from corepy.server.listen.packet_cache import SWITCH
from corepy.testing import TestServer, exchange, serve
from corepy.testing.fuzzing import Source, briefly

COREFILE = """
.:0 {
    cache {
        success 1000
        servfail 5m
    }
    template IN A one.example. {
        answer "{{ .Name }} 3000 IN A 192.0.2.1"
    }
    template IN A many.example. {
        answer "{{ .Name }} 3000 IN CNAME target.many.example."
        answer "target.many.example. 2000 IN A 192.0.2.1"
        answer "target.many.example. 2000 IN A 192.0.2.2"
        additional "ns.many.example. 1000 IN TXT \\"text\\""
    }
    template IN TXT large.example. {
        answer "{{ .Name }} 3000 IN TXT \\"TEXT\\" \\"TEXT\\" \\"TEXT\\""
    }
    template IN ANY none.example. {
        rcode NXDOMAIN
        authority "none.example. 3000 IN SOA ns.none.example. root.none.example. 1 2 3 4 3000"
    }
    template IN A failing.example. {
        rcode SERVFAIL
    }
    template ANY ANY {
        rcode REFUSED
    }
}
""".replace("TEXT", "x" * 250)
"""Replies that *cache* keeps for minutes or not at all: no entry expires in one server only."""

NAMES = [
    b"\0",
    b"\7example\0",
    *(
        name
        for zone in (
            b"\3one\7example\0",
            b"\4many\7example\0",
            b"\5large\7example\0",
            b"\4none\7example\0",
            b"\7failing\7example\0",
        )
        for name in (zone, b"\1a" + zone, b"\1A" + zone)
    ),
]
OPTIONS = (
    b"",
    b"",
    edns.option(10, b"12345678"),
    edns.option(8, b"\0\1\x18\0\xc0\0\2"),
    edns.option(65001),
)


@cache
def servers() -> tuple[TestServer, TestServer]:
    """A server with a packet cache and one without, that last as long as the process."""
    before = os.environ.get(SWITCH)
    started = []
    try:
        for switch in ("on", "off"):
            os.environ[SWITCH] = switch
            running = serve(COREFILE)
            started.append(running.__enter__())
            atexit.register(running.__exit__, None, None, None)
    finally:
        os.environ.pop(SWITCH)
        if before is not None:
            os.environ[SWITCH] = before
    return started[0], started[1]


def build(source: Source) -> bytes:
    flags = source.pick((0x0100, 0x0100, 0x0000, 0x0110, 0x0120, 0x0130, 0x2000, 0x0140))
    opt = None
    if source.one_in(2):
        opt = edns.Edns(source.pick((0, 512, 1232, 4096)), source.one_in(2), source.pick(OPTIONS))
    rclass = source.pick((1, 1, 1, 1, 3, 255))
    return query(
        source.pick(NAMES), source.pick((1, 1, 28, 16, 255)), rclass,
        ident=source.number(0, 65535), flags=flags, edns=opt,
    )  # fmt: skip


def without_ttls(wire: bytes) -> tuple[object, ...]:
    """A message as it was sent, TTLs and what depends on the time aside."""
    records = []
    for section, rtype, rclass, ttl, rdata, length, owner, _ in walk(wire):
        time = wire[ttl : ttl + 4] if rtype == c.TYPE_OPT else b""
        name = read_name(wire, owner)[0]
        records.append((section, name, rtype, rclass, time, wire[rdata : rdata + length]))
    end = read_name(wire, 12)[1] + 4 if wire[4:6] == b"\0\1" else 12
    return wire[:end], len(wire), records


def check(data: bytes) -> None:
    source = Source(data)
    wires = [build(source) for _ in range(source.number(1, 3))]
    order = [source.pick(wires) for _ in range(source.number(2, 6))]
    tcp = source.one_in(4)
    with_cache, without = servers()
    for wire in order:
        answers = [exchange(server.address, wire, tcp=tcp) for server in (with_cache, without)]
        assert without_ttls(answers[0]) == without_ttls(answers[1])
        assert answers[0][:2] == wire[:2]


SEEDS = {
    "the same twice, with another ID": bytes.fromhex("01 00 00 00 00 00 00000001 04 00 00 00"),
    "an answer that is cut, and whole over TCP": bytes.fromhex(
        "00 00 01 06 03 00 00000001 02 00 00 03"
    ),
}


@pytest.mark.parametrize("data", SEEDS.values(), ids=SEEDS.keys())
def test_seeds(data: bytes) -> None:
    check(data)


def test_any_queries() -> None:
    briefly(check, 60)
