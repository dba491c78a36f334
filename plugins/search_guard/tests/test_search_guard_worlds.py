"""*search_guard* in a table of worlds: the answers of servers, and what it then denies."""

import asyncio
import logging

import dnslib
import pytest

from corepy.dns import constants as c
from corepy.dns.edns import EDE_STALE_NXDOMAIN_ANSWER, ede
from corepy.dns.names import from_text, lower
from corepy.dns.records import rr
from corepy.plugin import PREFERS_FRESH
from corepy.testing import Recorder, link, make_request
from corepy_search_guard.covered import CoveredNames
from corepy_search_guard.domains import Domain, SearchDomains
from corepy_search_guard.handler import SearchGuard
from corepy_search_guard.metrics import CONTRADICTIONS, DENIALS, PROBES, VIOLATIONS
from corepy_search_guard.prover import (
    EXISTS_FOR,
    MOST_PER_SECOND,
    RETRY_AFTER,
    RETRY_SOON,
    SETTLE,
)
from corepy_search_guard.trust import VERDICT_FOR

CLUSTER = "cluster.local."
PLAIN = "corp.example."
SEEN = "www.example.com.default.svc.cluster.local."
OTHER = "mail.example.org.www.com.default.svc.cluster.local."
COVERING = "com.default.svc.cluster.local."
NAMESPACE = "default.svc.cluster.local."
ADDRESS = b"\xc0\0\2\1"


def name(text):
    return lower(from_text(text))


def soa(owner, ttl=30, minimum=30):
    times = b"".join(it.to_bytes(4, "big") for it in (1, 7200, 1800, 86400, minimum))
    zone = owner.removeprefix(".")
    rdata = name(f"ns.dns.{zone}") + name(f"hostmaster.{zone}") + times
    return rr(name(owner), c.TYPE_SOA, ttl, rdata)


def zone_of(asked):
    return next((zone for zone in (CLUSTER, PLAIN) if asked.endswith(zone)), ".")


def marked(reply, **attributes):
    for attribute, value in attributes.items():
        setattr(reply, attribute, value)
    return reply


def absent(request, owner=None, ttl=30, minimum=30, rcode=c.NXDOMAIN):
    return request.reply(rcode, authority=[soa(owner or zone_of(request.name), ttl, minimum)])


def alias(request):
    record = rr(request.name_wire, c.TYPE_CNAME, 30, name("gone.example.net."))
    return request.reply(c.NXDOMAIN, answer=[record], authority=[soa("example.net.")])


def truncated(request):
    reply = absent(request)
    return marked(reply, wire=reply.wire[:2] + bytes((reply.wire[2] | 2,)) + reply.wire[3:])


ANSWERS = {
    "address": lambda it: it.reply(answer=[rr(it.name_wire, c.TYPE_A, 30, ADDRESS)]),
    "NODATA": lambda it: absent(it, rcode=c.NOERROR),
    "empty": lambda it: it.error(c.NOERROR),
    "NXDOMAIN": absent,
    "SERVFAIL": lambda it: it.error(c.SERVFAIL),
    "REFUSED": lambda it: it.error(c.REFUSED),
    "alias": alias,
    "without SOA": lambda it: it.error(c.NXDOMAIN),
    "TTL 0": lambda it: absent(it, ttl=0),
    "MINIMUM 0": lambda it: absent(it, minimum=0),
    "SOA of the root": lambda it: absent(it, "."),
    "SOA of another zone": lambda it: absent(it, "example.net."),
    "SOA below": lambda it: absent(it, f"x.{it.name}"),
    "stale": lambda it: marked(absent(it), options=ede(EDE_STALE_NXDOMAIN_ANSWER)),
    "truncated": truncated,
    "momentary": lambda it: marked(absent(it), is_momentary=True),
    "dropped": lambda it: it.drop(),
}


