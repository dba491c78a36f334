"""Validation as clients, caches and upstreams see it: flags, sharing, retries, the key cache."""

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import dnslib
import pytest

from corepy.plugin import Cacheability, FastHandler
from corepy.testing import serve, with_handlers
from corepy.testing.client import ask, exchange, query
from corepy.testing.command import wait_until
from corepy.testing.helper_module import helper_module
from corepy.testing.upstream import Upstream
from corepy_forward.validation import chain, entry_cache, outcomes
from corepy_forward.validation.entries import Entry, Kind
from corepy_forward.validation.handler import ValidatingForward
from corepy_forward.validation.public_keys import ZoneKey

signed_world = helper_module(__file__, "signed_world")
ede_of, verdict = signed_world.ede_of, signed_world.verdict
A, NS, SOA, RRSIG, NSEC, DNSKEY = 1, 2, 6, 46, 47, 48
WITH_CACHE = "cache"
ONCE = "max_connect_attempts 1"
"""Queries are not repeated, however late a reply is, so that tests can count them."""


def stripping(wire):
    """As a forwarder that does not know DNSSEC: no signatures, no denial records."""
    return signed_world.filtered(lambda _section, rtype, _record: rtype not in (RRSIG, NSEC, 50))(
        wire
    )


def types(records):
    return {it.rtype for it in records}


@pytest.fixture(scope="module")
def upstream(world):
    with signed_world.Tamper(world.resolver) as upstream:
        yield upstream


@pytest.fixture(scope="module", params=["", WITH_CACHE], ids=["forward", "cache"])
def server(world, upstream, request):
    with serve(world.corefile(upstream, plugins=request.param)) as server:
        yield server


@pytest.mark.parametrize("times", [1, 3])
def test_the_flags_of_replies(server, times):
    """The third time, the packet cache answers if there is a cache."""
    for _ in range(times):
        for name in "www.nsec.test", "missing.nsec3.test":
            for do, ad in [(False, 0), (False, 1), (True, 0), (True, 1)]:
                reply = server.ask(name, do=do, ad=ad)
                assert (name, do, ad, reply.header.ad) == (name, do, ad, int(do or bool(ad)))
                assert reply.header.cd == 0
                assert (RRSIG in types([*reply.rr, *reply.auth])) == do
                assert do or types([*reply.rr, *reply.auth]) <= {A, SOA}


@pytest.mark.parametrize("first", ["with CD", "without CD"])
def test_a_client_with_cd_gets_the_data_and_others_do_not(world, upstream, first):
    """Neither the cache nor the packet cache mixes the replies."""
    clients = [1, 0] if first == "with CD" else [0, 1]
    with serve(world.corefile(upstream, plugins=WITH_CACHE)) as server:
        for cd in clients * 3:
            reply = server.ask("www.tampered.test", cd=cd)
            assert (reply.header.rcode, reply.header.cd, reply.header.ad) == (2 - 2 * cd, cd, 0)
            assert [str(it.rdata) for it in reply.rr] == ["192.0.2.66"] * cd
            healthy = server.ask("www.nsec.test", do=True, cd=cd)
            assert (healthy.header.rcode, healthy.header.ad) == (0, 1 - cd)
            assert types(healthy.rr) == {A, RRSIG}


def test_dnssec_types_are_returned_to_clients_that_ask_for_them(server):
    assert types(server.ask("www.nsec.test", "NSEC").rr) == {NSEC}
    assert types(server.ask("www.nsec.test", "RRSIG").rr) == {RRSIG}
    assert types(server.ask("nsec.test", "DNSKEY").rr) == {DNSKEY}
    assert RRSIG in types(server.ask("www.nsec.test", "ANY").rr)


def test_letter_case_of_the_question(server):
    wire = exchange(server.address, query("WwW.nSeC.TeSt", do=True))
    assert wire[12:30].startswith(b"\3WwW\4nSeC\4TeSt\0")
    assert dnslib.DNSRecord.parse(wire).header.ad


def test_large_answers(server):
    """The upstream truncates the reply over UDP, so it is fetched over TCP, and then cut."""
    assert server.ask("long.nsec.test", "TXT", do=True).header.tc
    whole = server.ask("long.nsec.test", "TXT", do=True, tcp=True)
    assert (whole.header.tc, whole.header.ad) == (0, 1)


