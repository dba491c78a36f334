"""*search_guard* above servers that obey RFC 8020, and above one that does not: no name is lost."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.dns.records import rr
from corepy.testing import Recorder, link, make_request
from corepy_search_guard.covered import Covered
from corepy_search_guard.domains import Domain, SearchDomains
from corepy_search_guard.handler import SearchGuard
from corepy_search_guard.samples import AT_ONCE, INTERVAL, VALID_FOR, Samples

CLUSTER = "cluster.local."
PLAIN = "corp.example."
TTL = 30
TOP_LEVEL = ("com", "dev", "app", "org")
TIMES = b"".join(it.to_bytes(4, "big") for it in (1, 7200, 1800, 86400, TTL))


def soa(zone):
    return rr(from_text(zone), c.TYPE_SOA, TTL, from_text(f"ns.{zone}") * 2 + TIMES)


class Zones:
    """A server with names, and the guard above it; the clock is that of the test."""

    def __init__(self, names=(), samples=AT_ONCE, *, is_obedient=True):
        self.now = 1000.0
        self.created = dict.fromkeys(["kubernetes.default.svc.cluster.local.", *names], 0.0)
        self.is_obedient = is_obedient
        domains = SearchDomains([Domain(from_text(CLUSTER), True), Domain(from_text(PLAIN))])
        labels = [from_text(label)[:-1] for label in TOP_LEVEL]
        self.guard = SearchGuard(domains, labels, 60, lambda: self.now, samples)
        self.below = Recorder(self.answer)
        self.top = link([self.guard, self.below])

    def has_names_below(self, name):
        return any(it.endswith(f".{name}") for it in self.created)

    def answer(self, request):
        name = request.name
        if name in self.created and request.qtype == c.TYPE_A:
            return request.reply(answer=[rr(request.name_wire, c.TYPE_A, TTL, b"\xc0\0\2\1")])
        exists = name in self.created or (self.is_obedient and self.has_names_below(name))
        zone = CLUSTER if name.endswith(CLUSTER) else PLAIN
        return request.reply(c.NOERROR if exists else c.NXDOMAIN, authority=[soa(zone)])

    async def ask(self, name, qtype="A"):
        request = make_request(name, qtype, rd=1)
        request.received = self.now
        reply = await self.top.serve_dns(request)
        await self.guard.prover.settle()
        return reply.rcode

    async def is_denied(self, name):
        """Whether the guard denies a name; it does not ask for its own purposes then."""
        before = len(self.below.requests)
        return await self.ask(name) == c.NXDOMAIN and len(self.below.requests) == before


SERVICES = {  # names of a cluster, as CoreDNS's kubernetes has them, with last labels of the internet
    "web.shop.svc.cluster.local.": ["A"],
    "_http._tcp.web.shop.svc.cluster.local.": ["SRV"],
    "app-0.app.shop.svc.cluster.local.": ["A", "AAAA"],  # a pod of a StatefulSet
    "app-1.app.shop.svc.cluster.local.": ["A"],
    "_peer._tcp.app.shop.svc.cluster.local.": ["SRV"],
    "10-0-0-9.dev.shop.svc.cluster.local.": ["A"],  # an endpoint of a headless service `dev`
    "example.com.svc.cluster.local.": ["A", "AAAA"],  # a namespace `com`
    "pod-0.example.com.svc.cluster.local.": ["A"],
    "dev.dev.svc.cluster.local.": ["A"],
    "10-0-0-9.shop.pod.cluster.local.": ["A"],
    "dns-version.cluster.local.": ["TXT"],
    "web.eu.corp.example.": ["A"],
    "api.dev.corp.example.": ["A", "AAAA"],
    "v1.api.app.corp.example.": ["A"],
    "9.0.0.10.in-addr.arpa.": ["PTR"],
    "www.example.com.": ["A", "AAAA"],
    "example.com.cluster.local.example.org.": ["A"],
}
SEARCHED = (
    *("default.svc.cluster.local.", "shop.svc.cluster.local.", "com.svc.cluster.local."),
    *("dev.svc.cluster.local.", "svc.cluster.local.", CLUSTER, PLAIN),
)


@pytest.mark.parametrize("samples", [0, AT_ONCE])
def test_no_name_of_a_cluster_is_denied(samples):
    async def test():
        zones = Zones(SERVICES, samples)
        for domain in SEARCHED:
            for label in TOP_LEVEL:
                for number in range(4):
                    await zones.ask(f"www.site{number}.{label}.{domain}")
        proven = [name for name in SEARCHED if await zones.is_denied(f"www.site3.org.{name}")]
        assert proven == list(SEARCHED)
        for name, qtypes in SERVICES.items():
            for qtype in qtypes:
                assert await zones.ask(name, qtype) == c.NOERROR, (name, qtype)

    asyncio.run(test())


LABELS = st.sampled_from(["com", "dev", "app", "shop", "default", "www", "a"])
NAMES = st.builds(
    lambda labels, domain: ".".join([*labels, domain]),
    st.lists(LABELS, min_size=1, max_size=3),
    st.sampled_from(SEARCHED),
)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "ask AAAA", "create", "remove"]), NAMES)
    | st.tuples(st.just("wait"), st.floats(0, 20)),
    min_size=10,
    max_size=40,
)


@settings(deadline=None, max_examples=30)
@given(events=EVENTS, samples=st.sampled_from([0, AT_ONCE]))
def test_a_name_is_denied_no_longer_than_the_negative_ttl_after_its_creation(events, samples):
    async def test():
        zones = Zones((), samples)
        for event, value in events:
            if event == "create":
                zones.created.setdefault(value, zones.now)
            elif event == "remove":
                zones.created.pop(value, None)
            elif event == "wait":
                zones.now += value
            elif await zones.ask(value, event[4:] or "A") == c.NXDOMAIN:
                below = [it for it in zones.created if it == value or it.endswith(f".{value}")]
                assert all(zones.now - zones.created[it] < TTL for it in below)

    asyncio.run(test())


def test_a_name_of_a_server_that_violates_rfc_8020_is_found_by_a_sample():
    """go.dev is looked up often, and api.dev.corp.example, which exists, seldom."""

    async def test():
        zones = Zones(["api.dev.corp.example."], is_obedient=False)
        for _ in range(20):
            await zones.ask("go.dev.corp.example.")
        assert await zones.is_denied("go.dev.corp.example.")
        assert await zones.ask("api.dev.corp.example.") == c.NOERROR
        assert not await zones.is_denied("go.dev.corp.example.")

    asyncio.run(test())


def test_many_names_below_a_proof_are_denied_but_for_a_few_samples():
    async def test():
        zones = Zones()
        await zones.ask("www.example.com.corp.example.")
        before = len(zones.below.requests)
        for number in range(1000):
            await zones.ask(f"www.site{number}.com.corp.example.")
        assert len(zones.below.requests) == before + AT_ONCE

    asyncio.run(test())


def test_samples():
    samples, covered = Samples(), Covered()
    first, second, third = (from_text(f"{it}.com.corp.example.") for it in "abc")

    def take(name, now):
        return samples.take(name, covered, now)

    assert [take(first, 1000), take(first, 1000), take(second, 1000)] == [True, True, True]
    assert [take(third, 1000), take(third, 1000 + INTERVAL - 1)] == [False, False]
    samples.note_denial(first, 1001)
    samples.note_denial(third, 1001)
    assert [take(first, 1001), take(second, 1001)] == [False, True]
    assert [take(third, 1000 + INTERVAL), take(first, 1000 + INTERVAL)] == [True, False]
    later = 1001 + VALID_FOR
    assert [take(first, later - 1), take(first, later)] == [False, True]
    samples.forget()
    assert [take(second, later), take(third, later)] == [True, False]


def test_the_memory_of_samples_is_bounded():
    samples = Samples()
    for number in range(5000):
        assert samples.take(b"\x04%04d\0" % number, Covered(), 1000.0)
    assert len(samples._denied) <= 4096


class Own:
    """A handler with names of its own below `name`."""

    def __init__(self, name, error=None):
        self.name = from_text(name)
        self.error = error
        self.calls = 0

    async def has_names_below(self, name):
        self.calls += 1
        if self.error:
            raise self.error
        return name == self.name


@pytest.mark.parametrize("error", [None, OSError("x")])
def test_names_of_other_handlers_prevent_proofs(error):
    async def test():
        zones = Zones((), 0)
        own = Own("com.corp.example.", error)
        zones.guard.prover.own_names = [Own("org.corp.example."), own]
        for _ in range(3):
            await zones.ask("www.example.com.corp.example.")
            assert not await zones.is_denied("mail.com.corp.example.")
            zones.now += 31
        assert own.calls == (3 if error else 1)
        own.name, own.error = from_text("net.corp.example."), None
        zones.guard.names_changed()
        zones.now += 1
        await zones.ask("www.example.com.corp.example.")
        assert await zones.is_denied("mail.com.corp.example.")

    asyncio.run(test())


def test_names_of_other_handlers_are_no_evidence_against_the_server():
    async def test():
        zones = Zones(["api.dev.corp.example.", "web.app.corp.example."], 0, is_obedient=False)
        zones.guard.prover.own_names = [Own("dev.corp.example.")]
        for name in zones.created:
            await zones.ask(name)
        asked = [it.name for it in zones.below.requests]
        assert asked == [*zones.created, "app.corp.example."]

    asyncio.run(test())


def test_an_answer_that_a_change_has_made_invalid_is_not_remembered():
    async def test():
        zones = Zones((), 0)

        class Changing(Own):
            async def has_names_below(self, name):
                if not self.calls:
                    zones.guard.names_changed()  # by then it has answered for the old names
                return (await super().has_names_below(name)) and self.calls > 1

        zones.guard.prover.own_names = [Changing("com.corp.example.")]
        await zones.ask("www.example.com.corp.example.")
        zones.now += 2
        await zones.ask("www.example.com.corp.example.")
        assert not await zones.is_denied("mail.com.corp.example.")

    asyncio.run(test())
