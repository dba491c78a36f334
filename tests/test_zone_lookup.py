"""The look-up in a zone: what CoreDNS's tests of *file* ask, and where RFCs decide otherwise."""

from pathlib import Path

import pytest

from corepy.dns.names import MAX_NAME, from_text
from corepy.testing import helper_module
from corepy.zone import Lookup, Match, read_zone
from corepy.zone.denial import NSEC3Parameters
from corepy.zone.replies import quick_answer

texts = helper_module(__file__, "zone_texts")
SOA = "@ 300 SOA ns1 host 1 7200 3600 1209600 300"
NS = ["@ 3600 NS ns1"]
LONG = ".".join(["x" * 60] * 3)
ZONE = texts.zone_from(f"""
@ MX 1 mail
@ MX 2 Mail
@ MX 5 mx.example.net.
@ CAA 0 issue "ca.example.net"
ns1 A 192.0.2.1
mail A 192.0.2.2
mail AAAA 2001:db8::2
www CNAME a
a A 192.0.2.3
a AAAA 2001:db8::3
twice A 192.0.2.4
twice 60 A 192.0.2.4
ttls 600 A 192.0.2.5
ttls 60 A 192.0.2.6
b.ent A 192.0.2.7
*.w TXT "wild"
*.w MX 1 mail
here.w A 192.0.2.8
x.ent.w A 192.0.2.9
*.wa CNAME a
*.wo CNAME elsewhere.example.net.
no CNAME nothing
nodata CNAME b.ent
out CNAME www.example.net.
loop1 CNAME loop2
loop2 CNAME loop1
sub NS ns.sub
sub NS ns1
sub NS ns.example.net.
ns.sub A 192.0.2.10
ns.sub AAAA 2001:db8::10
below.sub A 192.0.2.11
tosub CNAME below.sub
top NS ns.sub
_sip._tcp SRV 1 1 5060 a
_sip._tcp SRV 1 2 5061 A
svc HTTPS 1 . alpn=h2
svc A 192.0.2.12
alias HTTPS 0 svc
d DNAME target
d A 192.0.2.13
occluded.d A 192.0.2.14
target TXT "target"
t.target A 192.0.2.15
d2 DNAME example.net.
dl DNAME {LONG}
dd DNAME dd
todname CNAME t.d
""")


def test_the_origin():
    assert texts.ask(ZONE, "@", "SOA") == ("0 aa", [SOA.replace("@ 300", "@ 3600")], NS, [])
    assert texts.ask(ZONE, "@", "NS") == ("0 aa", NS, [], ["ns1 3600 A 192.0.2.1"])


@pytest.mark.parametrize(
    ("name", "rtype", "answers"),
    [
        ("a", "A", ["a 3600 A 192.0.2.3"]),
        ("A", "AAAA", ["a 3600 AAAA 2001:db8::3"]),
        ("www", "A", ["www 3600 CNAME a", "a 3600 A 192.0.2.3"]),
        ("www", "CNAME", ["www 3600 CNAME a"]),
        ("twice", "A", ["twice 60 A 192.0.2.4"]),  # once, RFC 2181 section 5.5
        ("ttls", "A", ["ttls 60 A 192.0.2.5", "ttls 60 A 192.0.2.6"]),
        ("any.w", "TXT", ['any.w 3600 TXT "wild"']),
        ("one.more.w", "TXT", ['one.more.w 3600 TXT "wild"']),
        ("any.wa", "A", ["any.wa 3600 CNAME a", "a 3600 A 192.0.2.3"]),
        ("a", "ANY", ["a 3600 A 192.0.2.3"]),  # one set, RFC 8482 section 4.1
        ("d", "A", ["d 3600 A 192.0.2.13"]),  # the owner of a DNAME record
        ("d", "DNAME", ["d 3600 DNAME target"]),
        (
            "t.d", "A",
            ["d 3600 DNAME target", "t.d 3600 CNAME t.target", "t.target 3600 A 192.0.2.15"],
        ),
        ("t.d", "CNAME", ["d 3600 DNAME target", "t.d 3600 CNAME t.target"]),
        (
            "todname", "A",
            [
                "todname 3600 CNAME t.d", "d 3600 DNAME target", "t.d 3600 CNAME t.target",
                "t.target 3600 A 192.0.2.15",
            ],
        ),
        ("loop1", "A", ["loop1 3600 CNAME loop2", "loop2 3600 CNAME loop1"]),  # each once
        ("x.dd", "A", ["dd 3600 DNAME dd", "x.dd 3600 CNAME x.dd"]),
    ],
)  # fmt: skip
def test_answers(name, rtype, answers):
    assert texts.ask(ZONE, name, rtype) == ("0 aa", answers, NS, [])