class World:
    """The guard above a server that has `names`; all others do not exist."""

    def __init__(
        self, names=(), external=("com", "org"), domains=None, max_ttl=60, samples=0, own_names=()
    ):
        self.names = {NAMESPACE: "NODATA", **dict(names)}
        self.now = 1000.0
        self.below = Recorder(lambda it: ANSWERS[self.names.get(it.name, "NXDOMAIN")](it))
        domains = domains or (Domain(name(CLUSTER), True), Domain(name(PLAIN)))
        self.guard = SearchGuard(
            SearchDomains(domains, [name("kept.corp.example.")]),
            [from_text(label)[:-1] for label in external],
            max_ttl,
            lambda: self.now,
            samples,
        )
        self.guard.prover.own_names = own_names
        self.forgotten = 0
        self.guard.prover.forget = self.forget
        self.top = link([self.guard, self.below])

    def forget(self):
        self.forgotten += 1

    async def ask(self, asked, qtype="A", **flags):
        request = make_request(asked, qtype, **{"rd": 1, **flags})
        request.received = self.now
        reply = await self.top.serve_dns(request)
        await self.guard.prover.settle()
        return reply

    async def is_denied(self, asked, qtype="A", **flags):
        """Whether the guard answers, and the server is not asked for the name itself."""
        before = len(self.below.requests)
        reply = await self.ask(asked, qtype, **flags)
        asked = [it.name for it in self.below.requests[before:]]
        assert reply.rcode == c.NXDOMAIN or asked
        return not asked

    def asked(self):
        return [it.name for it in self.below.requests]


async def prove(world):
    """Let a name be denied by the server, so that the guard asks for a proof."""
    await world.ask(SEEN)
    return await world.is_denied(OTHER)


def run(test):
    asyncio.run(test)


def test_names_below_a_denied_name_are_denied():
    async def test():
        world = World()
        assert await prove(world)
        assert world.asked() == [SEEN, NAMESPACE, COVERING]
        assert await world.is_denied(OTHER, "AAAA")
        assert await world.is_denied(SEEN)

    run(test())


def test_a_cache_below_is_not_to_answer_with_an_expired_reply():
    async def test():
        world = World()
        assert await prove(world)
        fresh = [it.name for it in world.below.requests if PREFERS_FRESH in it.metadata]
        assert fresh == [NAMESPACE, COVERING]

    run(test())


def test_a_denial_is_a_whole_reply():
    async def test():
        world = World()
        await prove(world)
        world.now += 7.5
        reply = await world.ask("Mail.Example.COM.default.SVC.cluster.local.", "AAAA")
        message = dnslib.DNSRecord.parse(reply.wire)
        header = message.header
        assert (header.rcode, header.aa, header.rd, header.ra, header.ad, header.tc) == (
            3,
            1,
            1,
            0,
            0,
            0,
        )
        assert str(message.q.qname) == "Mail.Example.COM.default.SVC.cluster.local."
        assert (message.rr, message.ar) == ([], [])
        assert [str(it) for it in message.auth] == [
            "cluster.local.          23      IN      SOA     ns.dns.cluster.local."
            " hostmaster.cluster.local. 1 7200 1800 86400 30"
        ]

    run(test())