def test_classes_and_opcodes_that_are_not_validated(server):
    chaos = dnslib.DNSRecord.question("version.bind", "TXT", "CH").pack()
    assert exchange(server.address, bytes(chaos))[3] & 15 in (0, 5)
    assert server.ask("nsec.test", "AXFR", tcp=True).header.rcode == 5


@pytest.mark.parametrize(
    ("options", "name", "expected"),
    [
        ("negative_trust_anchors expired.test", "www.expired.test", ("insecure", 0)),
        ("negative_trust_anchors test", "missing.tampered.test", ("insecure", 3)),
        ("negative_trust_anchors other.test", "www.expired.test", ("bogus", 2)),
        # An alias from a secure zone to one with a negative trust anchor, and the other way round.
        ("negative_trust_anchors nsec3.test", "abroad.nsec.test", ("insecure", 0)),
        ("negative_trust_anchors nsec.test", "abroad.nsec.test", ("insecure", 0)),
    ],
)
def test_negative_trust_anchors(world, upstream, options, name, expected):
    with serve(world.corefile(upstream, options=options)) as server:
        assert verdict(server.ask(name, do=True)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("www.nsec.test", ("secure", 0)),
        ("missing.child.nsec.test", ("secure", 3)),
        ("www.unsigned.nsec.test", ("insecure", 0)),
        ("abroad.nsec.test", ("insecure", 0)),
        ("www.nsec3.test", ("insecure", 0)),
        ("www.tampered.test", ("insecure", 0)),
    ],
)
def test_an_anchor_below_the_root(world, upstream, name, expected):
    """Names that are not below a trust anchor are not validated (RFC 4033 section 5)."""
    options = "negative_trust_anchors ."
    with serve(world.corefile(upstream, anchor="nsec.test.", options=options)) as server:
        before = len(upstream.queries)
        assert verdict(server.ask(name, do=True)) == expected
        asked = [text for text, _ in upstream.queries[before:]]
        assert not [it for it in asked if it.split()[0] in (".", "test.")]


def test_a_second_anchor_does_not_concern_the_parents_records(world, upstream):
    options = f"dnssec validate {world.anchors('nsec.test.')}\n{ONCE}"
    with serve(world.corefile(upstream, options=options)) as server:
        before = len(upstream.queries)
        assert verdict(server.ask("www.nsec.test", do=True)) == ("secure", 0)
        asked = [text for text, _ in upstream.queries[before:]]
        assert asked == ["www.nsec.test. A", "nsec.test. DNSKEY"]
        assert verdict(server.ask("nsec.test", "DS", do=True)) == ("secure", 0)
        assert verdict(server.ask("www.nsec.test", "DS", do=True)) == ("secure", 0)


def test_a_line_for_one_zone(world, upstream):
    text = world.corefile(upstream, zone="nsec.test", anchor="nsec.test.")
    with serve(text) as server:
        assert verdict(server.ask("www.nsec.test", do=True)) == ("secure", 0)
        assert server.ask("www.nsec3.test").header.rcode == 2  # no handler for it


@pytest.mark.parametrize("first", ["honest", "stripping"])
def test_one_honest_upstream_is_enough(world, first):
    """Both the reply and the keys are obtained from the other upstream if one strips them."""
    with (
        signed_world.Tamper(world.resolver) as honest,
        signed_world.Tamper(world.resolver) as stripper,
    ):
        stripper.always = stripping
        upstreams = [honest, stripper] if first == "honest" else [stripper, honest]
        options = "policy sequential"
        with serve(world.corefile(*upstreams, options=options)) as server:
            for name in ("www.nsec.test", "missing.nsec3.test", "q.wild.optout.test"):
                assert verdict(server.ask(name, do=True))[0] != "bogus"
            assert server.ask("www.child.nsec3.test", ad=1).header.ad
            assert verdict(server.ask("www.plain", do=True)) == ("insecure", 0)