@pytest.mark.parametrize(
    ("name", "rtype", "answers", "additional"),
    [
        (
            "@", "MX",
            ["@ 3600 MX 1 mail", "@ 3600 MX 2 Mail", "@ 3600 MX 5 mx.example.net."],
            ["mail 3600 A 192.0.2.2", "mail 3600 AAAA 2001:db8::2"],
        ),
        (
            "any.w", "MX", ["any.w 3600 MX 1 mail"],
            ["mail 3600 A 192.0.2.2", "mail 3600 AAAA 2001:db8::2"],
        ),
        (
            "_sip._tcp", "SRV",
            ["_sip._tcp 3600 SRV 1 1 5060 a", "_sip._tcp 3600 SRV 1 2 5061 A"],
            ["a 3600 A 192.0.2.3", "a 3600 AAAA 2001:db8::3"],
        ),
        ("svc", "HTTPS", ['svc 3600 HTTPS 1 . alpn="h2"'], ["svc 3600 A 192.0.2.12"]),
        (
            "alias", "HTTPS", ["alias 3600 HTTPS 0 svc"],
            ['svc 3600 HTTPS 1 . alpn="h2"', "svc 3600 A 192.0.2.12"],
        ),
    ],
)  # fmt: skip
def test_additional_records(name, rtype, answers, additional):
    assert texts.ask(ZONE, name, rtype) == ("0 aa", answers, NS, additional)


@pytest.mark.parametrize(
    ("name", "rtype", "reply"),
    [
        ("nothing", "A", ("3 aa", [], [SOA], [])),
        ("a", "TXT", ("0 aa", [], [SOA], [])),
        ("ent", "A", ("0 aa", [], [SOA], [])),
        ("here.w", "TXT", ("0 aa", [], [SOA], [])),  # the name exists
        ("y.here.w", "TXT", ("3 aa", [], [SOA], [])),  # RFC 4592 section 2.2.1
        ("ent.w", "TXT", ("0 aa", [], [SOA], [])),  # section 2.2.2
        ("y.ent.w", "TXT", ("3 aa", [], [SOA], [])),
        ("any.w", "A", ("0 aa", [], [SOA], [])),
        ("no", "A", ("3 aa", ["no 3600 CNAME nothing"], [SOA], [])),  # RFC 6604 section 3
        ("nodata", "TXT", ("0 aa", ["nodata 3600 CNAME b.ent"], [SOA], [])),
        (
            "occluded.d", "A",
            (
                "3 aa", ["d 3600 DNAME target", "occluded.d 3600 CNAME occluded.target"], [SOA], [],
            ),
        ),
        ("sub", "DS", ("0 aa", [], [SOA], [])),  # RFC 4035 section 3.1.4.1
        ("y.x.dl", "A", ("3 aa", ["dl 3600 DNAME " + LONG, f"y.x.dl 3600 CNAME y.x.{LONG}"], [SOA],
                         [])),
        (f"{'y' * 60}.dl", "A", ("6 aa", [f"dl 3600 DNAME {LONG}"], [], [])),  # YXDOMAIN
    ],
)  # fmt: skip
def test_denials(name, rtype, reply):
    """Replies without data have the SOA record with the TTL of a denial (RFC 2308 section 3)."""
    assert texts.ask(ZONE, name, rtype) == reply


REFERRAL = ["sub 3600 NS ns.sub", "sub 3600 NS ns1", "sub 3600 NS ns.example.net."]
GLUE = ["ns.sub 3600 A 192.0.2.10", "ns.sub 3600 AAAA 2001:db8::10", "ns1 3600 A 192.0.2.1"]


