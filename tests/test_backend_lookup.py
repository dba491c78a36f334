"""Replies that are made of services: aliases, look-ups out of the zone, bounds.

The tables of CoreDNS's backends are cases of *etcd* and *k8s_external*.
"""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns.names import from_text, is_subdomain
from corepy.dns.rdata import plain_sections
from corepy.plugin import backend_chains
from corepy.plugin.backend_lookup import BackendLookup
from corepy.plugin.backend_records import (
    RRset,
    SRVTarget,
    grouped,
    joined,
    parse_host,
    record_parts,
    target_of,
    weigh,
)
from corepy.plugin.protocols import Service
from corepy.testing import make_request

ZONE = from_text("zone.test.")


class Backend:
    """Services by name, those of names below included."""

    def __init__(self, *services):
        self.services = [
            Service(from_text(name), host, ttl=more.pop("ttl", 300), **more)
            for name, host, more in services
        ]
        self.asked = []

    async def services_at(self, request, *, exact):
        self.asked.append(request.name)
        name = request.name_wire
        below = [it for it in self.services if is_subdomain(it.key, name)]
        if not below:
            return None
        return [it for it in below if it.key == name or not exact]

    async def services_of_address(self, request):
        return await self.services_at(request, exact=True)

    def backend_serial(self, zone):
        return 1


class Router:
    """Answers look-ups through the server from lines such as "a.example. A 1.2.3.4"."""

    def __init__(self, *lines, rcode=3, **rcodes):
        self.lines, self.rcode, self.rcodes, self.asked = lines, rcode, rcodes, []

    async def lookup(self, request):
        from dnslib import RR

        self.asked.append(f"{request.name} {request.type}")
        found = [line for line in self.lines if line.startswith(f"{request.name} {request.type} ")]
        if found:
            return request.reply(0, [rr for line in found for rr in RR.fromZone(line, ttl=60)])
        return request.error(self.rcodes.get(request.name.partition(".")[0], self.rcode))


def look_up(backend, name, qtype="A", router=None, **options):
    """The rcode and the three sections as text; None if the name does not exist."""
    request = make_request(name, qtype)
    request.context = replace(request.context, router=router)

    async def run():
        lookup = BackendLookup(backend, request, ZONE, **options)
        return lookup, await lookup.reply()

    lookup, reply = asyncio.run(run())
    if reply is None:
        return None
    record = reply.record
    parts = (record.rr, record.auth, record.ar)
    sections = ([" ".join(str(rr).split()) for rr in part] for part in parts)
    assert router is None or lookup.has_lookups == bool(router.asked)
    return (reply.rcode, *sections)


def service(name, host="", **more):
    return f"{name}.zone.test.", host, more


SOA = ["zone.test. 30 IN SOA ns.dns.zone.test. hostmaster.zone.test. 1 7200 1800 86400 30"]


def test_an_alias_out_of_the_zone_is_completed():
    router = Router("www.example. A 192.0.2.1")
    backend = Backend(service("a", "WWW.example"))
    assert look_up(backend, "a.zone.test.", router=router) == (
        0,
        ["a.zone.test. 300 IN CNAME WWW.example.", "www.example. 60 IN A 192.0.2.1"],
        [],
        [],
    )
    assert router.asked == ["www.example. A"]


@pytest.mark.parametrize(("rcode", "expected"), [(3, 3), (2, 2), (5, 0), (0, 0)])
def test_the_rcode_is_that_of_the_target(rcode, expected):
    """RFC 6604 section 3; a target that this server does not know is left to the client."""
    backend = Backend(service("a", "www.example"))
    found = look_up(backend, "a.zone.test.", router=Router(rcode=rcode))
    assert found[:2] == (expected, ["a.zone.test. 300 IN CNAME www.example."])


def test_without_a_server_the_alias_is_the_answer():
    backend = Backend(service("a", "www.example"))
    assert look_up(backend, "a.zone.test.")[1] == ["a.zone.test. 300 IN CNAME www.example."]


