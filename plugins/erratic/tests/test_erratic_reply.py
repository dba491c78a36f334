"""Which queries are answered, and how (plugin/erratic/erratic_test.go)."""

import asyncio

import pytest

from corepy.testing import make_request, run_chain, serve, set_up
from corepy.testing.client import query
from corepy_erratic.erratic import Effects, Erratic

BLOCK = ".:0 {{\nbind 127.0.0.1\nerratic {{\n{}\n}}\n}}\n"


def outcomes(handler, count, qtype="A"):
    """The effect on each of so many queries: drop, tc, or the rcode."""
    found = []
    for _ in range(count):
        reply = run_chain(make_request("example.org", qtype), handler)
        found.append("drop" if reply.is_dropped else "tc" if reply.tc else reply.rcode)
    return found


@pytest.mark.parametrize(
    ("effects", "qtype", "expected"),
    [
        (Effects(2), "A", ["drop", 0, "drop", 0]),
        (Effects(2), "AAAA", ["drop", 0, "drop", 0]),
        (Effects(2), "HINFO", ["drop", 2, "drop", 2]),
        (Effects(2), "AXFR", ["drop", 0, "drop", 0]),
        (Effects(2), "IXFR", ["drop", 2, "drop", 2]),
        (Effects(3), "A", ["drop", 0, 0, "drop"]),
        (Effects(1), "A", ["drop", "drop", "drop", "drop"]),
        (Effects(), "A", [0, 0, 0, 0]),
        (Effects(truncate=2), "A", ["tc", 0, "tc", 0]),
        (Effects(truncate=3), "AAAA", ["tc", 0, 0, "tc"]),
        (Effects(truncate=1), "HINFO", [2, 2, 2, 2]),
        (Effects(2, 0, 3), "A", ["drop", 0, "drop", "tc"]),
    ],
)
def test_effects(effects, qtype, expected):
    assert outcomes(Erratic(effects), 4, qtype) == expected


@pytest.mark.parametrize(("qtype", "address"), [("A", "192.0.2.53"), ("AAAA", "2001:db8::53")])
def test_the_answer(qtype, address):
    with serve(BLOCK.format("drop 0")) as server:
        for tcp in (False, True):
            reply = server.ask("wWw.example.org.", qtype, tcp=tcp)
            (record,) = reply.rr
            assert (str(record.rname), record.ttl, str(record.rdata)) == (
                "wWw.example.org.", 0, address
            )  # fmt: skip
            assert (reply.header.aa, reply.header.tc, reply.header.rcode) == (1, 0, 0)


def test_other_types():
    with serve(BLOCK.format("drop 0")) as server:
        for qtype in ("MX", "TXT", "IXFR"):
            reply = server.ask("example.org.", qtype, tcp=True)
            assert (reply.header.rcode, reply.rr) == (2, [])


@pytest.mark.parametrize("tcp", [False, True])
def test_dropped_queries(tcp):
    with serve(BLOCK.format("drop 2")) as server:
        found = [server.drops("example.org.", tcp=tcp) for _ in range(4)]
        assert found == [True, False, True, False]


def test_truncated_replies_have_their_records():
    with serve(BLOCK.format("truncate 2")) as server:
        replies = [server.ask("example.org.") for _ in range(2)]
        assert [(it.header.tc, len(it.rr)) for it in replies] == [(1, 1), (0, 1)]


def test_large_replies():
    with serve(BLOCK.format("drop 0\nlarge")) as server:
        assert len(server.ask("example.org.", edns=4096).rr) == 30
        assert len(server.ask("example.org.", "AAAA", edns=4096).rr) == 1
        assert len(server.exchange(query("example.org."))) == 12 + 17 + 30 * 16
        assert server.ask("longer-name.example.org.").header.tc


def test_delayed_replies():
    """The reply comes when the time is over, and others do not wait for it."""

    async def test():
        handler = Erratic(Effects(delay=2, duration=0.01))
        first = handler.begin_dns(make_request("example.org"))
        assert handler.begin_dns(make_request("example.org")).ancount == 1
        assert (await first).ancount == 1
        none = Erratic(Effects(delay=2, duration=-1.0)).begin_dns(make_request("example.org"))
        assert none.ancount == 1

    asyncio.run(test())
    with serve(BLOCK.format("delay 1 1ms")) as server:
        assert server.ask("example.org.").rr
        assert server.ask("example.org.", "MX", tcp=True).header.rcode == 2


def test_ready():
    (handler,) = set_up("erratic").handlers
    states = []
    for _ in range(7):
        states.append(handler.ready())
        handler.begin_dns(make_request("example.org"))
    assert states == [False, False, False, True, True, False, False]


def test_beside_the_plugin_ready():
    text = BLOCK.format("drop 0").replace("erratic", "ready 127.0.0.1:0\nerratic", 1)
    with serve(text) as server:
        (erratic,) = server.plugins(Erratic)
        assert server.call(erratic.ready) is False
        for _ in range(3):
            server.ask("example.org.")
        assert server.call(erratic.ready) is True


def test_below_cache():
    """*cache* keeps the answer for the least time that it keeps any, but no dropped query."""
    text = BLOCK.format("drop 2").replace("erratic", "cache\nerratic", 1)
    with serve(text) as server:
        assert [server.drops("example.org.") for _ in range(4)] == [True, False, False, False]


def test_the_state():
    handler = Erratic(Effects())
    assert handler.explain_state(make_request("example.org")) == {"queries": 0}
    outcomes(handler, 2)
    assert handler.explain_state(make_request("example.org")) == {"queries": 2}
