"""Replies that were changed between the authoritative server and the validator."""

import asyncio
import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import Reply, Request
from corepy.dns.form_error import FormError
from corepy.dns.rdata import plain_sections
from corepy.testing import serve
from corepy.testing.client import ask, exchange, query
from corepy.testing.helper_module import helper_module
from corepy_forward.validation.chain import Chain
from corepy_forward.validation.handler import ValidatingForward
from corepy_forward.validation.record_sets import Message
from corepy_forward.validation.replies import validate
from corepy_forward.validation.verdicts import Bogus, Indeterminate
from corepy_forward.validation.work import Work

signed_world = helper_module(__file__, "signed_world")
ede_of, verdict, filtered = signed_world.ede_of, signed_world.verdict, signed_world.filtered
A, CNAME, RRSIG, NSEC, NSEC3 = 1, 5, 46, 47, 50
ANSWER, AUTHORITY = 1, 2


def covered(record, rtype):
    """Whether a record has the type, or is a signature of this type."""
    return rtype in (type_of(record), covered_type(record))


def type_of(record):
    return signed_world._type_of(record)


def covered_type(record):
    at = record.index(b"\0") + 11
    return record[at] << 8 | record[at + 1] if type_of(record) == RRSIG else 0


def without(rtype):
    """Return a rule that removes the sets of a type with their signatures."""
    return filtered(lambda _section, _rtype, record: not covered(record, rtype))


def unsigned(wire):
    return filtered(lambda _section, rtype, _record: rtype != RRSIG)(wire)


def replaced(old, new):
    """Return a rule that replaces bytes of the message without compression."""

    def change(wire):
        return signed_world.assembled(wire, *plain_sections(wire)).replace(old, new)

    return change


def with_answer(*records, instead=False):
    """Return a rule that adds records to the answer section."""

    def change(wire):
        answer, authority, additional = plain_sections(wire)
        answer = [*([] if instead else answer), *records]
        return signed_world.assembled(wire, answer, authority, additional)

    return change


def record(owner, rtype, rdata, rclass=1):
    name = signed_world.from_text(owner)
    fixed = rtype.to_bytes(2, "big") + rclass.to_bytes(2, "big") + (60).to_bytes(4, "big")
    return name + fixed + len(rdata).to_bytes(2, "big") + rdata


def spoilt_signatures(count):
    """Return a rule that adds signatures of the right key that are invalid, in front."""

    def change(wire):
        answer, authority, additional = plain_sections(wire)
        (signature,) = (it for it in answer if type_of(it) == RRSIG)
        spoilt = [signature[:-2] + number.to_bytes(2, "big") for number in range(count)]
        return signed_world.assembled(wire, [*spoilt, *answer], authority, additional)

    return change


def as_nxdomain(wire):
    return wire[:3] + bytes((wire[3] & 0xF0 | 3,)) + wire[4:]


def as_noerror(wire):
    return wire[:3] + bytes((wire[3] & 0xF0,)) + wire[4:]


def of_own_zone(wire):
    """An answer from a zone that the root does not have."""
    wire = wire[:3] + bytes((wire[3] & 0xF0,)) + wire[4:]
    return signed_world.assembled(wire, [record("host.lan", A, b"\xc0\0\2\1")], [], [])


