"""The order of records that clients get to see."""

from collections import Counter

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import Reply
from corepy.plugin import Cacheability
from corepy.testing import Recorder, Upstream, make_request, reply_of, run_chain, serve, set_up
from corepy_loadbalance.orders import round_robin
from corepy_loadbalance.records import rearrange

ALIASES = ["c1.test. 300 IN CNAME c2.test.", "c2.test. 300 IN CNAME a.test."]
ADDRESSES = [f"a.test. 300 IN A 10.240.0.{i}" for i in range(1, 4)]
EXCHANGES = [f"m.test. 300 IN MX {i} mx{i}.test." for i in range(1, 4)]
OTHERS = ['a.test. 300 IN TXT "x"', "a.test. 300 IN NS ns.a.test."]


def message(answer, authority=(), additional=(), rcode=0, qtype="A"):
    question = dnslib.DNSRecord.question("a.test", qtype)
    return reply_of(question, answer, authority, additional, rcode)


def lines(section):
    return [str(rr) for rr in section]


def in_dnslibs_words(texts):
    return [str(dnslib.RR.fromZone(text)[0]) for text in texts]


def balanced(wire, text="loadbalance", qtype="A"):
    (handler,) = set_up(text).handlers
    return run_chain(make_request("a.test", qtype), handler, Recorder(lambda r: Reply(wire)))


@pytest.mark.parametrize(
    "answer",
    [
        ADDRESSES,
        [*ALIASES, *ADDRESSES],
        [*ADDRESSES, *ALIASES],
        [*EXCHANGES, *ADDRESSES, *OTHERS, *ALIASES],
        [EXCHANGES[0], ADDRESSES[0], EXCHANGES[1], ADDRESSES[1], ALIASES[0]],
        [*ADDRESSES, "a.test. 300 IN AAAA ::1", "b.test. 300 IN A 192.0.2.1"],
    ],
)
def test_kinds_come_in_order_and_nothing_is_lost(answer):
    for _ in range(5):
        record = balanced(message(answer, ADDRESSES, EXCHANGES)).record
        assert sorted(lines(record.rr)) == sorted(in_dnslibs_words(answer))
        assert sorted(lines(record.auth)) == sorted(in_dnslibs_words(ADDRESSES))
        assert sorted(lines(record.ar)) == sorted(in_dnslibs_words(EXCHANGES))
        rank = {5: 0, 1: 2, 28: 2, 15: 3}
        ranks = [rank.get(rr.rtype, 1) for rr in record.rr]
        assert ranks == sorted(ranks)
        aliases = [str(rr.rname) for rr in record.rr if rr.rtype == 5]
        assert aliases == [line.split()[0] for line in answer if " CNAME " in line]


def test_every_order_comes_up():
    wire = message(ADDRESSES)
    orders = {tuple(lines(balanced(wire).record.rr)) for _ in range(120)}
    assert len(orders) == 6


def test_mail_exchanges_are_shuffled():
    wire = message(EXCHANGES, qtype="MX")
    assert len({tuple(lines(balanced(wire, qtype="MX").record.rr)) for _ in range(120)}) == 6


@pytest.mark.parametrize(
    ("wire", "qtype"),
    [
        (message(ADDRESSES, rcode=3), "A"),
        (message(ADDRESSES, rcode=2), "A"),
        (message(ADDRESSES[:1], OTHERS[:1], ADDRESSES[:1]), "A"),
        (message([*EXCHANGES, *ADDRESSES], qtype="AXFR"), "AXFR"),
        (message(ADDRESSES)[:-3], "A"),
    ],
    ids=["denied", "failed", "one of each", "transfer", "cut off"],
)
def test_left_alone(wire, qtype):
    for _ in range(10):
        assert balanced(wire, qtype=qtype).wire == wire


def test_the_same_size_where_only_addresses_move():
    wire = message([*ALIASES, *ADDRESSES])
    assert {len(balanced(wire).wire) for _ in range(20)} == {len(wire)}


PREFERENCES = [
    ("10.9.20.0/24", ["10.9.20.5", "10.9.20.3"]),
    ("10.9.20.0/24 10.9.30.0/24", ["10.9.20.5", "10.9.20.3", "10.9.30.1"]),
    ("2001:db8::/32 10.9.30.7/24", ["2001:db8::1", "10.9.30.1"]),
    ("0.0.0.0/0", ["10.9.20.5", "10.9.20.3", "10.9.30.1", "192.168.1.2"]),
]


@pytest.mark.parametrize(("networks", "first"), PREFERENCES)
def test_preferred_networks_come_first(networks, first):
    addresses = ["192.168.1.2", "10.9.20.5", "10.9.30.1", "10.9.20.3", "2001:db8::1"]
    answer = [f"a.test. 1 {'AAAA' if ':' in each else 'A'} {each}" for each in addresses]
    text = f"loadbalance {{\nprefer {networks}\n}}"
    for _ in range(10):
        record = balanced(message([*answer, *ALIASES, *OTHERS], (), answer), text).record
        shown = [str(rr.rdata) for rr in record.rr]
        assert shown[:2] == ["c2.test.", "a.test."]
        assert [rr.rtype for rr in record.rr[-2:]] == [16, 2]
        assert sorted(shown[2 : 2 + len(first)]) == sorted(first)
        assert sorted([str(rr.rdata) for rr in record.ar][: len(first)]) == sorted(first)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([*ALIASES, *ADDRESSES, *EXCHANGES, *OTHERS]), max_size=12),
    st.lists(st.sampled_from([*ADDRESSES, *OTHERS, "ns.a.test. 1 IN AAAA ::1"]), max_size=6),
)
def test_no_message_loses_a_record(answer, additional):
    wire = message(answer, OTHERS, additional)
    before = dnslib.DNSRecord.parse(wire)
    after = dnslib.DNSRecord.parse(rearrange(wire, round_robin))
    for one, other in ((before.rr, after.rr), (before.auth, after.auth), (before.ar, after.ar)):
        assert Counter(lines(one)) == Counter(lines(other))


def test_no_packet_cache():
    assert set_up("loadbalance").handlers[0].cacheability is Cacheability.UNSAFE


@pytest.mark.parametrize("tcp", [False, True])
def test_served(tcp):
    with Upstream({"a.test. A": ADDRESSES}) as upstream:
        text = f". {{\nbind 127.0.0.1\nloadbalance\ncache\nforward . {upstream.to}\n}}"
        with serve(text, still=True) as server:
            orders = {tuple(lines(server.ask("a.test", tcp=tcp).rr)) for _ in range(60)}
    assert len(orders) > 1
    assert len([text for text, _ in upstream.queries if text == "a.test. A"]) == 1