def test_the_longest_name_is_denied():
    async def test():
        world = World()
        await prove(world)
        rest = f".{COVERING}"
        label, room = "a" * 63, 254 - len(rest)
        longest = ".".join([label] * (room // 64) + ["b" * (room % 64)]) + rest
        assert len(from_text(longest)) == 255
        reply = await world.ask(longest)
        assert reply.rcode == c.NXDOMAIN
        assert str(dnslib.DNSRecord.parse(reply.wire).auth[0].rname) == CLUSTER
        assert longest not in world.asked()

    run(test())


@pytest.mark.parametrize("covering", sorted(set(ANSWERS) - {"NXDOMAIN"}))
def test_another_answer_for_the_covering_name_is_no_proof(covering):
    async def test():
        world = World({COVERING: covering})
        assert not await prove(world)
        assert COVERING in world.asked()

    run(test())


@pytest.mark.parametrize(
    ("covering", "result"),
    [
        ("NXDOMAIN", "absent"),
        ("NODATA", "exists"),
        ("alias", "exists"),
        ("SERVFAIL", "failed"),
        ("without SOA", "failed"),
    ],
)
def test_queries_for_proofs_are_counted(covering, result):
    async def test():
        values = {it: PROBES.labels(CLUSTER, it) for it in ("absent", "exists", "failed")}
        before = {it: value.value for it, value in values.items()}
        await prove(World({COVERING: covering}))
        counted = {it: value.value - before[it] for it, value in values.items()}
        assert counted == {**dict.fromkeys(values, 0), result: 1}

    run(test())


@pytest.mark.parametrize("seen", sorted(set(ANSWERS) - {"NXDOMAIN"}))
def test_without_the_denial_of_a_name_no_proof_is_asked_for(seen):
    proofs = {
        "without SOA",
        "TTL 0",
        "MINIMUM 0",
        "SOA of the root",
        "SOA of another zone",
        "SOA below",
    }

    async def test():
        world = World({SEEN: seen})
        await world.ask(SEEN)
        existing = ("address", "NODATA", "empty", "alias")  # then COVERING must exist, too
        assert (COVERING in world.asked()) is (seen in (*proofs, *existing))
        denied = await world.is_denied(OTHER)
        assert denied is (seen in proofs)

    run(test())


def test_the_root_may_deny_a_plain_domain():
    """corp.example itself is not delegated."""

    async def test():
        world = World({"com.corp.example.": "SOA of the root"})
        await world.ask("www.example.com.corp.example.")
        assert await world.is_denied("mail.com.corp.example.")

    run(test())


@pytest.mark.parametrize(
    ("qtype", "flags"),
    [
        ("MX", {}),
        ("SRV", {}),
        ("HTTPS", {}),
        ("ANY", {}),
        ("A", {"do": True}),
        ("AAAA", {"cd": 1}),
        ("A", {"rd": 0}),
        ("A", {"opcode": 4}),
    ],
)
def test_other_queries_are_passed_on(qtype, flags):
    async def test():
        world = World()
        await prove(world)
        assert not await world.is_denied(OTHER, qtype, **flags)
        world = World()
        await world.ask(SEEN, qtype, **flags)
        assert world.asked() == [SEEN]  # nor is it a reason for a proof

    run(test())


@pytest.mark.parametrize("edns", [0, 512, 4096])
def test_queries_with_edns_are_denied(edns):
    async def test():
        world = World()
        await prove(world)
        assert await world.is_denied(OTHER, edns=edns)

    run(test())


@pytest.mark.parametrize(
    "asked",
    [
        "www.example.com.",
        "com.",
        "cluster.local.",
        "svc.cluster.local.",
        "com.default.svc.cluster.local.",
        "_http._tcp.com.default.svc.cluster.local.",
        "10-0-0-1.com.pod.cluster.local.",
        "x.com.default.svc.cluster.local.example.org.",
        "www.com.kept.corp.example.",
        "xcluster.local.",
    ],
)
def test_other_names_are_passed_on(asked):
    async def test():
        world = World()
        assert await prove(world)
        assert not await world.is_denied(asked)

    run(test())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("redis.payments.default.svc.cluster.local.", "x.payments.default.svc.cluster.local."),
        ("redis.payments.svc.cluster.local.", "x.payments.svc.cluster.local."),
        ("web.eu.corp.example.", "x.eu.corp.example."),
    ],
)
def test_names_that_do_not_end_in_a_top_level_domain_are_passed_on(first, second):
    async def test():
        world = World()
        await world.ask(first)
        assert not await world.is_denied(second)

    run(test())


@pytest.mark.parametrize(
    ("ttl", "minimum", "max_ttl", "seconds"),
    [
        (30, 30, 60, 30),
        (7, 300, 60, 7),
        (300, 5, 60, 5),
        (86400, 86400, 60, 60),
        (9000, 9000, 600, 600),
    ],
)
def test_a_proof_ends_with_the_negative_ttl(ttl, minimum, max_ttl, seconds, monkeypatch):
    monkeypatch.setitem(ANSWERS, "NXDOMAIN", lambda it: absent(it, ttl=ttl, minimum=minimum))

    async def test():
        world = World(max_ttl=max_ttl)
        assert await prove(world)
        world.now += seconds - 0.1
        assert await world.is_denied(OTHER)
        world.now += 0.2
        assert not await world.is_denied(OTHER)  # and is the reason for the next proof
        assert await world.is_denied(SEEN)

    run(test())


