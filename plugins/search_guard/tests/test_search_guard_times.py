"""For how long *search_guard* believes replies: tables of times, by the clock of the test."""

import asyncio
from typing import Any

import pytest

from corepy.dns import Reply
from corepy.dns import constants as c
from corepy.dns.names import from_text
from corepy.dns.presentation import read_record
from corepy.testing import Recorder, link, make_request
from corepy_search_guard.asking import Asker
from corepy_search_guard.domains import Domain, SearchDomains
from corepy_search_guard.handler import SearchGuard
from corepy_search_guard.labels import EXTERNAL_FOR, INTERNAL_FOR, UNKNOWN_FOR, Labels
from corepy_search_guard.proof import Proof, read_proof
from corepy_search_guard.prover import EXISTS_FOR, RETRY_AFTER, RETRY_SOON
from corepy_search_guard.trust import VERDICT_FOR, Trust

DAY = 86400.0
YEAR = 365 * DAY
PLAIN = "corp.example."
SEEN, OTHER = "www.example.com.corp.example.", "mail.com.corp.example."
COVERING = "com.corp.example."


def soa(owner, ttl=30, minimum=30):
    text = f"{owner} {ttl} IN SOA ns.example. host.example. 1 7200 1800 86400 {minimum}"
    return read_record(text, 60).wire


def record(text):
    return read_record(text, 60).wire


def cut_off(request):
    reply = request.reply(answer=[soa("com.")])
    return Reply(reply.wire[:-3])


def denial(ttl, minimum=30):
    return lambda it: it.reply(c.NXDOMAIN, authority=[soa(PLAIN, ttl, minimum)])


# -- labels