def test_an_upstream_without_dnssec(world):
    """Nothing can be proven, also not that a name is insecure."""
    with signed_world.Tamper(world.resolver) as upstream:
        upstream.always = stripping
        with serve(world.corefile(upstream)) as server:
            for name in "www.nsec.test", "www.plain", "missing.test":
                reply = server.ask(name)
                assert verdict(reply) == ("bogus", 2)
                assert not reply.ar
                assert ede_of(server.ask(name, do=True)) == (
                    10,
                    "DNSKEY of . has no signature by .",
                )


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
def test_upstreams_that_refuse_the_queries_for_keys(world, rcode):
    """The verdict is indeterminate, and not cached."""
    refusal = getattr(dnslib.RCODE, rcode)

    def refuse(wire):
        return wire[:3] + bytes((wire[3] & 0xF0 | refusal,)) + wire[4:6] + bytes(6) + wire[12:22]

    rules = {"test. DNSKEY": refuse}
    with (
        signed_world.Tamper(world.resolver, rules) as upstream,
        serve(world.corefile(upstream)) as server,
    ):
        found = ede_of(server.ask("www.nsec.test", do=True))
        assert found == (5, f"the query for DNSKEY of test. was answered with {rcode}")
        upstream.rules = {}
        assert verdict(server.ask("www.nsec.test", do=True)) == ("secure", 0)


def test_upstreams_failures_are_passed_on(world):
    with (
        Upstream(lambda query, proto: servfail(query)) as upstream,
        serve(world.corefile(upstream)) as server,
    ):
        reply = server.ask("www.nsec.test", do=True)
        assert (reply.header.rcode, ede_of(reply)) == (2, None)
    with Upstream(lambda query, proto: None) as upstream:
        options = "max_connect_attempts 1\nread_timeout 50ms"
        with serve(world.corefile(upstream, options=options)) as server:
            assert ede_of(server.ask("www.nsec.test", do=True))[0] == 22


def test_the_reason_is_kept_if_the_second_upstream_fails(world):
    with (
        signed_world.Tamper(world.resolver) as first,
        Upstream(lambda query, proto: servfail(query)) as second,
        serve(world.corefile(first, second, options="policy sequential")) as server,
    ):
        assert ede_of(server.ask("www.tampered.test", do=True))[0] == 6
        assert [text for text, _ in second.queries][-1] == "www.tampered.test. A"


def servfail(query):
    reply = query.reply()
    reply.header.rcode = 2
    reply.add_ar(dnslib.EDNS0(flags="do"))
    return reply


def test_the_chain_of_trust_is_cached(world):
    with (
        signed_world.Tamper(world.resolver) as upstream,
        serve(world.corefile(upstream, options=ONCE)) as server,
    ):
        server.ask("www.child.nsec.test")
        assert sorted(text for text, _ in upstream.queries) == [
            ". DNSKEY", "child.nsec.test. DNSKEY", "child.nsec.test. DS", "nsec.test. DNSKEY",
            "nsec.test. DS", "test. DNSKEY", "test. DS", "www.child.nsec.test. A",
        ]  # fmt: skip
        upstream.queries.clear()
        server.ask("missing.child.nsec.test")
        server.ask("alias.nsec.test")
        assert [text.split()[1] for text, _ in upstream.queries] == ["A", "A"]
        server.ask("www.expired.test")
        upstream.queries.clear()
        server.ask("ns.expired.test")
        assert [text for text, _ in upstream.queries] == ["ns.expired.test. A"]


def test_other_trust_anchors_empty_the_cache(world):
    with (
        signed_world.Tamper(world.resolver) as upstream,
        serve(world.corefile(upstream, options=ONCE)) as server,
    ):
        (forward,) = server.plugins(ValidatingForward)
        server.ask("www.nsec.test")
        first = [text for text, _ in upstream.queries]
        upstream.queries.clear()
        server.call(setattr, forward.chain.anchors.keeper, "version", 1000)
        server.ask("www.nsec.test")
        assert [text for text, _ in upstream.queries] == first


