"""EDNS options of clients: nobody gets a reply that was asked for with another one's options."""

import asyncio
import ipaddress

import dnslib
import pytest

from corepy.dns import Reply, Request, RequestContext
from corepy.dns.edns import (
    OPTION_COOKIE,
    OPTION_DAU,
    OPTION_EDE,
    OPTION_KEY_TAG,
    OPTION_NSID,
    OPTION_PADDING,
    OPTION_SUBNET,
    OPTION_TCP_KEEPALIVE,
    Edns,
    option,
    parse_options,
)
from corepy.dns.message import query
from corepy.dns.names import from_text
from corepy.server.listen.packet_cache import why_not
from corepy.testing import Recorder, controller_for, link
from corepy_cache import setup
from corepy_cache.budget import Budget
from corepy_cache.handler import Cache
from corepy_cache.keys import Subnet, scope_of, subnet_of

PRIVATE = 65001
SOA = "example.org. 60 IN SOA ns.example.org. admin.example.org. 1 7200 3600 1209600 60"


def subnet(text, scope=0):
    """Return the option that a client sends for a network, or for "none"."""
    if text == "none":
        return option(OPTION_SUBNET, bytes(4))
    network = ipaddress.ip_network(text)
    size = (network.prefixlen + 7) // 8
    data = bytes((0, 1 if network.version == 4 else 2, network.prefixlen, scope))
    return option(OPTION_SUBNET, data + network.network_address.packed[:size])


def asked(options=None, do=False, flags=0x0100):
    """Return a query, with EDNS if `options` are given or `do`."""
    edns = None if options is None and not do else Edns(1232, do, options or b"")
    name = from_text("www.example.org")
    request = Request.from_wire(query(name, 1, flags=flags, edns=edns))
    request.peer = request.client = ("127.0.0.1", 40000)
    request.context = RequestContext(server="dns://:53")
    return request


class Bench:
    """A cache above an upstream whose every reply has another address."""

    def __init__(self, text="cache"):
        controller = controller_for(text)
        setup(controller)
        self.now = 1000.0
        self.cache = Cache(controller.handlers[0].settings, Budget(64 << 20), lambda: self.now)
        self.scope = None
        """The scope of replies; None for an upstream that does not know client subnets."""
        self.rcode = 0
        self.below = Recorder(self.answer)
        self.top = link([self.cache, self.below])
        self.number = 0

    def answer(self, request):
        self.number += 1
        reply = dnslib.DNSRecord.parse(request.wire).reply(ra=1)
        reply.ar, reply.header.rcode = [], self.rcode
        if self.rcode == 0:
            reply.add_answer(*dnslib.RR.fromZone(f"{request.name} 60 A 192.0.2.{self.number}"))
        elif self.rcode == 3:
            reply.add_auth(*dnslib.RR.fromZone(SOA))
        packed = Reply.from_wire(bytes(reply.pack()))
        sent = parse_options(request.edns.options) if request.edns else []
        for code, data in sent:
            if code == OPTION_SUBNET and self.scope is not None:
                packed.options += option(code, data[:3] + bytes((self.scope,)) + data[4:])
        return packed

    async def reply_to(self, options=None, **question):
        request = asked(options, **question)
        request.received = self.now
        reply = await self.top.serve_dns(request)
        if options:
            assert why_not(request, reply, reply.wire), "the packet cache keeps none of these"
        return reply

    def ask(self, options=None, **question):
        """Return the number of the upstream's reply that the client gets."""

        async def run():
            reply = await self.reply_to(options, **question)
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            if tasks:
                await asyncio.wait(tasks)
            return reply

        self.reply = asyncio.run(run())
        return [int(str(rr.rdata).rpartition(".")[2]) for rr in self.reply.record.rr]

    def sent(self, number=-1):
        """Return the options of a query that went upstream."""
        edns = self.below.requests[number].edns
        return edns.options if edns else b""