def test_a_name_with_several_services_has_no_alias():
    """RFC 1034 section 3.6.2: no CNAME record beside others; CoreDNS sends several of them."""
    backend = Backend(
        service("x.a", "192.0.2.1", ttl=100),
        service("y.a", "one.example"),
        service("z.a", "inner.zone.test"),
        service("inner", "192.0.2.3"),
    )
    router = Router("one.example. A 192.0.2.2", "one.example. A 192.0.2.1")
    found = look_up(backend, "a.zone.test.", router=router)
    assert sorted(found[1]) == [f"a.zone.test. 60 IN A 192.0.2.{n}" for n in (1, 2, 3)]
    assert router.asked == ["one.example. A"]


@pytest.mark.parametrize(("rcode", "expected"), [(2, 2), (5, 2), (3, 0)])
def test_several_targets_of_which_none_answers(rcode, expected):
    """A failure does not prove that the name has no addresses."""
    backend = Backend(service("x.a", "one.example"), service("y.a", "two.example"))
    found = look_up(backend, "a.zone.test.", router=Router(rcode=rcode, one=3))
    assert (found[0], found[1]) == (expected, [])
    assert found[2] == ([] if expected == 2 else SOA)


def test_services_with_the_same_target_are_one_alias():
    backend = Backend(service("x.a", "b.zone.test", ttl=9), service("y.a", "B.zone.test"))
    found = look_up(backend, "a.zone.test.", "CNAME")
    assert found[1] == ["a.zone.test. 9 IN CNAME b.zone.test."]


def test_a_target_below_the_name_is_no_alias():
    backend = Backend(service("x.a", "y.a.zone.test"), service("y.a", "192.0.2.1"))
    assert look_up(backend, "a.zone.test.")[1] == ["a.zone.test. 300 IN A 192.0.2.1"]
    backend = Backend(service("a", "a.zone.test"))
    assert look_up(backend, "a.zone.test.") == (0, [], SOA, [])


def test_an_alias_of_a_name_without_the_type():
    """RFC 2308 section 2.2: the denial is about the last name."""
    backend = Backend(service("a", "b.zone.test"), service("b", "192.0.2.1"))
    found = look_up(backend, "a.zone.test.", "AAAA")
    assert found == (0, ["a.zone.test. 300 IN CNAME b.zone.test."], SOA, [])


def test_long_chains_and_wide_fans_have_bounds():
    chain = [service(f"n{number}", f"n{number + 1}.zone.test") for number in range(30)]
    assert len(look_up(Backend(*chain), "n0.zone.test.")[1]) == backend_chains.LONGEST_CHAIN
    fan = [
        service(f"x{other}.n{number}", f"n{(number * 7 + other) % 40}.zone.test")
        for number in range(40)
        for other in range(9)
    ]
    backend = Backend(*fan)
    look_up(backend, "n0.zone.test.")
    assert len(backend.asked) <= backend_chains.MOST_INTERNAL
    router = Router()
    many = Backend(*(service(f"x{number}.a", f"h{number}.example") for number in range(40)))
    look_up(many, "a.zone.test.", router=router)
    assert len(router.asked) == backend_chains.MOST_OUTSIDE


def test_targets_of_srv_records_get_their_addresses():
    backend = Backend(
        service("x.s", "in.zone.test", port=1),
        service("y.s", "IN.zone.test", port=2, priority=5),
        service("z.s", "out.example", port=3, weight=25),
        service("v.s", "192.0.2.9", port=-1),
        service("in", "2001:db8::1"),
        service("bad.s", "a..b", port=5),
    )
    router = Router("out.example. A 192.0.2.1", "out.example. AAAA 2001:db8::2")
    found = look_up(backend, "s.zone.test.", "SRV", router)
    assert found[1] == [
        "s.zone.test. 300 IN SRV 0 80 1 in.zone.test.",
        "s.zone.test. 300 IN SRV 5 100 2 IN.zone.test.",
        "s.zone.test. 300 IN SRV 0 20 3 out.example.",
    ]
    assert sorted(found[3]) == [
        "in.zone.test. 300 IN AAAA 2001:db8::1",
        "out.example. 60 IN A 192.0.2.1",
        "out.example. 60 IN AAAA 2001:db8::2",
    ]


def test_any_gets_one_type():
    """RFC 8482 section 4.1."""
    backend = Backend(service("a", "192.0.2.1", text="t"), service("b", "x.example"))
    assert look_up(backend, "a.zone.test.", "ANY")[1] == ["a.zone.test. 300 IN A 192.0.2.1"]
    assert look_up(backend, "b.zone.test.", "ANY")[1] == ["b.zone.test. 300 IN CNAME x.example."]
    assert look_up(backend, "c.zone.test.", "ANY") is None


