"""The verdict on a query: CoreDNS's cases (plugin/acl/acl_test.go), and random rules against a plain model."""

import asyncio
import ipaddress
import itertools
import socket
import struct
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.constants import type_number
from corepy.plugin import Cacheability, FastHandler, Pending, Wakeups
from corepy.testing import Recorder, link, make_request, run_chain, set_up
from corepy_acl.acl import ACL, MOST_NAMES
from corepy_acl.networks import EVERYWHERE, key_of, merge, read_network
from corepy_acl.rule import MOST_REMEMBERED, Action, Policy, Rule

COREDNS = [
    (
        "acl example.org {\nblock type A net 192.168.0.0/16\n}",
        ".",
        "www.example.org.",
        "192.168.0.2",
        "A",
        "block",
    ),
    (
        "acl example.org {\nblock type A net 192.168.0.0/16\n}",
        ".",
        "www.example.org.",
        "192.167.0.2",
        "A",
        "allow",
    ),
    (
        "acl example.org {\nblock type * net 192.168.0.0/16\n}",
        ".",
        "www.example.org.",
        "192.168.0.2",
        "AAAA",
        "block",
    ),
    ("acl example.org {\nblock type A\n}", ".", "www.example.org.", "10.1.0.2", "A", "block"),
    ("acl example.org {\nblock type A\n}", ".", "www.example.org.", "10.1.0.2", "AAAA", "allow"),
    (
        "acl example.org {\nblock type A net 192.168.1.2\n}",
        ".",
        "www.example.org.",
        "192.168.1.2",
        "A",
        "block",
    ),
    (
        "acl example.org {\nblock type A net 192.168.1.2\n}",
        ".",
        "www.example.org.",
        "192.168.1.3",
        "A",
        "allow",
    ),
    (
        "acl example.org {\nfilter type A net 192.168.0.0/16\n}",
        ".",
        "www.example.org.",
        "192.168.0.2",
        "A",
        "filter",
    ),
    (
        "acl example.org {\nfilter type A net 192.168.0.0/16\n}",
        ".",
        "www.example.org.",
        "192.167.0.2",
        "A",
        "allow",
    ),
    (
        "acl example.org {\nallow net 192.168.0.0/16\nblock\n}",
        ".",
        "www.example.org.",
        "192.168.0.2",
        "A",
        "allow",
    ),
    (
        "acl example.org {\nallow type * net 192.168.0.0/16\nblock\n}",
        ".",
        "www.example.org.",
        "10.1.0.2",
        "A",
        "block",
    ),
    (
        "acl example.org {\ndrop net 192.168.0.0/16\n}",
        ".",
        "www.example.org.",
        "192.168.0.2",
        "A",
        "drop",
    ),
    (
        "acl example.org {\nblock net 192.168.1.0/24\ndrop net 192.168.0.0/16\n}",
        ".",
        "www.example.org.",
        "192.168.1.2",
        "A",
        "block",
    ),
    (
        "acl example.org {\ndrop net 192.168.0.0/16\nblock net 192.168.1.0/24\n}",
        ".",
        "www.example.org.",
        "192.168.1.1",
        "A",
        "drop",
    ),
    (
        "acl example.org {\ndrop type A\nallow net 192.168.0.0/16\n}",
        ".",
        "www.example.org.",
        "192.168.1.1",
        "A",
        "drop",
    ),
    (
        "acl example.org {\ndrop type A\nallow net 192.168.0.0/16\n}",
        ".",
        "www.example.org.",
        "192.168.1.1",
        "AAAA",
        "allow",
    ),
    (
        "acl a.example.org {\nblock type * net 192.168.1.0/24\n}",
        "example.org",
        "a.example.org.",
        "192.168.1.2",
        "A",
        "block",
    ),
    (
        "acl a.example.org {\nblock net 192.168.1.0/24\n}",
        "example.org",
        "www.example.org.",
        "192.168.1.2",
        "A",
        "allow",
    ),
    (
        "acl example.org {\nblock net 192.168.1.0/24\n}",
        "example.org",
        "a.example.org.",
        "192.168.1.2",
        "A",
        "block",
    ),
    (
        "acl {\nblock net 192.168.1.0/24\n}",
        "example.org",
        "a.example.com.",
        "192.168.1.2",
        "A",
        "allow",
    ),
    (
        "acl a.example.org {\nblock net 192.168.1.0/24\n}\nacl b.example.org {\nblock type * net 192.168.2.0/24\n}",
        "example.org",
        "b.example.org.",
        "192.168.2.2",
        "A",
        "block",
    ),
    (
        "acl a.example.org {\nblock net 192.168.1.0/24\n}\nacl b.example.org {\nblock net 192.168.2.0/24\n}",
        "example.org",
        "b.example.org.",
        "192.168.1.2",
        "A",
        "allow",
    ),
    (
        "acl example.org {\nblock type A net 2001:db8:abcd:0012::0/64\n}",
        ".",
        "www.example.org.",
        "2001:db8:abcd:0012::1230",
        "A",
        "block",
    ),
    (
        "acl example.org {\nblock type A net 2001:db8:abcd:0012::0/64\n}",
        ".",
        "www.example.org.",
        "2001:db8:abcd:0013::0",
        "A",
        "allow",
    ),
    (
        "acl example.org {\nblock type A\n}",
        ".",
        "www.example.org.",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "A",
        "block",
    ),
    (
        "acl example.org {\nblock type A net 2001:0db8:85a3:0000:0000:8a2e:0370:7334\n}",
        ".",
        "www.example.org.",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "A",
        "block",
    ),
    (
        "acl example.org {\nblock type A net 2001:0db8:85a3:0000:0000:8a2e:0370:7334\n}",
        ".",
        "www.example.org.",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7335",
        "A",
        "allow",
    ),
    (
        "acl a.example.org {\nblock type * net 2001:db8:abcd:0012::0/64\n}",
        "example.org",
        "a.example.org.",
        "2001:db8:abcd:0012:2019::0",
        "A",
        "block",
    ),
    (
        "acl a.example.org {\nblock net 2001:db8:abcd:0012::0/64\n}",
        "example.org",
        "www.example.org.",
        "2001:db8:abcd:0012:2019::0",
        "A",
        "allow",
    ),
    (
        "acl example.org {\nblock type AAAA net 2001:0db8:85a3:0000:0000:8a2e:0370:7334\n}",
        "eth0",
        "www.example.org.",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "AAAA",
        "block",
    ),
    (
        "acl example.org {\ndrop net 2001:0db8:85a3:0000:0000:8a2e:0370:7334\n}",
        ".",
        "www.example.org.",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "AAAA",
        "drop",
    ),
    (
        "acl example.org {\nblock net 2001:db8:abcd:0012:8000::/66\ndrop net 2001:db8:abcd:0012::0/64\n}",
        ".",
        "www.example.org.",
        "2001:db8:abcd:0012:8000::1",
        "AAAA",
        "block",
    ),
    (
        "acl example.org {\ndrop net 2001:db8:abcd:0012::0/64\nblock net 2001:db8:abcd:0012:8000::/66\n}",
        ".",
        "www.example.org.",
        "2001:db8:abcd:0012:8000::1",
        "AAAA",
        "drop",
    ),
    (
        "acl example.org {\ndrop type A\nallow net 2001:db8:85a3:0000::0/64\n}",
        ".",
        "www.example.org.",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "A",
        "drop",
    ),
    (
        "acl example.org {\ndrop type A\nallow net 2001:db8:85a3:0000::0/64\n}",
        ".",
        "www.example.org.",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "AAAA",
        "allow",
    ),
]