def test_equal_queries_in_flight_are_validated_once(world):
    waiting, gate = threading.Semaphore(0), threading.Event()

    def late(wire):
        waiting.release()
        gate.wait()
        return wire

    with (
        signed_world.Tamper(world.resolver, always=late) as upstream,
        serve(world.corefile(upstream, options=ONCE)) as server,
    ):
        (forward,) = server.plugins(ValidatingForward)
        replies = []

        def client(do, name):
            replies.append(ask(server.address, name, do=do).header.rcode)

        names = ["www.nsec.test", "WWW.nsec.test"] * 4
        threads = [
            threading.Thread(target=client, args=(n % 3 > 0, it)) for n, it in enumerate(names)
        ]
        for thread in threads:
            thread.start()
        waiting.acquire()
        while server.call(lambda: len(forward.pool.places.requests)) < len(threads):
            pass
        gate.set()
        for thread in threads:
            thread.join()
        assert replies == [0] * len(threads)
        assert len(upstream.queries) == len(set(upstream.queries)) == 6
        assert server.call(lambda: len(forward.pool.places.requests)) == 0


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        ("nsec.test", "ns.nsec.test"),
        ("test", "www.nsec3.test"),
        ("test", "www.unsigned.optout.test"),
    ],
    ids=["of the reply", "of DS records", "of a denial of DS"],
)
def test_keys_that_a_rollover_has_replaced_are_fetched_again(world, monkeypatch, zone, name):
    monkeypatch.setattr(chain, "RENEWED_AFTER", -1.0)
    with (
        signed_world.Tamper(world.resolver) as upstream,
        serve(world.corefile(upstream)) as server,
    ):
        (forward,) = server.plugins(ValidatingForward)
        server.ask("www.nsec.test")
        old = ZoneKey(b"\1\1\3\x0d" + bytes(64))

        def spoil():
            entries, key = forward.chain._entries, signed_world.from_text(zone)
            entries.put(key, entries.get(key)._replace(keys=(old,)), 60.0)

        server.call(spoil)
        expected = "insecure" if "unsigned" in name else "secure"
        assert verdict(server.ask(name, do=True)) == (expected, 0)


def test_a_query_can_only_cause_a_bounded_number_of_others(world, monkeypatch):
    """What was found is kept, so that a repeated query gets further."""
    monkeypatch.setattr("corepy_forward.validation.work.MOST_QUERIES", 6)
    with (
        signed_world.Tamper(world.resolver) as upstream,
        serve(world.corefile(upstream, options=ONCE)) as server,
    ):
        found = ede_of(server.ask("www.child.nsec.test", do=True))
        assert found == (5, "more than 6 queries for the chain of trust")
        assert len(upstream.queries) == 7
        assert verdict(server.ask("www.child.nsec.test", do=True)) == ("secure", 0)


def test_queries_for_a_chain_of_trust_end_if_upstreams_are_slow(world, monkeypatch):
    """They go on after the client has got its reply, but not for every label of a long name."""
    clock = [0.0]

    def late(wire):
        clock[0] += 11
        return wire

    monkeypatch.setattr("corepy_forward.validation.work.monotonic", lambda: clock[0])
    with (
        signed_world.Tamper(world.resolver, {"test. DS": late}) as upstream,
        serve(world.corefile(upstream)) as server,
    ):
        found = ede_of(server.ask("www.child.nsec.test", do=True))
        assert found == (5, "the chain of trust was not complete after 10 seconds")
        assert upstream.queries[-1][0] == "test. DS"
        upstream.rules = {}
        assert verdict(server.ask("www.child.nsec.test", do=True)) == ("secure", 0)


def test_the_number_of_cached_names_is_bounded(world, upstream, monkeypatch):
    monkeypatch.setattr(entry_cache, "MOST_ENTRIES", 2)
    with serve(world.corefile(upstream)) as server:
        (forward,) = server.plugins(ValidatingForward)
        for name in "www.child.nsec.test", "www.plain", "www.child.optout.test":
            assert verdict(server.ask(name, do=True))[1] == 0
            assert server.call(lambda: len(forward.chain)) == 2


def test_the_size_of_cached_keys_is_bounded(monkeypatch):
    key = ZoneKey(b"\1\1\3\x0d" + bytes(60))
    two_keys = Entry(Kind.SECURE, 60.0, (key, key))
    monkeypatch.setattr(entry_cache, "MOST_KEY_BYTES", 5 * (64 + 100))
    cache = entry_cache.EntryCache()
    for name in b"\1a\0", b"\1b\0", b"\1b\0", b"\1c\0":
        cache.put(name, two_keys, 60.0)
    assert [cache.get(it) for it in (b"\1a\0", b"\1b\0", b"\1c\0")] == [None, two_keys, two_keys]
    cache.put(b"\1a\0", two_keys._replace(keys=(key,) * 6), 60.0)
    assert len(cache) == 0
    cache.put(b"\1d\0", two_keys, 0.0)
    assert cache.get(b"\1d\0") is None
    for name in b"\1a\0", b"\1b\0":
        cache.put(name, two_keys, 60.0)
    assert len(cache) == 2