def test_a_name_that_appears_is_answered_when_the_proof_ends():
    async def test():
        world = World()
        assert await prove(world)
        world.names |= {OTHER: "address", COVERING: "NODATA"}
        assert await world.is_denied(OTHER)  # as a cached NXDOMAIN for the name itself
        world.now += 31
        assert (await world.ask(OTHER)).ancount == 1
        del world.names[OTHER], world.names[COVERING]
        assert not await prove(world)
        world.now += EXISTS_FOR + 1
        assert await prove(world)

    run(test())


def test_a_name_that_exists_below_a_denied_one_ends_the_proof():
    async def test():
        world = World()
        assert await prove(world)
        before = CONTRADICTIONS.labels(CLUSTER).value
        world.names[SEEN] = "address"
        assert (await world.ask(SEEN, "MX")).ancount == 1  # not a type that is denied
        assert CONTRADICTIONS.labels(CLUSTER).value == before + 1
        assert world.forgotten == 1
        assert (await world.ask(SEEN)).ancount == 1
        assert not await world.is_denied(OTHER)

    run(test())


def test_a_cluster_that_denies_its_namespaces_is_not_believed(caplog):
    async def test():
        world = World({NAMESPACE: "NXDOMAIN", "redis.com.svc.cluster.local.": "address"})
        before = VIOLATIONS.labels(CLUSTER).value
        for _ in range(3):
            await world.ask("x.com.svc.cluster.local.")
            assert not await world.is_denied("y.com.svc.cluster.local.")
            world.now += VERDICT_FOR
        assert (await world.ask("redis.com.svc.cluster.local.")).ancount == 1
        assert VIOLATIONS.labels(CLUSTER).value == before + 3

    with caplog.at_level(logging.WARNING):
        run(test())
    assert caplog.messages == [
        "the server of cluster.local. answers NXDOMAIN for default.svc.cluster.local., which has"
        " names below it (RFC 8020): search_guard denies no names in this domain until it answers"
        " NODATA"
    ]


@pytest.mark.parametrize("namespace", ["SERVFAIL", "REFUSED", "dropped"])
def test_a_cluster_that_does_not_answer_is_not_believed(namespace):
    async def test():
        world = World({NAMESPACE: namespace})
        assert not await prove(world)
        world.names[NAMESPACE] = "NODATA"
        world.now += RETRY_SOON + 0.1
        assert await prove(world)

    run(test())


@pytest.mark.parametrize(
    ("covering", "seconds"),
    [
        ("SERVFAIL", RETRY_SOON),
        ("dropped", RETRY_SOON),
        ("stale", RETRY_SOON),
        ("without SOA", RETRY_AFTER),
        ("NODATA", RETRY_AFTER),
    ],
)
def test_the_next_attempt(covering, seconds):
    async def test():
        world = World({COVERING: covering})
        assert not await prove(world)
        del world.names[COVERING]
        world.now += seconds - 0.1
        assert not await prove(world)
        world.now += 0.2
        assert await prove(world)

    run(test())


WEB = "web.org.corp.example."
"""A name that exists although the server denies org.corp.example (RFC 8020 is violated)."""

MAIL = "mail.com.corp.example."


async def prove_plain(world):
    await world.ask("www.example.com.corp.example.")
    return await world.is_denied(MAIL)


def test_a_plain_domain_that_denies_empty_non_terminals_is_not_believed(caplog):
    async def test():
        world = World({WEB: "address"})
        before = VIOLATIONS.labels(PLAIN).value
        assert await prove_plain(world)
        await world.ask(WEB)
        assert not await world.is_denied("x.org.corp.example.")
        assert await prove_plain(world)  # WEB may be new
        world.now += 31
        for _ in range(3):  # WEB is asked for in the background
            assert not await prove_plain(world)
            world.now += VERDICT_FOR
        assert VIOLATIONS.labels(PLAIN).value == before + 3
        del world.names[WEB]
        assert await prove_plain(world)

    with caplog.at_level(logging.WARNING):
        run(test())
    assert caplog.messages == [
        "the server of corp.example. answers NXDOMAIN for org.corp.example., which has names below"
        " it (RFC 8020): search_guard denies no names in this domain until it answers NODATA"
    ]