def verdict(handler, request):
    """Ask, and return the action that the reply shows."""
    below = Recorder()
    reply = run_chain(request, handler, below)
    if below.requests:
        assert reply.rcode == 0
        return "allow"
    assert reply.ancount == 0
    if reply.is_dropped:
        return "drop"
    assert reply.options == {5: b"\0\x0f\0\2\0\x0f", 0: b"\0\x0f\0\2\0\x11"}[reply.rcode]
    return {5: "block", 0: "filter"}[reply.rcode]


def handler_of(text, zone="."):
    (handler,) = set_up(text, zone).handlers
    return handler


def test_the_cases_are_all_of_coredns():
    assert len(COREDNS) == 35


@pytest.mark.parametrize(("text", "zone", "name", "client", "qtype", "expected"), COREDNS)
def test_coredns(text, zone, name, client, qtype, expected):
    request = make_request(name, qtype, peer=(client, 4000), do=True)
    assert verdict(handler_of(text, zone), request) == expected


def sockaddr(address, zone=0):
    """The bytes of a client's socket address, as UDP listeners give them."""
    packed = ipaddress.ip_address(address).packed
    if len(packed) == 4:
        return struct.pack("=H", socket.AF_INET) + b"\x0f\xa0" + packed + bytes(8)
    family = struct.pack("=H", socket.AF_INET6)
    return family + b"\x0f\xa0" + bytes(4) + packed + struct.pack("=I", zone)