def test_any_gets_the_records_that_exist_if_other_look_ups_fail():
    """Neither the failure nor the denial is about the records of the reply."""
    services = service("x.a", "one.example", port=1), service("y.a", "two.example", port=2)
    for rcode in (2, 3):
        found = look_up(Backend(*services), "a.zone.test.", "ANY", Router(rcode=rcode))
        assert (found[0], len(found[1]), found[2]) == (0, 2, [])
        mute = Backend(
            service("x.a", "one.example", port=-1), service("y.a", "two.example", port=-1)
        )
        found = look_up(mute, "a.zone.test.", "ANY", Router(rcode=rcode))
        assert found == ((2, [], [], []) if rcode == 2 else (0, [], SOA, []))


def test_a_name_server_may_be_a_name():
    """CoreDNS answers SERVFAIL."""
    backend = Backend(service("a.ns.dns", "ns.example"), service("b.ns.dns", "192.0.2.1"))
    router = Router("ns.example. A 192.0.2.7")
    found = look_up(backend, "zone.test.", "NS", router)
    assert found[1] == [
        "zone.test. 300 IN NS ns.example.",
        "zone.test. 300 IN NS b.ns.dns.zone.test.",
    ]
    assert sorted(found[3]) == [
        "b.ns.dns.zone.test. 300 IN A 192.0.2.1",
        "ns.example. 60 IN A 192.0.2.7",
    ]


def test_a_zone_may_have_another_soa_record():
    from corepy.dns.records import rr

    record = rr(ZONE, 6, 9, b"\0\0" + bytes(20))
    found = look_up(Backend(service("a", "192.0.2.1")), "a.zone.test.", "MX", soa=record)
    assert found == (0, [], ["zone.test. 9 IN SOA . . 0 0 0 0 0"], [])


def test_more_records_than_a_message_holds():
    """The first ones, with TC; additional records are left out without it (RFC 2181 section 9)."""
    long = ".".join(["x" * 60] * 3)
    many = Backend(*(service(f"n{n:03}.{long}", f"10.0.{n >> 8}.{n & 255}") for n in range(600)))
    request = make_request("zone.test.", "SRV", protocol="tcp")
    reply = asyncio.run(BackendLookup(many, request, ZONE).reply())
    assert reply.tc
    assert 60_000 < len(reply.wire) <= 65_535
    assert 300 < reply.ancount < 600
    request = make_request(f"n000.{long}.zone.test.", "SRV", protocol="tcp")
    assert not asyncio.run(BackendLookup(many, request, ZONE).reply()).tc
    texts = Backend(*(service(f"t{n}", text=f"{n}" + "y" * 30_000) for n in range(9)))
    request = make_request("zone.test.", "TXT", protocol="tcp")
    reply = asyncio.run(BackendLookup(texts, request, ZONE).reply())
    assert (reply.tc, reply.ancount) == (True, 2)


HOSTS = ["192.0.2.1", "::1", "a.zone.test", "B.zone.test", "c.d.zone.test", "x.example", "a..b", ""]
NAMES = ["zone.test.", "a.zone.test.", "b.zone.test.", "d.zone.test.", "c.d.zone.test."]
SERVICES = st.builds(
    Service,
    key=st.sampled_from([from_text(name) for name in NAMES]),
    host=st.sampled_from(HOSTS),
    port=st.sampled_from([-1, 0, 80]),
    priority=st.integers(0, 3),
    weight=st.sampled_from([0, 1, 65535]),
    text=st.sampled_from(["", "t", "\udcff" * 300]),
    is_mail=st.booleans(),
    ttl=st.integers(0, 3),
    group=st.sampled_from(["", "g", "h"]),
    stripped_labels=st.integers(0, 4),
)
QTYPES = ["A", "AAAA", "TXT", "CNAME", "PTR", "MX", "SRV", "NS", "SOA", "ANY", "HINFO"]