def rules(resolver):
    """Return for each query: the rule, the code of the extended error, a part of its text."""

    def replay(*arguments, **options):
        return signed_world.Replay(resolver, *arguments, **options)

    plain = signed_world.from_text("www.plain.")
    return {
        "www.nsec.test. TXT": (unsigned, 10, "TXT of www.nsec.test. has no signature"),
        "www.nsec3.test. A": (unsigned, 10, "A of www.nsec3.test. has no signature"),
        "s1.wild.nsec.test. A": (without(NSEC), 12, "no name is closer"),
        "s1.wild.nsec3.test. A": (without(NSEC3), 12, "no name is closer"),
        "s2.nsec.test. A": (without(NSEC), 12, "s2.nsec.test. does not exist"),
        "s2.nsec3.test. A": (without(NSEC3), 12, "s2.nsec3.test. does not exist"),
        "www.nsec3.test. MX": (without(NSEC3), 12, "has no MX"),
        "s3.nsec3.test. A": (unsigned, 12, "has no signature"),
        "mail.ent.nsec.test. A": (replaced(b"\xc0\0\2\3", b"\xc0\0\2\x42"), 6, "is invalid"),
        # The wildcard's record for a name that exists.
        "closer.wild.nsec.test. A": (
            replay("r.wild.nsec.test", "A", rename=("r.wild.nsec.test", "closer.wild.nsec.test")),
            12, "no name is closer to closer.wild.nsec.test.",
        ),
        "closer.wild.nsec3.test. A": (
            replay("r.wild.nsec3.test", "A", rename=("r.wild.nsec3.test", "closer.wild.nsec3.test")),
            12, "no name is closer to closer.wild.nsec3.test.",
        ),
        # The parent's NSEC record of a delegation (RFC 6840 section 4.1).
        "child.nsec.test. TXT": (
            replay("childz.nsec.test", "A", rcode=0), 12, "child.nsec.test. has no TXT",
        ),
        "zzz.child.nsec.test. A": (replay("childz.nsec.test", "A"), 12, "zzz.child.nsec.test."),
        # Denials of other names and types.
        "www.nsec.test. MX": (replay("missing.nsec.test", "A"), 12, "www.nsec.test."),
        "www.nsec.test. A": (replay("www.nsec.test", "LOC"), 12, "has no A"),
        "ns.nsec3.test. A": (as_nxdomain, 6, "has records, but also NXDOMAIN"),
        # Aliases that the zone does not have.
        "ns.nsec.test. A": (
            with_answer(record("ns.nsec.test", CNAME, plain), instead=True), 10, "CNAME of ns.nsec",
        ),
        "alias.nsec3.test. A": (
            filtered(lambda _section, _rtype, it: covered_type(it) != A), 10, "A of www.nsec3.test.",
        ),
        "mail.redirected.nsec.test. A": (
            replaced(b"\4mail\3ent\4nsec\4test\0", b"\4mial\3ent\4nsec\4test\0"), 6, "differs",
        ),
        "mail.redirected.nsec3.test. A": (
            filtered(lambda _section, rtype, _record: rtype != CNAME), 6, "is missing",
        ),
        # A secure delegation without its DS records.
        "child.nsec3.test. DS": (replay("unsigned.nsec3.test", "DS"), 12, "has no DS"),
        "child.optout.test. DS": (unsigned, 10, "has no signature"),
        "host.lan. A": (
            of_own_zone, 10, "A of host.lan. has no signature, and lan. is proven not to exist; if it "
            "is a zone of your own, name it in negative_trust_anchors",
        ),
        # Signatures that cost time (CVE-2023-50387).
        "www.split.test. A": (spoilt_signatures(40), 6, "is invalid"),
        # A key set without the key of the DS records.
        "sha1only.test. DNSKEY": (without(48), 9, "has no DNSKEY"),
    }  # fmt: skip


INDIRECT = {
    "child.nsec3.test. DS": "www.child.nsec3.test. A",
    "child.optout.test. DS": "www.child.optout.test. A",
    "sha1only.test. DNSKEY": "www.sha1only.test. A",
}
"""Queries whose replies depend on the changed one."""
AS_NXDOMAIN = ["ent.nsec.test. A", "ent.nsec3.test. A", "q9.wild.nsec.test. MX"]
AS_NODATA = ["s4.nsec.test. A", "s4.nsec3.test. A"]
CORRECTED = dict.fromkeys(AS_NXDOMAIN, as_nxdomain) | dict.fromkeys(AS_NODATA, as_noerror)
HARMLESS = {
    "nsec.test. MX": lambda wire: wire.replace(b"\4Mail", b"\4mAIL"),
    "twods.test. NS": with_answer(record("www.twods.test", A, b"\xc0\0\2\x42")),
    "mail.ent.twods.test. A": with_answer(record("www.twods.test", A, b"\xc0\0\2\x42")),
}
"""Changes of replies that stay secure, because what is not proven is removed."""


@pytest.fixture(scope="module")
def changed(world):
    table = rules(world.resolver)
    with signed_world.Tamper(world.resolver) as upstream:
        rule_of = {key: it[0] for key, it in table.items()} | HARMLESS | CORRECTED
        upstream.rules = {f"{key.split()[0]} {key.split()[1]}": it for key, it in rule_of.items()}
        with serve(world.corefile(upstream)) as server, world.validator(upstream.address) as peer:
            yield server, peer, table