@pytest.mark.parametrize(
    ("networks", "client", "expected"),
    [
        ("192.0.2.0/24", sockaddr("192.0.2.255"), "block"),
        ("192.0.2.0/24", sockaddr("192.0.3.0"), "allow"),
        ("192.0.2.0/24", sockaddr("::ffff:192.0.2.7"), "block"),
        ("192.0.2.0/24", ("::ffff:192.0.2.7", 4000, 0, 0), "block"),
        ("192.0.2.0/24", ("::ffff:c000:207", 4000, 0, 0), "block"),
        ("::ffff:192.0.2.0/120", sockaddr("192.0.2.7"), "block"),
        ("::ffff:192.0.2.0/120", sockaddr("::ffff:192.0.2.7"), "block"),
        ("::/0", sockaddr("::ffff:192.0.2.7"), "allow"),
        ("::/0", sockaddr("192.0.2.7"), "allow"),
        ("::/0", sockaddr("::"), "block"),
        ("0.0.0.0/0", sockaddr("2001:db8::1"), "allow"),
        ("0.0.0.0/0", sockaddr("255.255.255.255"), "block"),
        ("fe80::/10", sockaddr("fe80::1", 1), "block"),
        ("fe80::/10", ("fe80::1%lo", 4000, 0, 1), "block"),
        ("fe80::1", ("fe80::1", 4000, 0, 1), "block"),
        ("2001:db8::1", sockaddr("2001:db8::1"), "block"),
        ("2001:db8::1", sockaddr("2001:db8::2"), "allow"),
    ],
)
def test_the_client(networks, client, expected):
    request = make_request("example.org", peer=client)
    assert verdict(handler_of(f"acl {{\nblock net {networks}\n}}"), request) == expected


@pytest.mark.parametrize("client", [None, "", b"", b"\1\0/run/socket", ("", 0), ("a.b", 1), 7])
def test_a_client_without_an_address_is_blocked(client, caplog):
    handler = handler_of("acl example.org {\nallow\n}")
    assert verdict(handler, make_request("www.example.org", peer=client)) == "block"
    assert verdict(handler, make_request("www.example.org", peer=client)) == "block"
    assert verdict(handler, make_request("example.net", peer=client)) == "allow"
    message = f"a query is blocked: its client has no IP address: {client!r}"
    assert caplog.messages == [message]
    later = make_request("www.example.org", peer=client)
    later.received = 10.0
    assert verdict(handler, later) == "block"
    assert caplog.messages == [message, message]