# What one client sends, and what the others send after it, in this order: each with a number that
# tells whose reply it gets.
STORIES = {
    "another subnet, none, /0": (
        24, ["198.51.100.0/24", "203.0.113.0/24", None, "none"], [1, 2, 3, 4],
    ),
    "the same subnet": (24, ["198.51.100.0/24", "198.51.100.0/24"], [1, 1]),
    "another subnet in the scope": (16, ["198.51.100.0/24", "198.51.7.0/24"], [1, 1]),
    "one just outside of it": (23, ["198.51.100.0/24", "198.51.101.0/24", "198.51.102.0/24"],
                               [1, 1, 2]),
    "a scope of all": (0, ["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/56", None, "none"],
                       [1, 1, 1, 2, 1]),
    "one less exact than the scope": (24, ["198.51.100.0/24", "198.51.0.0/16"], [1, 2]),
    "a scope longer than the prefix": (
        28, ["198.51.100.0/24", "198.51.100.0/24", "198.51.100.0/28", "198.51.100.16/28"],
        [1, 1, 2, 3],
    ),
    "an upstream that tells no scope": (
        None, ["198.51.100.0/24", "198.51.100.0/24", "198.51.100.0/25", "198.51.0.0/16", "none",
               "none", None], [1, 1, 2, 3, 4, 4, 5],
    ),
    "IPv6": (48, ["2001:db8:1:100::/56", "2001:db8:1:200::/56", "2001:db8:2::/56"], [1, 1, 2]),
    "the address left out": (0, ["none", "none", "198.51.100.0/24", None, None], [1, 1, 2, 3, 3]),
    "without first": (24, [None, None, "198.51.100.0/24", "none"], [1, 1, 2, 3]),
}  # fmt: skip


@pytest.mark.parametrize("text", ["cache", "cache {\nserve_stale 1h\nprefetch 1\nkeepttl\n}"])
@pytest.mark.parametrize(("scope", "clients", "expected"), STORIES.values(), ids=STORIES)
def test_client_subnets(scope, clients, expected, text):
    bench = Bench(text)
    bench.scope = scope
    got = [bench.ask(None if client is None else subnet(client)) for client in clients]
    assert got == [[number] for number in expected]


@pytest.mark.parametrize("rcode", [2, 3])
def test_denials_and_failures_are_kept_for_a_subnet_as_well(rcode):
    bench = Bench()
    bench.scope, bench.rcode = 24, rcode
    bench.ask(subnet("198.51.100.0/24"))
    bench.ask(subnet("198.51.100.0/24"))
    assert len(bench.below.requests) == 1
    assert bench.reply.rcode == rcode
    bench.ask(subnet("203.0.113.0/24"))
    bench.ask()
    assert len(bench.below.requests) == 3


def test_queries_that_are_answered_apart_are_counted():
    """Hits of both kinds, and misses: also of options that no reply is kept for."""
    bench = Bench()
    metrics = bench.cache.metrics("dns://:53")
    counters = metrics.success_hits, metrics.denial_hits, metrics.misses
    before = [counter.value for counter in counters]
    bench.scope = 24
    for _ in range(3):
        bench.ask(subnet("198.51.100.0/24"))
    bench.rcode = 3
    for _ in range(5):
        bench.ask(subnet("203.0.113.0/24"))
    for _ in range(2):
        bench.ask(option(PRIVATE, b"one"))
    now = [counter.value for counter in counters]
    assert [after - early for early, after in zip(before, now, strict=True)] == [2, 4, 4]


@pytest.mark.parametrize("rcode", [0, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        option(PRIVATE, b"one"),
        option(PRIVATE),
        subnet("198.51.100.0/24") + option(PRIVATE),
        subnet("198.51.100.0/24") * 2,
        subnet("198.51.100.0/24", scope=24),
        option(OPTION_SUBNET, bytes((0, 1, 24, 0, 198, 51, 100, 7))),
        option(OPTION_SUBNET, bytes((0, 1, 20, 0, 198, 51, 100))),
    ],
    ids=[
        "private", "empty", "with a subnet", "two subnets", "a scope", "too long", "stray bits",
    ],
)  # fmt: skip
def test_a_reply_to_an_unknown_option_is_for_this_client_alone(options, rcode):
    bench = Bench()
    bench.rcode, bench.scope = rcode, 24
    for number in (1, 2):
        bench.ask(options)
        assert bench.number == number
        assert bench.sent() == options
    assert (len(bench.cache.store.success), len(bench.cache.store.denial)) == (0, 0)
    bench.ask()
    bench.ask()
    assert bench.number == 3
    bench.ask(options)
    assert bench.number == 4, "it gets nothing that was asked without it"
    bench.ask()
    assert bench.number == 4, "nor does it end what is kept for others"


HOP = {
    "cookie": option(OPTION_COOKIE, b"12345678"),
    "nsid": option(OPTION_NSID),
    "padding": option(OPTION_PADDING, bytes(64)),
    "keepalive": option(OPTION_TCP_KEEPALIVE),
    "algorithms": option(OPTION_DAU, b"\x08\x0d"),
    "key tags": option(OPTION_KEY_TAG, b"\x4f\x66"),
    "an extended error": option(OPTION_EDE, b"\0\0"),
}


