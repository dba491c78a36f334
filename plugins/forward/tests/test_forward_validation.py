"""Validated replies, from zones signed with Knot DNS; unbound validates the same ones."""

import pytest

from corepy.testing import serve
from corepy.testing.client import ask
from corepy.testing.helper_module import helper_module

signed_world = helper_module(__file__, "signed_world")
ede_of, verdict = signed_world.ede_of, signed_world.verdict

RICH_NAMES = {
    "secure": [
        "www A", "WWW TXT", "alias A", "abroad A", "mail.redirected A", "www.child A", "child DS",
        "closer.wild TXT", "mail.ent A", "@ DNSKEY", "@ SOA", "@ MX", "@ DS", "long TXT", "www ANY",
        "alias CNAME", "redirected DNAME", "x.child MX", "*.wild A",
    ],
    "secure without opt-out": [
        "q.wild A", "a.b.wild TXT", "q.walias A", "q.wild MX", "missing A", "a.b.missing A",
        "dangling A", "nodata TXT", "ent A", "x.redirected A", "x.closer.wild TXT", "www DS",
        "missing DS", "unsigned DS", "_tcp.ent TXT", "q.tosigned TXT",
    ],
    # The reply for q.toplain has the proof of the wildcard, and an unsigned denial by a zone below.
    "insecure": ["www.unsigned A", "missing.unsigned A", "unsigned NS", "plainly A", "www RRSIG",
                 "q.toplain A", "q.toplain TXT"],
}  # fmt: skip
EXPECTED = [
    (zone, name, "insecure" if kind == "insecure" else "secure")
    for zone in ("nsec.test", "nsec3.test")
    for kind, names in RICH_NAMES.items()
    for name in names
]
OPT_OUT = [("optout.test", name, "secure") for name in RICH_NAMES["secure"]]
OPT_OUT += [
    ("optout.test", name, "insecure")
    for name in ("q.wild A", "missing A", "a.b.missing A", "x.redirected A", "missing DS",
                 "unsigned DS", "www.unsigned A", "dangling A", "q.wild MX", "q.walias A")
]  # fmt: skip
OTHERS = [
    ("split.test", "www A", "secure"),
    ("child.nsec3.test", "missing A", "secure"),
    ("", ". NS", "secure"),
    ("", ". DNSKEY", "secure"),
    ("", ". DS", "secure"),
    ("", "nothing A", "secure"),
    ("", "test DS", "secure"),
    ("", "plain DS", "secure"),
    ("plain", "www A", "insecure"),
    ("plain", "missing A", "insecure"),
    ("unsupported.test", "www A", "insecure"),
    ("digest.test", "www A", "insecure"),
    ("iterations.test", "www A", "secure"),
    ("iterations.test", "missing A", "insecure"),
    ("sha1only.test", "www A", "secure"),
    ("sha2wins.test", "www A", "secure"),
    ("twods.test", "missing A", "secure"),
    ("nonsec.test", "www A", "secure"),
    ("ttl.test", "www A", "secure"),
]
BOGUS = {
    "expired.test www A": (7, "DNSKEY of expired.test. expired at 2"),
    "expired.test missing A": (7, "expired"),
    "future.test www A": (8, "is valid from"),
    "mismatch.test www A": (9, "no DNSKEY of mismatch.test. matches the DS"),
    "othertag.test missing A": (9, "matches"),
    "nokey.test www A": (9, "nokey.test. has no DNSKEY"),
    "nozonebit.test www A": (11, "the zone key bit is not set"),
    "protocol.test www A": (9, "protocol 4 in place of 3"),
    "revoked.test www A": (9, "the key is revoked"),
    "stripped.test www A": (10, "DNSKEY of stripped.test. has no signature"),
    "nokeysig.test www A": (10, "DNSKEY of nokeysig.test. has no signature"),
    "nodatasig.test www A": (10, "A of www.nodatasig.test. has no signature"),
    "tampered.test www A": (6, "the signature of A of www.tampered.test. by key"),
    "nonsec.test missing A": (12, "no NSEC or NSEC3 record of nonsec.test. proves"),
    "nonsec.test q.wild A": (12, "no name is closer to q.wild.nonsec.test."),
    "nonsec.test www TXT": (12, "has no TXT"),
    "nonsec3.test q.wild A": (12, "no NSEC or NSEC3 record of nonsec3.test. proves"),
    "signer.test www A": (6, "that test. does not have"),
    "labels.test www A": (6, "is invalid"),
}