def test_the_client_behind_a_proxy_counts():
    """The address that a handler above sets (`Request.set_client`), not that of the proxy."""
    request = make_request("example.org", peer=("192.0.2.1", 53))
    request.set_client(("198.51.100.1", 4000))
    assert verdict(handler_of("acl {\nblock net 198.51.100.0/24\n}"), request) == "block"


SEVERAL = """acl a.example.org example.org {
    allow net 192.0.2.1
    drop type ANY
}
acl b.example.org {
    filter net 192.0.2.0/24
}
acl {
    block net 192.0.2.0/24
}"""


@pytest.mark.parametrize(
    ("name", "client", "qtype", "expected", "zone"),
    [
        ("a.example.org", "192.0.2.1", "A", "allow", "a.example.org."),
        ("a.example.org", "192.0.2.1", "ANY", "allow", "a.example.org."),
        ("x.A.example.org", "192.0.2.2", "ANY", "drop", "a.example.org."),
        ("b.example.org", "192.0.2.2", "ANY", "drop", "example.org."),
        ("b.example.org", "192.0.2.2", "A", "filter", "b.example.org."),
        ("b.example.org", "192.0.2.1", "A", "allow", "example.org."),
        ("c.example.org", "192.0.2.2", "A", "block", "org."),
        ("example.com", "192.0.2.2", "A", "allow: the name is outside its zones", None),
        ("c.example.org", "198.51.100.1", "A", "allow: no rule matches", None),
    ],
)
def test_several_rules(name, client, qtype, expected, zone):
    handler = handler_of(SEVERAL, "org")
    request = make_request(name, qtype, peer=(client, 4000))
    state = handler.explain_state(request)
    assert (state["state"], state.get("zone")) == (expected, zone)
    assert verdict(handler, request) == expected.partition(":")[0]


def test_the_state_names_the_line():
    handler = handler_of(SEVERAL, "org")
    request = make_request("b.example.org", peer=("192.0.2.2", 1))
    assert handler.explain_state(request) == {
        "state": "filter", "zone": "b.example.org.", "rule": "Corefile:7"
    }  # fmt: skip
    request.client = None
    assert handler.explain_state(request) == {
        "state": "block",
        "zone": "example.org.",
        "rule": "none, since the client has no IP address",
    }


# -- the packet cache


SAFE, UNSAFE = Cacheability.OBSERVES, Cacheability.UNSAFE


@pytest.mark.parametrize(
    ("lines", "denies", "cacheability"),
    [
        ("", False, SAFE),
        ("block", False, SAFE),
        ("drop type ANY", False, SAFE),
        ("filter type A AAAA\nblock type ANY net *", False, SAFE),
        ("block net 0.0.0.0/0 ::/0", False, SAFE),
        ("block net 0.0.0.0/1 128.0.0.0/1 ::/1 8000::/1", False, SAFE),
        ("allow net 10.0.0.0/8\nallow", False, SAFE),
        ("allow net 10.0.0.0/8", False, SAFE),
        ("block type A\ndrop type A net 10.0.0.0/8", False, SAFE),
        ("block net 10.0.0.0/8", True, UNSAFE),
        ("block net 0.0.0.0/0", True, UNSAFE),
        ("block net ::/0", True, UNSAFE),
        ("allow net 10.0.0.0/8\nblock", True, UNSAFE),
        ("block net 10.0.0.0/8\ndrop", True, UNSAFE),
        ("block type A net 10.0.0.0/8", True, SAFE),
        ("allow type A\nblock net 10.0.0.0/8", True, SAFE),
    ],
)
def test_the_packet_cache(lines, denies, cacheability):
    handler = handler_of(f"acl {{\n{lines}\n}}")
    assert (handler.denies_clients, handler.cacheability) == (denies, cacheability)