@settings(max_examples=60, deadline=None, database=None)
@given(st.lists(SERVICES, max_size=8), st.sampled_from(NAMES), st.sampled_from(QTYPES))
def test_any_services_make_a_valid_reply(services, name, qtype):
    backend = Backend()
    backend.services = services
    request = make_request(name, qtype)
    request.context = replace(request.context, router=Router("x.example. A 192.0.2.9"))
    lookup = BackendLookup(backend, request, ZONE)
    reply = asyncio.run(lookup.reply()) or lookup.denial()
    answer, authority, additional = plain_sections(reply.wire)
    assert len(backend.asked) <= backend_chains.MOST_INTERNAL
    for section in (answer, authority, additional):
        assert len(set(section)) == len(section)
    aliases = [it.owner.lower() for it in map(record_parts, answer) if it.rtype == 5]
    others = {it.owner.lower() for it in map(record_parts, answer) if it.rtype != 5}
    assert len({*aliases}) == len(aliases)
    assert not others & {*aliases}


# -- the parts


@pytest.mark.parametrize(
    ("text", "rtype", "rdata"),
    [
        ("192.0.2.1", 1, b"\xc0\0\2\1"),
        ("2001:db8::1", 28, b"\x20\1\r\xb8" + bytes(11) + b"\1"),
        ("::ffff:192.0.2.1", 1, b"\xc0\0\2\1"),
        ("www.Example", 5, b"\3www\7Example\0"),
        ("192.0.2.256", 5, from_text("192.0.2.256")),
        ("", 0, b""),
        ("a..b", 0, b""),
        ("a" * 64, 0, b""),
        ("\0", 5, b"\1\0\0"),
        ("\udcff", 5, b"\1\xff\0"),
    ],
)
def test_hosts(text, rtype, rdata):
    assert parse_host(text) == (rtype, rdata)


@pytest.mark.parametrize(
    ("groups", "kept"),
    [
        ({"a.n": "g1", "b.n": "g1", "c.x.n": "g2"}, ["a.n", "b.n"]),
        ({"a.n": "g1", "b.n": "g2"}, ["a.n", "b.n"]),
        ({"a.n": "g1", "b.n": "", "c.x.n": "g2", "d.x.n": ""}, ["a.n", "b.n", "d.x.n"]),
        ({"a.n": "", "c.x.n": "g2"}, ["a.n", "c.x.n"]),
        ({}, []),
    ],
)
def test_groups(groups, kept):
    services = [Service(from_text(name), group=group) for name, group in groups.items()]
    assert [it.key for it in grouped(services)] == [from_text(name) for name in kept]


@pytest.mark.parametrize(
    ("stripped", "target"),
    [(0, "a.b.c."), (1, "b.c."), (2, "c."), (3, "a.b.c."), (9, "a.b.c.")],
)
def test_stripped_labels(stripped, target):
    made = Service(from_text("a.b.c."), "192.0.2.1", stripped_labels=stripped)
    assert target_of(made, parse_host(made.host)) == from_text(target)
    named = replace(made, host="h.example.org")
    assert target_of(named, parse_host(named.host)) == from_text("h.example.org.")


def test_weights():
    one, two, other = (
        SRVTarget(p, 80, b"\1" + n + b"\0") for p, n in ((1, b"a"), (1, b"b"), (2, b"a"))
    )
    assert weigh([]) == {}
    assert weigh([(one, 0), (two, 0), (other, 0)]) == {one: 50, two: 50, other: 100}
    assert weigh([(one, 0), (one, 0), (two, 0)]) == {one: 66, two: 33}
    assert weigh([(one, 1), (two, 65535)]) == {one: 1, two: 99}


def test_sets():
    found = RRset(b"\0", 1)
    assert not found
    for rdata, ttl in ((b"\1", 9), (b"\2", 5), (b"\1", 7)):
        found.add(rdata, ttl)
    assert [record_parts(record) for record in found] == [
        (b"\0", 1, 5, b"\1"),
        (b"\0", 1, 5, b"\2"),
    ]


def test_a_name_that_is_too_long_is_not_joined():
    name = (b"\x3f" + b"a" * 63) * 3 + b"\x32" + b"a" * 50 + b"\0"
    assert joined(b"\1x\0", b"\1y\0") == b"\1x\1y\0"
    assert joined(b"\x10" + b"x" * 16 + b"\0", name) == name