def test_changed_replies_are_bogus(changed):
    server, peer, table = changed
    for key, (_, code, text) in table.items():
        name, qtype = INDIRECT.get(key, key).split()
        reply = server.ask(name, qtype, do=True)
        assert (key, *verdict(reply)) == (key, "bogus", 2)
        found = ede_of(reply)
        assert (key, found[0]) == (key, code), found
        assert text in found[1], key
        if qtype != "A" or not name.startswith(("www.split", "mail.redirected")):
            assert verdict(ask(peer, name, qtype, do=True)) == ("bogus", 2), key


def test_parts_that_are_not_proven_are_removed(changed):
    server, _, _ = changed
    for key in HARMLESS:
        name, qtype = key.split()
        reply = server.ask(name, qtype, do=True)
        assert (key, *verdict(reply)) == (key, "secure", 0)
        assert {str(it.rname) for it in reply.rr} == {name}, key
        assert {it.rtype for it in reply.rr} == {RRSIG, {"MX": 15, "NS": 2, "A": 1}[qtype]}


def test_nxdomain_for_a_name_that_is_proven_to_exist_becomes_nodata(changed):
    server, peer, _ = changed
    for key in AS_NXDOMAIN:
        ours, theirs = (ask(it, *key.split(), do=True) for it in (server.address, peer))
        assert (key, *verdict(ours)) == (key, "secure", 0)
        assert not ours.rr
        if "nsec3" not in key:  # in unbound, the rcode must fit NSEC3 records
            assert verdict(theirs) == verdict(ours), key


def test_nodata_for_a_name_that_is_proven_not_to_exist_becomes_nxdomain(changed):
    """Otherwise a forger could choose the response code. unbound answers SERVFAIL."""
    server, peer, _ = changed
    for key in AS_NODATA:
        ours, theirs = (ask(it, *key.split(), do=True) for it in (server.address, peer))
        assert (key, *verdict(ours)) == (key, "secure", 3)
        assert verdict(theirs) == ("bogus", 2), key


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (with_answer(*[record("www.nsec.test", A, b"\1\2\3\4")] * 1001), "more than 1000 records"),
        (with_answer(record("x.test", A, b"\1\2\3\4", rclass=3)), "another class"),
    ],
    ids=["too many records", "class"],
)
def test_replies_that_cannot_be_read_are_refused(world, rule, text):
    with (
        signed_world.Tamper(world.resolver, {"www.nsec.test. TXT": rule}) as upstream,
        serve(world.corefile(upstream)) as server,
    ):
        reply = server.ask("www.nsec.test", "TXT", do=True)
        assert verdict(reply) == ("bogus", 2)
        assert text in ede_of(reply)[1]


def test_the_chain_of_trust_is_walked_once_for_all_sets_without_signatures(world, monkeypatch):
    """With 120 labels and 1000 sets, it would take a quarter of a second."""
    calls = []
    walk = Chain.require_insecure

    def counted(*arguments):
        calls.append(arguments[1])
        return walk(*arguments)

    monkeypatch.setattr(Chain, "require_insecure", counted)
    rule = with_answer(*[record("www.plain", it, b"data") for it in range(1000, 1020)])
    with (
        signed_world.Tamper(world.resolver, {"www.plain. ANY": rule}) as upstream,
        serve(world.corefile(upstream)) as server,
    ):
        reply = server.ask("www.plain", "ANY", tcp=True)
    assert (reply.header.rcode, reply.header.ad) == (0, 0)
    assert len(reply.rr) > 20
    assert calls == [signed_world.from_text("www.plain")]


@pytest.mark.parametrize(("rcode", "upper"), [(2, 0), (6, 0), (0, 1)])
def test_records_of_failures_are_removed(world, rcode, upper):
    """Some clients ignore the upper bits of the rcode."""

    def forge(wire):
        made = unsigned(wire).replace(b"\0\0\x29\4\xd0\0", b"\0\0\x29\4\xd0" + bytes((upper,)))
        return made[:3] + bytes((made[3] & 0xF0 | rcode,)) + made[4:]

    with (
        signed_world.Tamper(world.resolver, {"www.nsec.test. A": forge}) as upstream,
        serve(world.corefile(upstream)) as server,
    ):
        for cd in 0, 1:
            reply = server.ask("www.nsec.test", do=True, cd=cd)
            assert (reply.header.rcode, reply.header.ad, len(reply.rr)) == (rcode, 0, cd)