@pytest.mark.parametrize(
    ("text", "zone", "denies", "cacheability"),
    [
        ("acl {\nallow net 10.0.0.0/8\n}\nacl {\nblock\n}", ".", True, UNSAFE),
        ("acl {\nallow net 10.0.0.0/8\n}\nacl {\nallow\n}", ".", False, SAFE),
        ("acl {\nblock\n}\nacl {\ndrop net 10.0.0.0/8\n}", ".", False, SAFE),
        ("acl a. {\nblock\n}\nacl {\ndrop net 10.0.0.0/8\n}", ".", True, SAFE),
        ("acl a. {\nallow net 10.0.0.0/8\n}\nacl b. {\nblock\n}", ".", False, SAFE),
        ("acl a. {\nallow net 10.0.0.0/8\n}\nacl a.b. a. {\nblock type A\n}", ".", True, SAFE),
        ("acl a. {\nblock net 10.0.0.0/8\n}", ".", True, SAFE),
        ("acl a. {\nblock net 10.0.0.0/8\n}", "a", True, UNSAFE),
        ("acl a. {\nblock net 10.0.0.0/8\n}", "b.a", True, UNSAFE),
        ("acl a. {\nblock net 10.0.0.0/8\n}", "a b", True, SAFE),
        ("acl . {\nblock net 10.0.0.0/8\n}", "a b", True, UNSAFE),
    ],
)
def test_the_packet_cache_with_several_rules(text, zone, denies, cacheability):
    handler = handler_of(text, zone)
    assert (handler.denies_clients, handler.cacheability) == (denies, cacheability)


class LateKeeper(FastHandler):
    """A cache that answers later, in a coroutine or in a callback."""

    name = "keeper"
    cacheability = Cacheability.SETS_DEADLINE

    def __init__(self, *, is_pending):
        self.is_pending = is_pending

    def begin_dns(self, request):
        reply = request.error(0)
        reply.deadline = request.received + 60
        if not self.is_pending:
            return asyncio.sleep(0, reply)
        pending = Pending(Wakeups(asyncio.get_running_loop()), lambda _: reply)
        pending.wake()
        return pending


@pytest.mark.parametrize("is_pending", [False, True])
@pytest.mark.parametrize(("qtype", "repeats"), [("A", False), ("MX", True)])
def test_replies_that_come_later(is_pending, qtype, repeats):
    handler = handler_of("acl {\nblock type A net 10.0.0.0/8\n}")
    reply = run_chain(make_request("a.b.", qtype), handler, LateKeeper(is_pending=is_pending))
    assert (reply.deadline is not None) is repeats
    assert len(reply.hit_counters) == repeats


# -- many networks


def calls(function, events=("call", "c_call")):
    """The number of calls, of Python and of C, that a function makes."""
    count = 0

    def count_calls(frame, event, argument):
        nonlocal count
        count += event in events

    sys.setprofile(count_calls)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_a_query_costs_the_same_however_many_networks_there_are():
    costs = []
    for number in (1, 10_000):
        networks = " ".join(f"10.{n >> 8}.{n & 255}.0/25" for n in range(number))
        handler = handler_of(f"acl {{\nallow net {networks}\nblock\n}}")
        for client, expected in (("10.0.0.1", "allow"), ("10.0.0.200", "block")):
            request = make_request("example.org", peer=sockaddr(client))
            assert handler.explain_state(request)["state"] == expected
            find = handler._rules_of["."].find
            costs.append(calls(lambda asked=request, it=find: it(1, key_of(asked.client))))
    assert len(set(costs)) == 1


# -- clients that were allowed before


def ask_as(handler, client, qtype="A", name="a.b."):
    return verdict(handler, make_request(name, qtype, peer=client))


def test_an_allowed_client_is_allowed_for_its_names_and_types_only():
    handler = handler_of("acl a.b. {\nallow type A net 10.0.0.0/8\nblock\n}\nacl b. {\ndrop\n}")
    for _ in range(2):
        assert ask_as(handler, sockaddr("10.0.0.1")) == "allow"
        assert ask_as(handler, sockaddr("10.0.0.1"), "MX") == "block"
        assert ask_as(handler, sockaddr("10.0.0.1"), name="b.") == "drop"
        assert ask_as(handler, sockaddr("10.0.0.1"), name="c.") == "allow"
        assert ask_as(handler, sockaddr("11.0.0.1")) == "block"