@pytest.mark.parametrize(
    ("name", "rtype"),
    [("sub", "A"), ("sub", "NS"), ("below.sub", "A"), ("x.y.sub", "TXT"), ("x.sub", "DS")],
)
def test_referrals(name, rtype):
    assert texts.ask(ZONE, name, rtype) == ("0", [], REFERRAL, GLUE)


def test_an_alias_into_a_child_zone():
    """The part that this zone answers is authoritative."""
    answers = ["tosub 3600 CNAME below.sub"]
    assert texts.ask(ZONE, "tosub") == ("0 aa", answers, REFERRAL, GLUE)


def test_glue_of_another_child():
    assert texts.ask(ZONE, "x.top") == ("0", [], ["top 3600 NS ns.sub"], GLUE[:2])


@pytest.mark.parametrize(
    ("name", "answers", "target"),
    [
        ("out", ["out 3600 CNAME www.example.net."], "www.example.net."),
        ("any.wo", ["any.wo 3600 CNAME elsewhere.example.net."], "elsewhere.example.net."),
        (
            "x.d2",
            ["d2 3600 DNAME example.net.", "x.d2 3600 CNAME x.example.net."],
            "x.example.net.",
        ),
    ],
)
def test_aliases_out_of_the_zone(name, answers, target):
    found = Lookup(ZONE, texts.full_name(name), 1, do=False)
    assert found.outside == from_text(target)
    assert found.match is Match.OUTSIDE
    assert texts.ask(ZONE, name) == ("0 aa", answers, [], [])


@pytest.mark.parametrize(
    ("name", "match", "source"),
    [
        ("a", Match.EXACT, "a"),
        ("ent", Match.EMPTY_NON_TERMINAL, "ent"),
        ("q.w", Match.WILDCARD, "*.w"),
        ("q.q.ent.w", Match.NO_NAME, "ent.w"),
        ("x.sub", Match.DELEGATION, "sub"),
        ("www", Match.EXACT, "a"),
        (f"{'y' * 60}.dl", Match.DNAME, "dl"),
    ],
)
def test_how_a_name_was_found(name, match, source):
    found = Lookup(ZONE, texts.full_name(name), 1, do=False)
    assert (found.match, texts.relative(found.source)) == (match, source)


def test_chains_end():
    links = "".join(f"c{number} CNAME c{number + 1}\n" for number in range(100))
    zone = texts.zone_from(links)
    _, answers, _, _ = texts.ask(zone, "c0")
    assert len(answers) == 17


@pytest.mark.parametrize(
    "name", ["a", "ent", "q.w", "nothing", "x.sub", "sub", "occluded.d", "t.d"]
)
@pytest.mark.parametrize("rtype", ["A", "TXT", "MX", "DS"])
def test_the_quick_path_answers_as_the_look_up(name, rtype):
    request = texts.request_for(name, rtype)
    quick = quick_answer(ZONE, request)
    if quick is not None:
        assert (f"{quick.rcode} aa", *texts.sections_of(quick)) == texts.ask(ZONE, name, rtype)
    assert (quick is None) == ((name, rtype) not in {("a", "A")})


def test_a_name_of_the_maximum_length():
    zone = texts.zone_from("*.w TXT wild\n")
    name = ".".join(["x" * 57] * 4) + ".w"
    assert len(texts.full_name(name)) <= MAX_NAME
    assert texts.ask(zone, name, "TXT")[1] == [f'{name} 3600 TXT "wild"']


def test_the_root_zone():
    head = ". 3600 SOA a. b. 1 2 3 4 5\n. 3600 NS a.\n"
    zone = texts.zone_from("org. NS ns.org.\nns.org. A 192.0.2.1\n", b"\0", head=head)
    request = texts.request_for("www.example.org.")
    found = Lookup(zone, request.name_wire, 1, do=False)
    assert found.match is Match.DELEGATION
    found = Lookup(zone, b"\0", 6, do=False)
    assert found.answer.count == 1
    assert Lookup(zone, b"\3com\0", 1, do=False).rcode == 3


def signed(kind):
    return read_zone(Path(__file__).parent / "zones" / f"lookup.{kind}.zone", texts.ORIGIN).zone


@pytest.mark.parametrize("kind", ["nsec", "nsec3", "optout"])
def test_a_signed_zone_without_do_is_as_unsigned(kind):
    zone = signed(kind)
    for name in ("www", "nothing", "ent", "x.sub", "x.wild"):
        reply = texts.ask(zone, name)
        assert not any(" RRSIG " in it or " NSEC" in it for part in reply[1:] for it in part)