def test_a_violation_ends_the_proofs_of_the_domain():
    async def test():
        world = World({WEB: "address"}, ("com", "net"))
        await world.ask(WEB)
        world.now += 29
        assert await prove_plain(world)
        world.now += 2
        await world.ask("x.net.corp.example.")  # the attempt that reviews the evidence
        assert not await prove_plain(world)
        assert world.forgotten == 1

    run(test())


@pytest.mark.parametrize("change", ["created", "removed", "SERVFAIL", "parent SERVFAIL"])
def test_a_new_name_below_a_cached_denial_is_no_violation(change, caplog):
    """A server may still have the denial of the parent in a cache."""
    parent = "org.corp.example."

    async def test():
        world = World({WEB: "address"})
        await world.ask(WEB)
        assert parent in world.asked()
        changes = {
            "created": {parent: "NODATA"},
            "removed": {WEB: "NXDOMAIN"},
            "SERVFAIL": {WEB: "SERVFAIL"},
            "parent SERVFAIL": {parent: "SERVFAIL"},
        }
        world.names |= changes[change]
        world.now += 31
        assert await prove_plain(world)

    with caplog.at_level(logging.WARNING):
        run(test())
    assert caplog.messages == []


def test_a_namespace_named_as_a_top_level_domain_changes_nothing_for_others():
    async def test():
        world = World(
            {"com.svc.cluster.local.": "NODATA", "example.com.svc.cluster.local.": "address"}
        )
        await world.ask("www.example.com.svc.cluster.local.")
        assert not await world.is_denied("mail.other.com.svc.cluster.local.")
        assert (await world.ask("example.com.svc.cluster.local.")).ancount == 1
        assert await prove(world)  # in the namespace default
        assert not await world.is_denied("example.com.")

    run(test())


def test_names_in_a_namespace_named_as_a_top_level_domain_are_denied():
    async def test():
        world = World({"com.svc.cluster.local.": "NODATA"})
        await world.ask("www.example.org.com.svc.cluster.local.")
        assert await world.is_denied("mail.org.com.svc.cluster.local.")
        assert not await world.is_denied("mail.com.svc.cluster.local.")

    run(test())


@pytest.mark.parametrize("listed", [(), (b"\4prod",)])
def test_a_proof_takes_one_query_whether_or_not_the_namespaces_are_listed(listed):
    async def test():
        domain = Domain(name(CLUSTER), True, frozenset(listed))
        world = World({"prod.svc.cluster.local.": "NODATA"}, ("com",), [domain])
        await world.ask("www.example.com.prod.svc.cluster.local.")
        assert await world.is_denied("mail.com.prod.svc.cluster.local.")
        assert world.asked()[1:] == [NAMESPACE, "com.prod.svc.cluster.local."]
        await world.ask("www.example.com.test.svc.cluster.local.")
        assert await world.is_denied("mail.com.test.svc.cluster.local.") is (not listed)

    run(test())


@pytest.mark.parametrize("qtype", ["AAAA", "HTTPS", "SVCB"])
def test_a_filter_that_answers_nodata_is_no_evidence(qtype):
    """A template, or a plugin for clusters without IPv6, also answers so for absent names."""

    async def test():
        world = World({SEEN: "NODATA"})
        await world.ask(SEEN, qtype)
        assert world.asked() == [SEEN]
        await world.ask("www.com.default.svc.cluster.local.")
        assert await world.is_denied(SEEN, "AAAA")

    run(test())


@pytest.mark.parametrize(
    "change", [lambda it: it.names_changed(), lambda it: it.command("cache/purge")]
)
def test_a_change_of_data_below_removes_all_proofs(change):
    async def test():
        world = World()
        assert await prove(world)
        change(world.guard)
        assert not await world.is_denied(OTHER)
        before = world.asked()
        assert not await world.is_denied(SEEN)  # the caches below may still have old replies
        assert world.asked() == [*before, SEEN]
        world.now += SETTLE
        assert await prove(world)

    run(test())