def test_an_ipv6_client_is_not_taken_for_an_ipv4_client():
    """Their addresses may have the same bytes, but not the same number of them."""
    handler = handler_of("acl {\nallow net 10.0.0.1 ::ffff:0:0/96\nblock\n}")
    for _ in range(2):
        assert ask_as(handler, sockaddr("10.0.0.1")) == "allow"
        assert ask_as(handler, sockaddr("::ffff:10.0.0.1")) == "allow"
        assert ask_as(handler, sockaddr("::10.0.0.1")) == "block"
        assert ask_as(handler, sockaddr("a00:1::")) == "block"
        assert ask_as(handler, b"") == "block"


@pytest.mark.parametrize("clients", [1, MOST_REMEMBERED, 3 * MOST_REMEMBERED + 1])
def test_few_clients_are_remembered(clients):
    handler = handler_of("acl {\nallow net 10.0.0.0/16\nblock\n}")
    verdicts = handler._rules_of["."].others
    for _ in range(2):
        for n in range(clients):
            assert ask_as(handler, sockaddr(f"10.0.{n >> 8}.{n & 255}")) == "allow"
            assert ask_as(handler, sockaddr(f"10.1.{n >> 8}.{n & 255}")) == "block"
            assert 0 < len(verdicts.allowed) <= MOST_REMEMBERED


def test_few_names_are_remembered():
    handler = handler_of("acl x.test {\nblock type A\n}")
    for _ in range(2):
        for n in range(2 * MOST_NAMES + 1):
            inside = n % 2 == 0
            name = f"n{n}.{'x' if inside else 'y'}.test."
            verdict = "block" if inside else "allow"
            assert ask_as(handler, sockaddr("10.0.0.1"), name=name) == verdict
            assert 0 < len(handler._by_name) <= MOST_NAMES


@pytest.mark.parametrize("zones", ["", " b", " x y z v w", " x b"])
def test_an_ordinary_query_costs_two_calls_of_python_more(zones):
    """Those of *acl* and of the guard below it."""
    costs = []
    for text in ("", f"acl{zones} {{\nallow net 10.0.0.0/8\nblock\n}}"):
        handlers = [*set_up(text).handlers, Keeper()] if text else [Keeper()]
        top = link(handlers, guarded=True)
        request = make_request("a.b.", peer=sockaddr("10.0.0.1"))
        top.begin_dns(request)
        costs.append(calls(lambda it=top, asked=request: it.begin_dns(asked), ("call",)))
    assert costs[1] - costs[0] == 2


# -- against a model

SMALL = st.one_of(
    st.tuples(st.integers(0, 15), st.integers(28, 32)).map(lambda it: f"192.0.2.{it[0]}/{it[1]}"),
    st.tuples(st.integers(0, 15), st.integers(124, 128)).map(
        lambda it: f"2001:db8::{it[0]:x}/{it[1]}"
    ),
    st.sampled_from(["0.0.0.0/0", "::/0", "255.255.255.0/24", "ffff::/16", "::/8"]),
)
POLICIES = st.builds(
    Policy,
    st.sampled_from(Action),
    st.none() | st.frozensets(st.sampled_from([1, 28, 255]), min_size=1),
    st.lists(SMALL.map(read_network), min_size=1, max_size=4) | st.just(EVERYWHERE),
)
ZONES = st.lists(st.sampled_from(["a.b.", "b.", ".", "c."]), min_size=1, max_size=3, unique=True)
RULES = st.lists(st.tuples(ZONES, st.lists(POLICIES, max_size=4)), max_size=4)
CLIENTS = st.one_of(
    st.integers(0, 17).map(lambda it: f"192.0.2.{it}"),
    st.integers(0, 17).map(lambda it: f"2001:db8::{it:x}"),
    st.sampled_from(["0.0.0.0", "255.255.255.255", "::", "ffff:" * 7 + "ffff", "10.0.0.1"]),
)


