"""*local* in one server block with *any*, *chaos*, *header*, *cancel*, *on*, *shed* and the caches."""

import dnslib
import pytest

from corepy.corefile import parse
from corepy.dns import query
from corepy.dns.constants import CLASS_CH, CLASS_IN, FLAG_RD, TYPES
from corepy.dns.names import from_text
from corepy.server.build.builder import build
from corepy.testing import Upstream, serve

QUESTIONS = [
    ("localhost", "A", CLASS_IN),
    ("a.localhost", "AAAA", CLASS_IN),
    ("2.0.0.127.in-addr.arpa", "PTR", CLASS_IN),
    ("localhost", "ANY", CLASS_IN),
    ("www.test", "ANY", CLASS_IN),
    ("version.bind", "TXT", CLASS_CH),
    ("version.bind", "TXT", CLASS_IN),
    ("version.bind", "ANY", CLASS_CH),
    ("localhost", "A", CLASS_CH),
    ("www.test", "A", CLASS_IN),
]
HINFO = "the record of any"
BLOCK = """\
. {
    bind 127.0.0.1
    errors
    cancel
    shed
    on startup true
    local
    any
    chaos v1 a b c d e f
    header {
        response set ra
    }
    cache
    forward . %s
}
"""


def answer(asked, _proto):
    """A text that names the type and the class of the question, or an address."""
    reply, question = asked.reply(aa=0, ra=0), asked.q
    is_address = question.qtype == TYPES["A"]
    rtype = TYPES["A" if is_address else "TXT"]
    text = dnslib.TXT(f"upstream {question.qtype} {question.qclass}")
    rdata = dnslib.A("192.0.2.1") if is_address else text
    reply.add_answer(dnslib.RR(question.qname, rtype, question.qclass, 3600, rdata))
    return reply


def without_ttl(wire):
    """The reply as text, without the ID and the TTLs, which fall, and AA, which *cache* sets."""
    record = dnslib.DNSRecord.parse(wire)
    sections = [
        [(str(rr.rname), rr.rtype, rr.rclass, str(rr.rdata)) for rr in section]
        for section in (record.rr, record.auth, record.ar)
    ]
    header = record.header
    return str(record.q), header.rcode, header.ra, header.rd, sections


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("flags", [FLAG_RD, 0])
def test_repetitions_are_the_first_reply(tcp, flags):
    """Questions of one name in several types and classes, in turn, so that none may mix."""
    wires = [
        query(from_text(name), TYPES[qtype], qclass, flags=flags)
        for name, qtype, qclass in QUESTIONS
    ]
    with Upstream(answer) as upstream:
        (router,) = build(parse(BLOCK % upstream.to)).routers.values()
        assert router.routes[0].obstacle is None
        with serve(BLOCK % upstream.to) as server:
            first = [without_ttl(server.exchange(wire, tcp=tcp)) for wire in wires]
            for _ in range(4):
                again = [without_ttl(server.exchange(wire, tcp=tcp)) for wire in wires]
                assert again == first
            # All but the version in the class CH, whose reply has no deadline.
            assert server.packet_entries == len(QUESTIONS) - 1
    answers = [sections[0][0] if sections[0] else None for *_, sections in first]
    assert [it and (HINFO if it[1] == TYPES["HINFO"] else it[3]) for it in answers] == [
        "127.0.0.1",
        "::1",
        None,
        None,  # *local* comes before *any*
        HINFO,
        '"v1"',
        '"upstream 16 1"',
        HINFO,
        "192.0.2.1",
        "192.0.2.1",
    ]
    asked = {text for text, _ in upstream.queries if not text.startswith(". ")}
    assert asked == {"version.bind. TXT", "localhost. A", "www.test. A"}