def test_another_command_removes_nothing():
    async def test():
        world = World()
        assert await prove(world)
        world.guard.command("other")
        assert world.forgotten == 0
        assert await world.is_denied(OTHER)

    run(test())


def test_a_change_during_a_query_for_a_proof_discards_it():
    async def test():
        world = World()
        changes = {COVERING: world.guard.names_changed}
        answer = world.below._answer
        world.below._answer = lambda it: (changes.pop(it.name, int)(), answer(it))[1]
        assert not await prove(world)

    run(test())


def test_random_names_cause_few_queries():
    async def test():
        world = World()
        for number in range(3 * MOST_PER_SECOND):
            await world.ask(f"a.com.ns{number}.svc.cluster.local.")
        own = [it for it in world.asked() if not it.startswith("a.")]
        covering = [f"com.ns{it}.svc.cluster.local." for it in range(MOST_PER_SECOND)]
        assert own == [NAMESPACE, *covering]
        world.now += 1
        for number in range(2 * MOST_PER_SECOND):
            await world.ask(f"a.com.more{number}.svc.cluster.local.")
        assert len([it for it in world.asked() if it.startswith("com.more")]) == MOST_PER_SECOND

    run(test())


def test_names_without_a_top_level_domain_cause_no_queries():
    async def test():
        world = World()
        for number in range(10):
            await world.ask(f"a.x{number}.ns{number}.svc.cluster.local.")
        assert [it for it in world.asked() if not it.startswith("a.")] == []

    run(test())


def test_the_memory_is_bounded():
    async def test():
        world = World(domains=[Domain(name(PLAIN))])
        world.guard.prover.covered = CoveredNames(8)
        for number in range(20):
            world.names |= {f"a.x{number}.{PLAIN}": "address", f"x{number}.{PLAIN}": "NODATA"}
            await world.ask(f"a.x{number}.{PLAIN}")
        assert len(world.guard.prover.covered) == 8
        assert world.guard.prover.covered.get(name(f"x19.{PLAIN}"))

    run(test())


def test_only_repeated_denials_may_enter_the_packet_cache():
    async def test():
        world = World()
        assert await prove(world)
        counter = DENIALS.labels("dns://:53", CLUSTER)
        first, before = await world.ask("a.com.default.svc.cluster.local."), counter.value
        world.now += 2
        second = await world.ask("a.com.default.svc.cluster.local.")
        assert first.deadline is None
        assert (second.since, second.deadline) == (1000.0, 1030.0)
        assert second.hit_counters == (counter,)
        assert counter.value == before + 1

    run(test())


def test_the_questions_that_are_remembered_are_few(monkeypatch):
    monkeypatch.setattr("corepy_search_guard.handler.MOST_REPEATED", 3)

    async def test():
        world = World()
        assert await prove(world)  # and OTHER is the first question
        replies = [await world.ask(f"{it}.{COVERING}") for it in "abababcda"]
        repeated = [reply.deadline is not None for reply in replies]
        assert repeated == [False, False, True, True, True, True, False, False, False]

    run(test())


def test_explain_shows_the_state():
    async def test():
        world = World()

        def state(asked, qtype="A"):
            return world.guard.explain_state(make_request(asked, qtype, rd=1))

        assert state("www.example.com.") == {"state": "not an external name below a search domain"}
        assert state(OTHER) == {"state": "no proof", "search domain": CLUSTER}
        await prove(world)
        assert state(OTHER) == {
            "state": "denied",
            "search domain": CLUSTER,
            "proof": f"NXDOMAIN of {COVERING}",
            "seconds left": 30,
        }
        passed = "passed on: not a query that a search list produces"
        assert state(OTHER, "MX")["state"] == passed
        world.names[SEEN] = "address"
        await world.ask(SEEN, "MX")
        assert state(OTHER)["state"] == f"passed on: {COVERING} exists"
        world.names[WEB] = "address"
        await world.ask(WEB)
        world.now += 31
        await prove_plain(world)
        refused = "passed on: the server of the domain denies names that exist"
        assert state(MAIL)["state"] == refused

    run(test())