def model(rules, name, qtype, client):
    """The policies one after the other, as CoreDNS walks them."""
    address = ipaddress.ip_address(client)
    for zones, policies in rules:
        if not any(zone == "." or name == zone or name.endswith("." + zone) for zone in zones):
            continue
        for policy in policies:
            is_inside = any(
                it.bits == address.max_prefixlen and it.first <= int(address) <= it.last
                for it in policy.networks
            )
            if is_inside and (policy.types is None or qtype in policy.types):
                return policy.action.value
    return "allow"


def served(reply):
    """The verdict that the reply to a client without EDNS shows."""
    if reply.is_dropped:
        return "drop"
    if reply.rcode:
        return "block"
    return "allow" if reply.answered_by == "keeper" else "filter"


class Keeper(FastHandler):
    """A cache: its replies may be repeated for a minute."""

    name = "keeper"
    cacheability = Cacheability.SETS_DEADLINE

    def begin_dns(self, request):
        reply = request.error(0)
        reply.deadline = request.received + 60
        reply.answered_by = self.name
        reply.validated, reply.validated_for = reply.wire, request.asked
        return reply


@settings(deadline=None, max_examples=200)
@given(RULES, st.sampled_from(["a.b.", "x.a.b.", "b.", "c.", "d."]), st.data())
def test_rules_against_a_model(rules, name, data):
    """The verdict, and that the packet cache repeats only what every client gets."""
    handler = ACL([Rule(zones, policies) for zones, policies in rules])
    link([handler, Keeper()])
    clients = data.draw(st.lists(CLIENTS, min_size=1, max_size=6))
    for qtype in ("A", "AAAA", "ANY", "MX"):
        expected = [model(rules, name, type_number(qtype), client) for client in clients]
        found, repeated = [], False
        for client in clients:
            request = make_request(name, qtype, peer=sockaddr(client))
            found.append(handler.explain_state(request)["state"].partition(":")[0])
            reply = handler.begin_dns(request)
            again = handler.begin_dns(make_request(name, qtype, peer=sockaddr(client)))
            assert served(reply) == served(again) == found[-1]
            assert (reply.wire[2:], reply.deadline) == (again.wire[2:], again.deadline)
            is_kept = handler.cacheability is not Cacheability.UNSAFE and reply.deadline is not None
            assert not is_kept or found[-1] == "allow"
            repeated |= is_kept
        assert found == expected
        assert not repeated or set(expected) == {"allow"}
        assert len(set(expected)) == 1 or handler.denies_clients


@settings(deadline=None)
@given(st.lists(SMALL.map(read_network)), st.integers(0, 17))
def test_merged_networks_have_the_same_addresses(networks, host):
    merged = merge(networks)
    for bits, address in ((32, f"192.0.2.{host}"), (128, f"2001:db8::{host:x}")):
        number = int(ipaddress.ip_address(address))
        inside = [sum(it.bits == bits and it.first <= number <= it.last for it in many)
                  for many in (networks, merged)]  # fmt: skip
        assert inside[1] == bool(inside[0])
    for before, after in itertools.pairwise(merged):
        assert before.bits < after.bits or before.last + 1 < after.first


@settings(deadline=None)
@given(st.ip_addresses(), st.binary(max_size=40) | st.text() | st.integers())
def test_the_key_of_a_client(address, other):
    mapped = getattr(address, "ipv4_mapped", None)
    expected = (mapped or address).packed
    assert key_of(sockaddr(address)) == expected
    assert key_of((str(address), 53)) == expected
    assert len(key_of(other)) in (0, 4, 16)