@pytest.mark.parametrize("options", HOP.values(), ids=HOP)
@pytest.mark.parametrize("do", [False, True])
def test_what_belongs_to_one_hop_is_left_out_and_changes_nothing(options, do):
    bench = Bench()
    assert bench.ask(options, do=do) == [1]
    assert bench.sent() == b""
    assert bench.below.requests[0].do is do
    assert bench.ask(do=do) == [1]
    assert bench.ask(options, do=do) == [1]
    assert bench.reply.options == b""


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("serve_stale 1h", 100),
        ("serve_stale 1h verify", 100),
        ("prefetch 1 1m 50%", 40),
    ],
)
@pytest.mark.parametrize("options", [HOP["cookie"], HOP["cookie"] + HOP["nsid"]])
def test_what_is_fetched_for_everybody_carries_nobodys_options(text, age, options):
    bench = Bench(f"cache {{\n{text}\n}}")
    bench.ask(options)
    bench.now += age
    bench.ask(options)
    assert bench.number == 2
    assert [request.edns.options for request in bench.below.requests] == [b"", b""]
    assert bench.ask() == [2]


def test_a_client_without_edns_causes_a_refresh_without_edns():
    bench = Bench("cache {\nserve_stale 1h\n}")
    bench.ask()
    bench.now += 100
    bench.ask()
    assert [request.edns for request in bench.below.requests] == [None, None]


@pytest.mark.parametrize("mode", ["immediate", "verify"])
def test_stale_and_subnets(mode):
    """What was asked with a subnet is not served stale, nor does its client get what others left."""
    bench = Bench(f"cache {{\nserve_stale 1h {mode}\nprefetch 1 1m 90%\n}}")
    bench.scope = 24
    assert bench.ask(subnet("198.51.100.0/24")) == [1]
    assert bench.ask() == [2]
    bench.now += 59
    assert bench.ask(subnet("198.51.100.0/24")) == [1]
    assert bench.number == 2
    bench.now += 1
    assert bench.ask(subnet("198.51.100.0/24")) == [3]


@pytest.mark.parametrize(
    ("scope", "first", "second", "expected"),
    [
        (16, "198.51.100.0/24", "198.51.7.0/24", subnet("198.51.7.0/24", 16)),
        (0, "198.51.100.0/24", "203.0.113.0/24", subnet("203.0.113.0/24")),
        (28, "198.51.100.0/24", "198.51.100.0/24", subnet("198.51.100.0/24", 28)),
        (None, "198.51.100.0/24", "198.51.100.0/24", b""),
    ],
)
def test_a_hit_names_the_clients_own_subnet_and_the_scope(scope, first, second, expected):
    """RFC 7871 section 7.2.1."""
    bench = Bench()
    bench.scope = scope
    bench.ask(subnet(first))
    bench.now += 7
    assert bench.ask(subnet(second)) == [1]
    assert bench.reply.options == expected
    assert bench.reply.record.rr[0].ttl == 53


def test_a_hit_for_a_subnet_keeps_the_entry_from_being_evicted_first():
    bench = Bench()
    bench.scope = 24
    bench.ask(subnet("198.51.100.0/24"))
    (entry,) = bench.cache.store.success.entries.values()
    assert not entry.used
    bench.ask(subnet("198.51.100.0/24"))
    assert entry.used


def test_wildcard_metadata_is_kept_for_a_subnet():
    class Wild(Bench):
        def answer(self, request):
            request.metadata["zone/wildcard"] = "*.example.org."
            return super().answer(request)

    bench = Wild()
    bench.scope = 24
    bench.ask(subnet("198.51.100.0/24"))
    request = asked(subnet("198.51.100.0/24"))
    request.received = bench.now
    asyncio.run(bench.top.serve_dns(request))
    assert (bench.number, request.metadata["zone/wildcard"]) == (1, "*.example.org.")


def test_flags_belong_to_the_question_of_a_subnet_too():
    bench = Bench()
    bench.scope = 24
    options = subnet("198.51.100.0/24")
    assert bench.ask(options) == [1]
    assert bench.ask(options, do=True) == [2]
    assert bench.ask(options, flags=0x0110) == [3]
    assert bench.ask(options, flags=0) == [4]
    assert [bench.ask(options), bench.ask(options, do=True)] == [[1], [2]]