@pytest.mark.parametrize("name", ["www.mismatch.test", "www.tampered.test"])
def test_failures_keep_no_messages_in_memory(world, name):
    """Without the garbage collector, whose older generations run rarely."""
    with (
        signed_world.Tamper(world.resolver) as upstream,
        serve(world.corefile(upstream)) as server,
    ):
        gc.collect()
        gc.disable()
        try:
            for _ in range(2):
                assert verdict(server.ask(name, do=True)) == ("bogus", 2)
            kept = server.call(lambda: [it for it in gc.get_objects() if type(it) is Message])
        finally:
            gc.enable()
        assert not kept


CORPUS = [
    f"{name}.{zone}.test"
    for zone in ("nsec", "nsec3")
    for name in ("www", "alias", "mail.ent", "ent", "q.wild", "closer.wild", "q.closer.wild",
                 "missing", "child", "mail.redirected", "q.walias", "dangling", "unsigned")
]  # fmt: skip


class OfflineChain(Chain):
    """The cached part of another chain; it has no upstreams."""

    def __init__(self, other):
        super().__init__(other._pool, other.anchors)
        self._entries = other._entries

    async def _find(self, name, request, work):
        raise Indeterminate("offline")


def result_of(chain, name, wire):
    """Return the kept answer, and whether it is secure; None if it is bogus or malformed."""
    request = Request.from_wire(query(name, do=True))
    try:
        reply = Reply.from_wire(wire)
        message = Message(reply.wire, reply.rcode)
        validated = asyncio.run(validate(chain, request, message, Work()))
    except (Bogus, FormError):
        return None
    kept = {
        (it.owner, it.rtype, it.rdata.lower())
        for it in message.records
        if it.section == ANSWER and it.key in validated.answer and it.rtype != RRSIG
    }
    rcode = message.rcode if validated.rcode is None else validated.rcode
    return kept, validated.verdict.is_secure, rcode


@pytest.fixture(scope="module")
def corpus(world):
    """The replies by name, their results, and a chain that knows the zones."""
    with (
        signed_world.Tamper(world.resolver) as upstream,
        serve(world.corefile(upstream)) as server,
    ):
        (forward,) = server.plugins(ValidatingForward)
        for name in ("www.nsec.test", "www.nsec3.test", "child.nsec.test"):
            server.ask(name)
        chain = server.call(lambda: OfflineChain(forward.chain))
        wires = {it: exchange(world.resolver, query(it, do=True, edns=4096)) for it in CORPUS}
        results = {it: result_of(chain, it, wire) for it, wire in wires.items()}
        secure = {it for it, result in results.items() if result and result[1]}
        assert len(secure) >= 20
        yield chain, wires, {it: results[it] for it in secure}


@settings(deadline=None)
@given(data=st.data())
def test_no_change_makes_a_reply_secure_that_is_false(corpus, data):
    """Parts of genuine replies, in any combination, with changed bytes."""
    chain, wires, results = corpus
    name = data.draw(st.sampled_from(sorted(results)))
    pieces = [plain_sections(wires[name])]
    pieces += [
        plain_sections(wires[it]) for it in data.draw(st.lists(st.sampled_from(CORPUS), max_size=2))
    ]
    sections = [
        [it for sections in pieces for it in sections[part] if data.draw(st.integers(0, 3))]
        for part in range(2)
    ]
    wire = bytearray(signed_world.assembled(wires[name], *sections, []))
    wire[3] = wire[3] & 0xF0 | data.draw(st.sampled_from([0, 0, 3]))
    for _ in range(data.draw(st.integers(0, 2))):
        wire[data.draw(st.integers(12, len(wire) - 1))] = data.draw(st.integers(0, 255))
    found = result_of(chain, name, bytes(wire))
    if found is not None and found[1]:
        kept, _, rcode = results[name]
        assert (found[0], found[2]) == (kept, rcode)