def test_clients_that_wait_when_the_generation_ends_get_a_reply(world):
    arrived = threading.Event()
    with (
        Upstream(lambda query, proto: arrived.set()) as upstream,
        serve(world.corefile(upstream, options="read_timeout 1h")) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        (forward,) = server.plugins(ValidatingForward)
        waiting = pool.submit(server.ask, "www.nsec.test")
        arrived.wait()
        server.call(forward.shutdown)
        assert waiting.result().header.rcode == 2


def test_queries_above_the_limit_are_refused(world):
    gate, arrived = threading.Event(), threading.Event()

    def late(wire):
        arrived.set()
        gate.wait()
        return wire

    with (
        signed_world.Tamper(world.resolver, always=late) as upstream,
        serve(world.corefile(upstream, options="max_concurrent 1")) as server,
    ):
        thread = threading.Thread(target=ask, args=(server.address, "www.nsec.test"))
        thread.start()
        arrived.wait()
        refused = server.ask("www.nsec3.test", do=True)
        assert (refused.header.rcode, ede_of(refused)[0]) == (2, 0)
        gate.set()
        thread.join()
        assert server.ask("www.nsec3.test").header.rcode == 0


def test_a_chain_of_trust_that_takes_too_long(world, monkeypatch):
    """The client gets its reply in time, and the queries for keys go on."""
    monkeypatch.setattr(outcomes, "MARGIN", -3.9)  # after 0.1 seconds
    gate = threading.Event()

    def late(wire):
        gate.wait()
        return wire

    with (
        signed_world.Tamper(world.resolver, {"test. DNSKEY": late}) as upstream,
        serve(world.corefile(upstream, options="read_timeout 2s")) as server,
    ):
        found = ede_of(server.ask("www.nsec.test", do=True))
        assert found == (5, "the chain of trust was not complete after 0.1 seconds")
        gate.set()
        wait_until(lambda: verdict(server.ask("www.nsec.test", do=True)) == ("secure", 0))


class Tap(FastHandler):
    name = "tap"
    cacheability = Cacheability.SAFE

    def __init__(self):
        self.tapped = []

    def begin_dns(self, request):
        return self.next.begin_dns(request)

    def tap_message(self, request, message):
        self.tapped.append((request.name, message.wire))


def test_taps_get_the_queries_for_keys_with_the_query_that_needs_them(world, upstream):
    def questions(tapped):
        """Return the number of messages with each question, and whether they are replies."""
        return Counter(
            (wire[12 : signed_world.question_end(wire)], wire[2] >> 7) for _, wire in tapped
        )

    with serve(world.corefile(upstream, plugins="tap"), plugins=with_handlers(tap=Tap)) as server:
        (tap,) = server.plugins(Tap)
        server.ask("www.nsec.test")
        assert {name for name, _ in tap.tapped} == {"www.nsec.test."}
        assert len(questions(tap.tapped)) == 12  # queries and replies: A, two DS, three DNSKEY
        tap.tapped.clear()
        server.ask("www.tampered.test")
        assert {name for name, _ in tap.tapped} == {"www.tampered.test."}
        counts = questions(tap.tapped)
        assert len(counts) == 6  # A, DS, DNSKEY
        address = signed_world.from_text("www.tampered.test") + b"\0\1\0\1"
        assert counts[address, 0] >= 2  # the query is repeated over TCP


def test_the_keys_of_an_anchors_zone_are_reported(world, upstream, monkeypatch):
    """With the keys that have signed them, for RFC 5011."""
    with serve(world.corefile(upstream)) as server:
        (forward,) = server.plugins(ValidatingForward)
        seen = []
        monkeypatch.setattr(forward.chain.anchors, "observe", lambda *facts: seen.append(facts))
        server.ask("www.nsec.test")
        ((zone, keys),) = seen
        assert zone == b"\0"
        assert len(keys.keys) == 2
        (signer,) = keys.signers
        assert signer[:2] == b"\1\1"
        assert keys.ttl == 300
        assert 0 < keys.expires - time.time() < 15 * signed_world.DAY
        refreshed = forward.chain.refresh_anchor(b"\0")
        asyncio.run_coroutine_threadsafe(refreshed, server._loop).result()
        again = seen[1][1]
        assert (set(again.keys), again.signers) == (set(keys.keys), keys.signers)


def test_explain_and_status(world, upstream):
    with serve(world.corefile(upstream)) as server:
        (forward,) = server.plugins(ValidatingForward)
        server.ask("www.nsec.test")
        assert server.call(forward.status)["validated_zones"] == 3