@pytest.mark.parametrize(
    ("name", "rtype", "denials"),
    [
        ("www", "A", []),
        ("www", "SRV", ["www"]),
        ("nothing", "A", ["naptr", "example.org"]),
        ("ent", "A", ["dn-wild"]),
        ("x.wild", "A", ["x.ent.wild"]),  # no closer match
        ("x.wild", "SRV", ["*.wild", "x.ent.wild"]),
        ("sub", "DS", ["sub"]),
        ("x.sub", "A", ["sub"]),
        ("x.secure", "A", []),
        ("alias-nx", "A", ["naptr", "example.org"]),
        ("alias-wild", "A", ["x.ent.wild"]),
    ],
)
def test_nsec_proofs(name, rtype, denials):
    """CoreDNS leaves several of them out (RFC 4035 section 3.1.3)."""
    _, _, authority, _ = texts.ask(signed("nsec"), name, rtype, do=True)
    found = [it.split()[0] for it in authority if it.split()[2] == "NSEC"]
    expected = {"example.org": "@"}
    assert sorted(found) == sorted(expected.get(it, it) for it in denials)
    signatures = [it.split()[0] for it in authority if it.split()[2:4] == ["RRSIG", "NSEC"]]
    assert signatures == found


def test_a_dropped_denial_leaves_the_proof_for_the_alias():
    """The handler drops it if the target is in another zone."""
    nsec = "@ NSEC *.w SOA NS\n*.w CNAME missing\n*.w NSEC @ CNAME\n"
    signature = "@ RRSIG SOA 13 2 3600 20300101000000 20200101000000 1 example.org. AAAA\n"
    found = Lookup(texts.zone_from(nsec + signature), texts.full_name("x.w"), 1, do=True)
    assert (found.last, found.authority.count) == (texts.full_name("missing"), 4)
    found.drop_denial()
    assert found.authority.count == 1  # the NSEC record that covers x.w


def test_wildcard_signatures_have_the_name_that_was_asked():
    _, answers, _, _ = texts.ask(signed("nsec"), "x.cwild", "A", do=True)
    assert [" ".join(it.split()[:4]) for it in answers] == [
        "x.cwild 3600 CNAME www", "x.cwild 3600 RRSIG CNAME",
        "www 3600 A 192.0.2.10", "www 3600 RRSIG A",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "rtype", "number"),
    [
        ("www", "SRV", 1),
        ("nothing", "A", 3),
        ("x.wild", "A", 1),
        ("x.wild", "SRV", 3),
        ("sub", "DS", 1),
        ("x.sub", "A", 1),
    ],
)
def test_nsec3_proofs(name, rtype, number):
    """RFC 5155 sections 7.2.2 to 7.2.7."""
    _, _, authority, _ = texts.ask(signed("nsec3"), name, rtype, do=True)
    assert sum(it.split()[2] == "NSEC3" for it in authority) <= number
    assert any(it.split()[2] == "NSEC3" for it in authority)


def test_the_owner_of_an_nsec3_record_does_not_exist():
    """RFC 5155 section 7.2.8."""
    zone = signed("nsec3")
    owner = next(iter(zone.hashed_nodes))
    assert Lookup(zone, owner, 50, do=True).rcode == 3


def test_nsec3_records_at_names_that_are_no_hashes():
    """They are neither used nor found by accident: RFC 5155 section 3."""
    name = NSEC3Parameters(0, b"").hash(texts.ORIGIN).decode()
    hashed = f"NSEC3 1 0 0 - {name} SOA NSEC3PARAM"
    text = f"@ NSEC3PARAM 1 0 0 -\n{name} {hashed}\n"
    text += "@ RRSIG SOA 8 2 60 20300101000000 20200101000000 1 . AAAA\n"
    expected = texts.ask(texts.zone_from(text), "x", do=True)
    odd = "".join(f"{it} {hashed}\n" for it in ("@", "00.x", "zz.x", "*.b"))
    for number in range(10):
        zone = texts.zone_from(text + odd)
        assert texts.ask(zone, f"x{number}", do=True)[1:] == expected[1:]