class Server:
    """Stands in for this server: answers queries for SOA records."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    async def server(self, request, name):
        self.asked.append(name)
        return None if self.answer is None else self.answer(request)


ANSWERS_FOR_COM = [
    ("its SOA record", lambda it: it.reply(answer=[soa("com.")]), True, EXTERNAL_FOR),
    ("in other letters", lambda it: it.reply(answer=[soa("CoM.")]), True, EXTERNAL_FOR),
    ("NXDOMAIN", lambda it: it.reply(c.NXDOMAIN, authority=[soa(".")]), False, INTERNAL_FOR),
    ("NODATA", lambda it: it.reply(authority=[soa("com.")]), False, INTERNAL_FOR),
    ("empty", lambda it: it.reply(), False, INTERNAL_FOR),
    # a resolver that answers for all absent names, and a host named as a top-level domain
    ("an address", lambda it: it.reply(answer=[record("com. A 192.0.2.1")]), False, INTERNAL_FOR),
    (
        "an alias",
        lambda it: it.reply(answer=[record("com. CNAME a.example."), soa("a.example.")]),
        False,
        INTERNAL_FOR,
    ),
    ("malformed", cut_off, False, INTERNAL_FOR),
    ("SERVFAIL", lambda it: it.error(c.SERVFAIL), False, UNKNOWN_FOR),
    ("REFUSED", lambda it: it.error(c.REFUSED), False, UNKNOWN_FOR),
    ("dropped", lambda it: it.drop(), False, UNKNOWN_FOR),
    ("no look-up", None, False, UNKNOWN_FOR),
]


@pytest.mark.parametrize(
    ("answer", "is_external", "seconds"),
    [it[1:] for it in ANSWERS_FOR_COM],
    ids=[it[0] for it in ANSWERS_FOR_COM],
)
def test_a_label_is_asked_for_again(answer, is_external, seconds):
    now = [1000.0]
    server: Any = Server(answer)
    labels = Labels(server, lambda: now[0], [b"\6consul"])
    request = make_request("com.", "SOA")

    async def asked_at(moment):
        """Whether the label is external at a time, and the number of queries until then."""
        now[0] = moment
        return await labels.is_external(request, b"\3com"), len(server.asked)

    async def test():
        assert labels.known(b"\3com") is None
        assert await asked_at(1000.0) == (is_external, 1)
        assert labels.known(b"\3com") is is_external
        assert await asked_at(1000.0 + seconds - 0.1) == (is_external, 1)
        assert await asked_at(900.0) == (is_external, 1)  # a query that has waited
        now[0] = 1000.0 + seconds
        assert labels.known(b"\3com") is None
        assert await asked_at(1000.0 + seconds) == (is_external, 2)
        assert await asked_at(1000.0 + YEAR) == (is_external, 3)  # the node was suspended
        server.answer = ANSWERS_FOR_COM[0][1]
        assert await asked_at(1000.0 + 2 * YEAR) == (True, 4)
        assert await labels.is_external(request, b"\6consul")
        assert server.asked == [b"\3com\0"] * 4

    asyncio.run(test())


def test_the_number_of_labels_is_bounded(monkeypatch):
    monkeypatch.setattr("corepy_search_guard.labels._MOST", 8)
    server: Any = Server(ANSWERS_FOR_COM[2][1])
    labels = Labels(server, lambda: 1000.0, [])

    async def test():
        for number in range(20):
            await labels.is_external(make_request("."), b"\4%04d" % number)

    asyncio.run(test())
    assert 0 < len(labels._known) <= 8


def test_a_handler_that_does_not_answer(monkeypatch):
    monkeypatch.setattr("corepy_search_guard.asking._SECONDS", 0.0)

    async def below(_):
        return await asyncio.get_running_loop().create_future()

    asked = Asker(below, lambda: 1000.0).below(make_request(SEEN), from_text(COVERING))
    assert asyncio.run(asked) is None


# -- proofs


@pytest.mark.parametrize(
    ("ttl", "minimum", "max_ttl", "expected"),
    [
        (30, 30, 60, 30),
        (30, 5, 60, 5),
        (5, 30, 60, 5),
        (61, 61, 60, 60),
        (1, 1, 3600, 1),
        (0, 30, 60, None),
        (30, 0, 60, None),
        (2**31 - 1, 2**31 - 1, 3600, 3600),
        (2**31, 30, 60, None),  # counts as 0 (RFC 2181 section 8)
        (30, 2**32 - 1, 60, None),
    ],
)
def test_the_seconds_of_a_proof(ttl, minimum, max_ttl, expected):
    name = from_text(COVERING)
    reply = denial(ttl, minimum)(make_request(COVERING))
    proof = read_proof(name, b"", reply, 1000.5, max_ttl)
    found = proof and (proof.ttl, proof.since, proof.until)
    assert found == (expected and (expected, 1000.5, 1000.5 + expected))


@pytest.mark.parametrize(
    ("after", "ttl"),
    [(-YEAR, 30), (-2.5, 30), (0, 30), (0.9, 30), (1, 29), (29.9, 1), (30, 0), (YEAR, 30 - YEAR)],
)
def test_the_ttl_of_a_denial(after, ttl):
    """A query that was received before the proof is denied for no longer than the proof is valid."""
    rdata = soa(PLAIN)[len(from_text(PLAIN)) + 10 :]
    proof = Proof(from_text(COVERING), (from_text(PLAIN), rdata), 30, 1000.0, has_ra=False)
    assert proof.left(1000.0 + after) == ttl
    if ttl > 0:
        denied = proof.deny(make_request(OTHER), 1000.0 + after)
        assert [it.ttl for it in denied.record.auth] == [ttl]


# -- the server of a domain


def trust_of(domain, answers):
    """A `Trust` with a clock as a list; `answers` are functions by name, others are denied."""
    now = [1000.0]
    below = Recorder(lambda it: answers.get(it.name, denial(30))(it))
    asker = Asker(below.serve_dns, lambda: now[0])
    return Trust(domain, asker, lambda: now[0]), below, now


NODATA = lambda it: it.reply(authority=[soa(PLAIN)])  # noqa: E731 - a row of tables
FAILED = lambda it: it.error(c.SERVFAIL)  # noqa: E731 - a row of tables


@pytest.mark.parametrize(
    ("answer", "allows", "seconds"),
    [
        (NODATA, True, VERDICT_FOR),
        (lambda it: it.reply(answer=[record(f"{it.name} A 192.0.2.1")]), True, VERDICT_FOR),
        (denial(30), False, VERDICT_FOR),
        (FAILED, False, 5.0),
        (lambda it: it.drop(), False, 5.0),
    ],
    ids=["NODATA", "an address", "NXDOMAIN", "SERVFAIL", "dropped"],
)
def test_the_namespace_is_asked_for_again(answer, allows, seconds):
    domain = Domain(from_text("cluster.local."), True)
    trust, below, now = trust_of(domain, {"default.svc.cluster.local.": answer})
    request = make_request(SEEN)

    async def test():
        for moment, count in ((0, 1), (seconds - 0.1, 1), (seconds, 2), (YEAR, 3)):
            now[0] = 1000.0 + moment
            assert (await trust.allows(request), len(below.requests)) == (allows, count)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("ttl", "seconds"), [(0, 5.0), (3, 5.0), (30, 30.0), (600, 600.0), (7200, VERDICT_FOR)]
)
def test_evidence_is_reviewed_when_the_denial_has_expired(ttl, seconds):
    """Until then, the domain is trusted: the existing name may be new."""
    existing, parent = "web.org.corp.example.", "org.corp.example."
    answers = {existing: NODATA, parent: denial(ttl, 7200)}
    trust, below, now = trust_of(Domain(from_text(PLAIN)), answers)
    request = make_request(SEEN)

    async def test():
        await trust.test(request, from_text(existing), from_text(parent))
        for moment, allows, count in (
            (0, True, 1),
            (seconds - 0.1, True, 1),
            (seconds, False, 3),
            (seconds + VERDICT_FOR - 0.1, False, 3),
            (YEAR, False, 5),
        ):
            now[0] = 1000.0 + moment
            assert (await trust.allows(request), len(below.requests)) == (allows, count)
        answers[parent] = NODATA
        now[0] += VERDICT_FOR
        assert await trust.allows(request)
        assert not trust.is_refused

    asyncio.run(test())


@pytest.mark.parametrize("failing", ["web.org.corp.example.", "org.corp.example."])
def test_a_review_without_a_result_is_repeated(failing):
    existing, parent = "web.org.corp.example.", "org.corp.example."
    answers = {existing: NODATA, parent: denial(30)}
    trust, below, now = trust_of(Domain(from_text(PLAIN)), answers)
    request = make_request(SEEN)

    async def test():
        await trust.test(request, from_text(existing), from_text(parent))
        good, answers[failing] = answers[failing], FAILED
        queries = 2 if failing == parent else 1  # of one review
        for after, count in ((30.0, 1), (34.9, 1), (35.0, 2), (39.9, 2)):
            now[0] = 1000.0 + after
            assert await trust.allows(request)
            assert len(below.requests) == 1 + count * queries
        answers[failing] = good
        now[0] = 1040.0
        assert not await trust.allows(request)

    asyncio.run(test())


# -- the whole handler


class World:
    """The guard above a server that has `answers`, and denies all other names for 30 seconds."""

    def __init__(self, answers=()):
        self.now = 1000.0
        self.answers = dict(answers)
        self.below = Recorder(lambda it: self.answers.get(it.name, denial(30))(it))
        domains = SearchDomains([Domain(from_text(PLAIN))])
        self.guard = SearchGuard(domains, [b"\3com"], 60, lambda: self.now, 0)
        self.top = link([self.guard, self.below])

    async def ask(self, name, received=None):
        request = make_request(name, rd=1)
        request.received = self.now if received is None else received
        reply = await self.top.serve_dns(request)
        await self.guard.prover.settle()
        return reply

    async def is_denied(self, name, received=None):
        before = len(self.below.requests)
        await self.ask(name, received)
        return len(self.below.requests) == before


EVENTS = [
    # seconds since the event, whether a name that is looked up twice is denied the second time
    ("a proof", denial(30), [(0, True), (29.9, True), (30, False), (31, True), (YEAR, False)]),
    ("a failure", FAILED, [(0, False), (RETRY_SOON - 0.1, False), (RETRY_SOON, True)]),
    ("existing", NODATA, [(RETRY_AFTER - 0.1, False), (RETRY_AFTER, True), (YEAR, True)]),
    ("no proof", denial(0), [(RETRY_AFTER - 0.1, False), (RETRY_AFTER, True)]),
]


@pytest.mark.parametrize(
    ("answer", "moments"), [it[1:] for it in EVENTS], ids=[it[0] for it in EVENTS]
)
def test_the_life_of_a_proof(answer, moments):
    async def test():
        world = World({COVERING: answer})
        await world.ask(SEEN)
        world.answers.clear()
        for after, expected in moments:
            world.now = 1000.0 + after
            if answer is not EVENTS[0][1]:
                await world.ask(SEEN)
            assert await world.is_denied(OTHER) is expected, after

    asyncio.run(test())


def test_a_name_that_was_answered_prevents_proofs_for_an_hour():
    async def test():
        world = World({OTHER: NODATA, COVERING: NODATA})
        await world.ask(OTHER)
        world.answers.clear()
        for after, expected in ((EXISTS_FOR - 0.1, False), (EXISTS_FOR, True)):
            world.now = 1000.0 + after
            await world.ask(SEEN)
            assert await world.is_denied(OTHER) is expected

    asyncio.run(test())


def test_a_query_that_has_waited_is_denied_by_a_later_proof():
    async def test():
        world = World()
        await world.ask(SEEN)
        reply = await world.ask(OTHER, received=world.now - 7)
        assert [it.ttl for it in reply.record.auth] == [30]
        world.now += 29
        assert await world.is_denied(OTHER, received=world.now)
        assert not await world.is_denied(OTHER, received=world.now + 1)

    asyncio.run(test())


def test_attempts_end_with_the_configuration():
    """A reload replaces the handler; the query of an attempt in flight is cancelled."""

    async def test():
        world = World()
        reached, ended = asyncio.Event(), asyncio.Event()

        async def below(_):
            reached.set()
            try:
                return await asyncio.get_running_loop().create_future()
            finally:
                ended.set()

        request = make_request(SEEN, rd=1)
        request.received = world.now
        await world.top.serve_dns(request)
        world.guard.prover._asker._below = below
        await reached.wait()
        await world.guard.shutdown()
        assert ended.is_set()
        before = len(world.below.requests)
        world.now += YEAR
        await world.ask(SEEN)
        assert len(world.below.requests) == before + 1

    asyncio.run(test())