def split(zone, words):
    """Return the name and the type of a line of the tables."""
    name, qtype = words.split()
    if not zone:
        return name, qtype
    return (zone if name == "@" else f"{name}.{zone}"), qtype


def server_of(world, upstream):
    return serve(world.corefile(upstream))


@pytest.fixture(scope="module")
def upstream(world):
    with signed_world.Tamper(world.resolver) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def server(world, upstream):
    with server_of(world, upstream) as server:
        yield server


@pytest.fixture(scope="module")
def validator(world, upstream):
    with world.validator(upstream.address) as address:
        yield address


@pytest.mark.parametrize("table", [EXPECTED, OPT_OUT, OTHERS], ids=["zones", "opt-out", "others"])
def test_verdicts_are_those_of_unbound(server, validator, table):
    for zone, words, expected in table:
        name, qtype = split(zone, words)
        ours = server.ask(name, qtype, do=True)
        theirs = ask(validator, name, qtype, do=True)
        assert (words, zone, *verdict(ours)) == (words, zone, expected, ours.header.rcode)
        assert verdict(theirs) == verdict(ours), (words, zone)
        assert len(theirs.rr) == len(ours.rr) or qtype == "ANY", (words, zone)


@pytest.mark.parametrize("line", BOGUS)
def test_broken_zones_are_bogus_with_the_reason(server, validator, line):
    name, qtype = split(*line.split(" ", 1))
    code, text = BOGUS[line]
    ours = server.ask(name, qtype, do=True)
    assert verdict(ours) == ("bogus", 2)
    assert not ours.rr
    found = ede_of(ours)
    assert found is not None
    assert found[0] == code, found
    assert text in found[1]
    assert verdict(ask(validator, name, qtype, do=True)) == ("bogus", 2)


def test_a_digest_cannot_be_downgraded(server):
    # RFC 4509 section 3: the DS record with SHA-1 is ignored. unbound accepts it by default.
    reply = server.ask("www.downgraded.test", do=True)
    assert verdict(reply) == ("bogus", 2)
    assert ede_of(reply)[0] == 9


def test_a_cname_made_from_a_dname_is_the_answer_to_a_query_for_it(server):
    # unbound answers SERVFAIL, because the CNAME record has no signature of its own.
    reply = server.ask("mail.redirected.nsec.test", "CNAME", do=True)
    assert verdict(reply) == ("secure", 0)
    assert sorted(it.rtype for it in reply.rr) == [5, 39, 46]


@pytest.mark.parametrize(
    ("name", "code"),
    [("www.unsupported.test", 1), ("www.digest.test", 2), ("missing.iterations.test", 27)],
)
def test_the_reason_of_an_insecure_reply_is_in_the_extended_error(server, name, code):
    assert ede_of(server.ask(name, do=True))[0] == code


def test_ttls_are_at_most_the_original_ones(server):
    (record, signature) = server.ask("www.ttl.test", do=True).rr
    assert record.ttl <= 300
    assert signature.ttl <= 300


# delv accepts a denial with opt-out as secure, against RFC 5155 section 9.2, so none is here.
DELV = [
    ("nsec.test", "q.wild A"), ("nsec.test", "missing A"), ("nsec.test", "abroad A"),
    ("nsec3.test", "q.wild A"), ("nsec3.test", "missing A"), ("optout.test", "www.unsigned A"),
    ("child.optout.test", "www A"), ("unsupported.test", "www A"), ("iterations.test", "missing A"),
    ("downgraded.test", "www A"), ("expired.test", "www A"), ("nokey.test", "www A"),
    ("nodatasig.test", "www A"), ("tampered.test", "www A"), ("nonsec3.test", "q.wild A"),
    ("signer.test", "www A"), ("revoked.test", "www A"),
]  # fmt: skip


def test_verdicts_are_those_of_delv(world, server, upstream):
    """A third implementation, that of BIND."""
    anchor = world.folder / "delv-anchor"
    _, _, tag, algorithm, kind, digest = world.root_ds[0].split()
    anchor.write_text(
        f'trust-anchors {{ "." static-ds {tag} {algorithm} {kind} "{digest.upper()}"; }};\n'
    )
    for zone, words in DELV:
        name, qtype = split(zone, words)
        arguments = [f"@{upstream.address[0]}", "-p", upstream.address[1], "-a", anchor]
        printed = signed_world.run("delv", *arguments, "+root=.", name, qtype)
        if "fully validated" in printed:
            theirs = "secure"
        else:
            theirs = "insecure" if "unsigned answer" in printed else "bogus"
        assert (name, qtype, theirs) == (name, qtype, verdict(server.ask(name, qtype, do=True))[0])
