"""The EDNS options of clients through a whole server: *cache*, *forward* and the packet cache.

The upstream's answer depends on the options that reach it, as a CDN's on the client subnet.
"""

import threading

import dnslib
import pytest

from corepy.dns.edns import OPTION_COOKIE, OPTION_NSID, OPTION_SUBNET, option, parse_options
from corepy.testing import Upstream, query, serve

HERE = option(OPTION_SUBNET, bytes((0, 1, 24, 0, 198, 51, 1)))
THERE = option(OPTION_SUBNET, bytes((0, 1, 24, 0, 203, 0, 113)))
NOWHERE = option(OPTION_SUBNET, bytes((0, 1, 0, 0)))
PRIVATE, OTHER = option(65001, b"one"), option(65001, b"two")
NSID, COOKIE = option(OPTION_NSID), option(OPTION_COOKIE, b"12345678")

ADDRESSES = {b"": 1, HERE: 2, THERE: 3, NOWHERE: 4, PRIVATE: 5, OTHER: 6}
"""Last byte of the address that the upstream answers, by the options that reach it."""

CLIENTS = {
    "no EDNS": (None, 1),
    "EDNS": (b"", 1),
    "NSID": (NSID, 1),
    "cookie": (COOKIE, 1),
    "here": (HERE, 2),
    "here, with a cookie": (HERE + COOKIE, 2),
    "there": (THERE, 3),
    "nowhere": (NOWHERE, 4),
    "private": (PRIVATE, 5),
    "another private": (OTHER, 6),
}
SETTINGS = {
    "cache": "cache",
    "cache that fetches anew": "cache {\nserve_stale 1h\nprefetch 1 1m 90%\n}",
    "no cache": "",
}


def options_of(message):
    """Return the options of a dnslib message as bytes, without the cookie of corepy itself."""
    for record in message.ar:
        if record.rtype == 41:
            options = [option(each.code, each.data) for each in record.rdata]
            return b"".join(it for it in options if it == COOKIE or it[:2] != COOKIE[:2])
    return b""


def behave(question, _proto):
    """Answer by the options, and echo a subnet with the scope that it has; health checks too."""
    options = options_of(question)
    reply = question.reply(ra=1, aa=0)
    reply.ar = []
    reply.add_answer(
        *dnslib.RR.fromZone(f"{question.q.qname} 60 IN A 192.0.2.{ADDRESSES.get(options, 99)}")
    )
    echoed = [
        dnslib.EDNSOption(code, data[:3] + data[2:3] + data[4:])
        for code, data in parse_options(options)
        if code == OPTION_SUBNET
    ]
    if options_of(question) or any(record.rtype == 41 for record in question.ar):
        reply.add_ar(dnslib.EDNS0(opts=echoed))
    return reply


def asked_with(options):
    """Return a query with these options in its OPT record; without EDNS for None."""
    if options is None:
        return query("www.example.org")
    wire = query("www.example.org", edns=1232)
    return wire[:-2] + len(options).to_bytes(2, "big") + options


def address(wire):
    return int(str(dnslib.DNSRecord.parse(wire).rr[0].rdata).rpartition(".")[2])


def corefile(upstream, cache):
    return f".:0 {{\nbind 127.0.0.1\n{cache}\nforward . {upstream.to}\n}}"


@pytest.mark.parametrize("cache", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("first", CLIENTS)
def test_everybody_gets_what_was_asked_for_them(first, cache):
    """Whoever comes first, and however often: the packet cache and hits included."""
    order = [first, *(client for client in CLIENTS if client != first)]
    with Upstream(behave) as upstream, serve(corefile(upstream, cache), still=True) as server:
        for _ in range(3):
            got = {
                client: address(server.exchange(asked_with(CLIENTS[client][0]))) for client in order
            }
            assert got == {client: number for client, (_, number) in CLIENTS.items()}
        queries = [what for what, _ in upstream.queries].count("www.example.org. A")
    if cache:  # one for everybody, one for each subnet, and for the private ones each time
        assert queries == 1 + 3 + 2 * 3


@pytest.mark.parametrize("cache", SETTINGS.values(), ids=SETTINGS)
def test_those_who_wait_at_the_same_time_share_only_what_is_the_same(cache):
    """Identical questions share an exchange; an option makes another question of it."""
    gate = threading.Event()

    def slow(question, proto):
        if str(question.q.qname) == "www.example.org.":
            gate.wait(60)
        return behave(question, proto)

    got: dict[str, int] = {}

    def ask(client):
        got[client] = address(server.exchange(asked_with(CLIENTS[client][0]), timeout=60))

    with Upstream(slow) as upstream, serve(corefile(upstream, cache)) as server:
        threads = [threading.Thread(target=ask, args=(client,)) for client in CLIENTS]
        for thread in threads:
            thread.start()
        gate.set()
        for thread in threads:
            thread.join()
    assert got == {client: number for client, (_, number) in CLIENTS.items()}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (HERE, HERE[:7] + b"\x18" + HERE[8:]),
        (HERE + COOKIE, HERE[:7] + b"\x18" + HERE[8:]),
        (NSID + COOKIE, b""),
        (NOWHERE, NOWHERE),
        (PRIVATE, b""),
        (b"", b""),
    ],
    ids=["subnet", "subnet and cookie", "one hop", "no subnet", "private", "none"],
)
@pytest.mark.parametrize("cache", SETTINGS.values(), ids=SETTINGS)
def test_hits_and_misses_have_the_same_options(cache, sent, expected):
    with Upstream(behave) as upstream, serve(corefile(upstream, cache)) as server:
        for _ in range(2):
            wire = server.exchange(asked_with(sent))
            assert options_of(dnslib.DNSRecord.parse(wire)) == expected