@pytest.mark.parametrize(
    "found",
    [
        subnet("198.51.101.0/24", 24),
        subnet("198.51.100.0/25", 24),
        subnet("2001:d00::/24", 24),
        subnet("198.51.100.0/24", 24) * 2,
        option(OPTION_SUBNET, b"\0\1"),
        b"\0\x08\0",
    ],
    ids=["address", "prefix", "family", "twice", "short", "cut off"],
)
def test_a_reply_about_another_subnet_is_not_kept(found):
    """RFC 7871 section 7.3."""
    bench = Bench()
    plain = bench.answer

    def behave(request):
        reply = plain(request)
        reply.options = found
        return reply

    bench.below._answer = behave
    assert bench.ask(subnet("198.51.100.0/24")) == [1]
    assert bench.ask(subnet("198.51.100.0/24")) == [2]
    assert len(bench.cache.store.success) == 0


def test_ad_reaches_only_those_who_asked_for_it():
    """With every kind of options: the query below has AD, the reply may not."""
    bench = Bench()
    plain = bench.answer

    def behave(request):
        reply = plain(request)
        wire = bytearray(reply.wire)
        wire[3] |= 0x20
        reply.wire = bytes(wire)
        return reply

    bench.below._answer = behave
    for options in (subnet("198.51.100.0/24"), option(PRIVATE), HOP["cookie"]):
        bench.ask(options)
        assert not bench.reply.wire[3] & 0x20
        bench.ask(options, flags=0x0120)
        assert bench.reply.wire[3] & 0x20


def test_the_memory_of_a_subnets_entries_is_counted_and_given_back():
    bench = Bench()
    bench.scope = 24
    for third in range(50):
        bench.ask(subnet(f"198.51.{third}.0/24"))
    assert bench.cache.budget.used == sum(entry.size for entry in bench.cache.store.success) > 0
    bench.cache.store.clear()
    assert bench.cache.budget.used == 0


def test_a_purge_takes_what_is_kept_for_subnets():
    bench = Bench()
    bench.scope = 24
    assert bench.ask(subnet("198.51.100.0/24")) == [1]
    count = asyncio.run(bench.cache.command("cache/purge", {"name": "www.example.org"}))
    assert count == 1
    assert bench.ask(subnet("198.51.100.0/24")) == [2]


def test_explain_says_that_options_are_asked_apart():
    bench = Bench()
    assert "EDNS options" in bench.cache.explain_state(asked(option(PRIVATE)))["state"]
    assert bench.cache.explain_state(asked(HOP["cookie"]))["state"] == "miss"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes((0, 1, 24, 0, 1, 2, 3)), Subnet(1, 24, b"\1\2\3")),
        (bytes((0, 1, 23, 0, 1, 2, 2)), Subnet(1, 23, b"\1\2\2")),
        (bytes((0, 1, 23, 0, 1, 2, 3)), None),
        (bytes((0, 1, 24, 0, 1, 2)), None),
        (bytes((0, 1, 24, 0, 1, 2, 3, 0)), None),
        (bytes((0, 1, 33, 0, 1, 2, 3, 4, 0)), None),
        (bytes((0, 2, 128, 0)) + bytes(range(16)), Subnet(2, 128, bytes(range(16)))),
        (bytes((0, 2, 129, 0)) + bytes(range(16)) + b"\x80", None),
        (bytes((0, 0, 1, 0, 0x80)), None),
        (bytes((0, 1, 32, 0, 1, 2, 3, 4)), Subnet(1, 32, b"\1\2\3\4")),
        (bytes((0, 3, 8, 0, 1)), None),
        (bytes((1, 1, 8, 0, 1)), None),
        (bytes((0, 1, 8, 8, 1)), None),
        (bytes(4), Subnet(0, 0, b"")),
        (bytes((0, 0, 8, 0, 1)), None),
        (b"\0\1\0", None),
    ],
)
def test_reading_a_subnet(data, expected):
    assert subnet_of(option(OPTION_SUBNET, data)) == expected


@pytest.mark.parametrize("scope", [0, 1, 24, 32, 255])
def test_the_scope_of_a_reply(scope):
    asked = Subnet(1, 24, b"\1\2\3")
    assert scope_of(asked.option(scope), asked) == scope
    assert scope_of(option(PRIVATE) + asked.option(scope), asked) == scope
    assert scope_of(b"", asked) == -1
