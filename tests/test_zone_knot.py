"""The look-up algorithm against Knot DNS: random questions about the same zone, the same answers.

`lookup.nsec.zone` and the others are `lookup.zone`, signed by Knot DNS. To ask more questions, set
COREPY_ZONE_QUESTIONS.
"""

import os
import random
import socket
from pathlib import Path

import pytest

from corepy.dns import Edns, Request, query
from corepy.dns import constants as c
from corepy.dns.names import from_text, labels_of, to_text
from corepy.dns.presentation import rdata_to_text
from corepy.dns.rdata import plain_sections
from corepy.testing.knot import knot
from corepy.zone import read_zone
from corepy.zone.additional import name_at
from corepy.zone.replies import answer, quick_answer

ZONES = Path(__file__).parent / "zones"
ORIGIN = from_text("example.org.")
NUMBER = int(os.environ.get("COREPY_ZONE_QUESTIONS", "200"))
LABELS = [b"a", b"b", b"*", b"www", b"sub", b"x", b"wild", b"ent", b"zz", b"0", b"deep", b"host",
          b"ns1", b"dn", b"target", b"\0", b"\xff.", b"_A", b"a\\b"]  # fmt: skip
TYPES = [c.TYPE_A, c.TYPE_AAAA, c.TYPE_NS, c.TYPE_CNAME, c.TYPE_SOA, c.TYPE_MX, c.TYPE_TXT, c.TYPE_SRV,
         c.TYPE_DS, c.TYPE_RRSIG, c.TYPE_NSEC, c.TYPE_DNSKEY, c.TYPE_NSEC3, 51, c.TYPE_SVCB,
         c.TYPE_HTTPS, c.TYPE_CAA, c.TYPE_DNAME, c.TYPE_PTR, 52, 65280]  # fmt: skip
NAMES_IN_RDATA = {c.TYPE_NS, c.TYPE_CNAME, c.TYPE_DNAME, c.TYPE_PTR, c.TYPE_SOA, c.TYPE_MX}


def some_name(zone, chance):
    """A name of the zone, or one near to it: below, above, beside, in another case."""
    labels = labels_of(chance.choice(list(zone.nodes)))
    kind = chance.random()
    if kind < 0.3:
        labels = [*chance.choices(LABELS, k=chance.randint(1, 3)), *labels]
    elif kind < 0.4 and len(labels) > 2:
        labels = labels[1:]
    elif kind < 0.6 and len(labels) > 2:
        labels = [chance.choice(LABELS), *labels[1:]]
    name = b"".join(bytes((len(it),)) + it for it in labels) + b"\0"
    return chance.choice([name, name, name.upper(), name.title()])


def record(wire):
    """A record as a tuple that can be compared, with names in lower case."""
    owner = name_at(wire, 0)
    at = len(owner)
    rtype = int.from_bytes(wire[at : at + 2], "big")
    ttl = int.from_bytes(wire[at + 4 : at + 8], "big")
    text = rdata_to_text(rtype, wire[at + 10 :])
    text = text.lower() if rtype in NAMES_IN_RDATA else text
    return to_text(owner.lower()), c.type_name(rtype), ttl, text


def sections(wire):
    return [sorted(map(record, records)) for records in plain_sections(wire)]


def is_server(it):
    return it[0] == "example.org." and (it[1] == "NS" or it[3].startswith("NS "))


def without_servers(ours):
    """Without the zone's servers in the authority section of a positive answer."""
    if ours[0] and all(it[1] != "SOA" for it in ours[1]):
        ours[1] = [it for it in ours[1] if not is_server(it)]
    return ours


def deviation(name, qtype, ours, theirs):
    """Why the sections of two replies may differ, None if they must not."""
    mine, other = (sum(it[1] == "CNAME" for it in reply[0]) for reply in (ours, theirs))
    if mine > other or len(theirs[0]) > len(set(theirs[0])):
        return "Knot follows fewer aliases, and repeats the records of a loop"
    if qtype == c.TYPE_RRSIG and len(ours[0]) == len(theirs[0]) == 1:
        return "one of several signatures (RFC 8482 section 7)"
    extra = [it for it in ours[1] if it not in theirs[1]]
    proofs = all(it[1] in ("NSEC", "NSEC3", "RRSIG") for it in extra)
    if ours[0] == theirs[0] and extra and proofs and len(theirs[1]) < len(ours[1]):
        if name.startswith(b"\1*") or name.lower().endswith(b"\4star\7example\3org\0"):
            return "Knot leaves out a proof for an empty wildcard, and for names that begin with *"
        if qtype in (c.TYPE_NSEC, c.TYPE_RRSIG):
            return "Knot leaves out the proof for a wildcard"
    if qtype in (c.TYPE_SVCB, c.TYPE_HTTPS) and ours[:2] == theirs[:2]:
        return "Knot denies additional records of services, and leaves out those of the owner"
    return None


def differences(ours, theirs):
    """What only one of two replies has, section by section."""
    for mine, other in zip(ours, theirs, strict=True):
        yield [it for it in mine if it not in other], [it for it in other if it not in mine]


def ask(client, wire):
    client.send(wire)
    reply = b""
    while reply[:2] != wire[:2]:
        reply = client.recv(65535)
    return reply


@pytest.mark.parametrize("file", ["lookup", "lookup.nsec", "lookup.nsec3", "lookup.optout"])
def test_replies_are_those_of_knot(file):
    path = ZONES / f"{file}.zone"
    zone = read_zone(path, ORIGIN).zone
    chance = random.Random(file)
    compared = 0
    with (
        knot(path.read_text(), "example.org") as address,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        client.connect(address)
        client.settimeout(60)
        for number in range(NUMBER):
            name, qtype = some_name(zone, chance), chance.choice(TYPES)
            edns = Edns(udp_size=4096, do=chance.random() < 0.6)
            wire = query(name, qtype, ident=number & 0xFFFF, flags=0, edns=edns)
            request = Request.from_wire(wire)
            reply, _ = answer(zone, request)
            quick = quick_answer(zone, request)
            assert quick is None or quick.wire == reply.wire
            theirs = ask(client, wire)
            if theirs[2] & 2:  # it does not fit
                continue
            ours, expected = without_servers(sections(reply.wire)), sections(theirs)
            what = to_text(name), c.type_name(qtype), edns.do
            assert (reply.rcode, reply.aa) == (theirs[3] & 15, bool(theirs[2] & 4)), what
            if ours != expected:
                assert deviation(name, qtype, ours, expected), (what, *differences(ours, expected))
            compared += ours == expected
    assert compared > NUMBER * 0.8
