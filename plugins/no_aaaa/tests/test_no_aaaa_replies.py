"""The directive, the replies to AAAA queries, and what is removed from other replies."""

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import FormError, Reply, Request
from corepy.dns.names import from_text
from corepy.dns.presentation import read_record
from corepy.dns.rdata import plain_records
from corepy.dns.reply_validation import reply_problem
from corepy.dns.wire import ADDITIONAL, ANSWER, AUTHORITY
from corepy.loading.order import DIRECTIVES
from corepy.plugin import Cacheability
from corepy.testing import (
    Recorder,
    make_request,
    query,
    refusal,
    run_chain,
    set_up,
)
from corepy_no_aaaa.filtering import filtered, without_hint
from corepy_no_aaaa.metrics import ANSWERED, FILTERED
from corepy_no_aaaa.no_aaaa import NoAAAA

SERVER = "dns://:53"


# -- the directive


@pytest.mark.parametrize(
    ("text", "excepted"),
    [
        ("no_aaaa", ()),
        ("no_aaaa except Example.ORG", ("example.org.",)),
        ("no_aaaa except example.org 10.0.0.0/8", ("example.org.", "10.in-addr.arpa.")),
        ("no_aaaa {\n}", ()),
    ],
)
def test_accepted(text, excepted):
    controller = set_up(text)
    (handler,) = controller.handlers
    assert (handler.excepted, controller.warnings) == (excepted, [])
    assert handler.cacheability is Cacheability.SAFE


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("no_aaaa example.org", "2:9: 'example.org' is not 'except'", "write: no_aaaa except example.org"),
        ("no_aaaa except", "2:9: except without a zone", "name the zones whose AAAA records clients may have"),
        (
            "no_aaaa {\nexcept example.org\n}",
            "3:1: unknown option 'except'",
            "the zones are on the line of the directive: no_aaaa except example.org",
        ),
        (
            "no_aaaa except a\nno_aaaa except b",
            "3:1: this plugin can only be used once per Server Block",
            "name all zones in one directive: no_aaaa except ZONES...",
        ),
    ],
)  # fmt: skip
def test_refused(text, message, hint):
    diagnostic = refusal(text)
    assert str(diagnostic) == f"Corefile:{message}" + (f" ({hint})" if hint else "")


def test_an_invalid_zone():
    assert str(refusal("no_aaaa except a..b")).startswith("Corefile:2:16: ")


def test_all_names_are_excepted():
    (warning,) = set_up("no_aaaa except .").warnings
    assert str(warning) == "Corefile:2:16: warning: no_aaaa has no effect: all names are excepted"


def test_the_position():
    at = DIRECTIVES.index("no_aaaa")
    assert DIRECTIVES[at - 1 : at + 3] == ("blocklist", "no_aaaa", "search_guard", "cache")


# -- AAAA queries


def records(reply):
    record = dnslib.DNSRecord.parse(reply.wire)
    return [[" ".join(str(rr).split()) for rr in it] for it in (record.rr, record.auth, record.ar)]


@pytest.mark.parametrize("name", ["www.example.org.", "wWw.Example.org.", "a." * 100, "."])
@pytest.mark.parametrize("question", [{}, {"do": True}, {"cd": 1}, {"rd": 0}])
def test_no_data(name, question):
    below = Recorder()
    request = make_request(name, "AAAA", **question)
    request.received = 100.0
    value = ANSWERED.labels(SERVER)
    count = value.value
    reply = run_chain(request, NoAAAA(), below)
    soa = f"{request.qname} 300 IN SOA {request.qname} nobody.invalid. 1 3600 1200 604800 300"
    assert records(reply) == [[], [soa], []]
    assert reply_problem(request, reply) is None
    header = reply.record.header
    assert (header.rcode, header.rd, header.cd) == (0, request.rd, request.cd)
    # glibc asks again after an empty reply without AA, RA and additional records.
    assert (header.qr, header.aa, header.tc, header.ra, header.ad) == (1, 1, 0, 0, 0)
    assert (reply.since, reply.deadline, reply.hit_counters) == (100.0, 101.0, (value,))
    assert (value.value - count, below.requests) == (1, [])


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("www.example.org.", {"do": True, "cd": 1}),
        ("www.example.org.", {"opcode": 4}),
        ("except.example.", {}),
        ("www.Except.example.", {}),
        ("www.Except.example.ns1.svc.cluster.local.", {}),
        ("except.example.local.", {}),
    ],
)
def test_aaaa_queries_that_pass(name, question):
    below = Recorder()
    run_chain(make_request(name, "AAAA", **question), NoAAAA(["except.example."]), below)
    assert len(below.requests) == 1


def test_another_class():
    below = Recorder()
    run_chain(make_request("example.org.", "AAAA").derive(qclass=3), NoAAAA(), below)
    assert len(below.requests) == 1


@pytest.mark.parametrize(
    "name",
    ["notexcept.example.", "except.examples.local.", "example.", r"a\006except\007example.local."],
)
def test_names_like_an_excepted_one(name):
    request = make_request("a.", "AAAA").derive(name_wire=from_text(name))
    reply = run_chain(request, NoAAAA(["except.example."]))
    assert reply.rcode == 0
    assert reply.wire[6:10] == b"\0\0\0\1"


# -- other queries


def message(answer=(), authority=(), additional=(), **options):
    """A function that makes this reply."""

    def reply(request):
        sections = [
            [read_record(it, 60).wire for it in each] for each in (answer, authority, additional)
        ]
        made = request.reply(0, *sections)
        for name, value in options.items():
            setattr(made, name, value)
        return made

    return reply


def asked(qtype, make, name="example.org.", **question):
    request = make_request(name, qtype, **question)
    reply = run_chain(request, NoAAAA(["except.example."]), Recorder(make))
    assert reply_problem(request, reply) is None
    return reply


def wires(*lines):
    return [read_record(line, 60).wire for line in lines]


SERVICE = "example.org. 60 IN HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.1"
WITH_HINT = f"{SERVICE} ipv6hint=2001:db8::1"
SIGNED = "example.org. 60 IN RRSIG HTTPS 8 2 60 20300101000000 20200101000000 1 example.org. AAAA"


@pytest.mark.parametrize("qtype", ["HTTPS", "TYPE64", "ANY"])
def test_hints(qtype):
    kind = "SVCB" if qtype == "TYPE64" else "HTTPS"
    lines = [it.replace("HTTPS", kind) for it in (WITH_HINT, SIGNED, SERVICE)]
    value = FILTERED.labels(SERVER)
    count = value.value
    request = make_request("example.org.")
    request = request.derive(qtype={"HTTPS": 65, "TYPE64": 64, "ANY": 255}[qtype])
    make = message(
        lines[:2], ["example.org. 60 IN NS ns.example.org."],
        ["ns.example.org. 60 IN AAAA 2001:db8::53", "ns.example.org. 60 IN A 192.0.2.53"],
        deadline=5.0,
    )  # fmt: skip
    reply = run_chain(request, NoAAAA(), Recorder(make))
    assert list(plain_records(reply.wire, ANSWER)) == wires(lines[2])
    assert list(plain_records(reply.wire, AUTHORITY)) == wires(
        "example.org. 60 IN NS ns.example.org."
    )
    assert list(plain_records(reply.wire, ADDITIONAL)) == wires(
        "ns.example.org. 60 IN A 192.0.2.53"
    )
    assert (reply.deadline, reply.hit_counters) == (5.0, (value,))
    assert value.value - count == 1


def test_the_ad_flag():
    def authentic(request):
        reply = message([WITH_HINT])(request)
        reply.patch(reply.wire[:3] + bytes((reply.wire[3] | 0x20,)) + reply.wire[4:])
        return reply

    assert asked("HTTPS", authentic).wire[3] & 0x20 == 0


@pytest.mark.parametrize(
    ("params", "left"),
    [
        ("mandatory=ipv4hint,ipv6hint ipv4hint=192.0.2.1 ipv6hint=2001:db8::1", "mandatory=ipv4hint ipv4hint=192.0.2.1"),
        ("mandatory=ipv6hint ipv6hint=2001:db8::1,2001:db8::2", ""),
        ("port=53 ipv6hint=2001:db8::1 key65000=x", "port=53 key65000=x"),
    ],
)  # fmt: skip
def test_parameters(params, left):
    reply = asked("HTTPS", message([f"example.org. 60 IN HTTPS 1 svc.example.org. {params}"]))
    expected = f"example.org. 60 IN HTTPS 1 svc.example.org. {left}".strip()
    assert list(plain_records(reply.wire, ANSWER)) == wires(expected)


def test_addresses_beside_services():
    reply = asked("SRV", message(
        ["example.org. 60 IN SRV 0 0 53 a.example.org."], [],
        ["a.example.org. 60 IN A 192.0.2.1", "A.example.org. 60 IN AAAA 2001:db8::1",
         "a.example.org. 60 IN RRSIG AAAA 8 3 60 20300101000000 20200101000000 1 example.org. AAAA",
         "a.example.org. 60 IN RRSIG A 8 3 60 20300101000000 20200101000000 1 example.org. AAAA"],
    ))  # fmt: skip
    assert list(plain_records(reply.wire, ADDITIONAL)) == wires(
        "a.example.org. 60 IN A 192.0.2.1",
        "a.example.org. 60 IN RRSIG A 8 3 60 20300101000000 20200101000000 1 example.org. AAAA",
    )


@pytest.mark.parametrize(
    ("qtype", "name", "lines", "question"),
    [
        ("HTTPS", "example.org.", [SERVICE], {}),
        ("HTTPS", "example.org.", [WITH_HINT], {"do": True, "cd": 1}),
        ("HTTPS", "except.example.", [WITH_HINT], {}),
        ("A", "example.org.", ["example.org. 60 IN A 192.0.2.1", WITH_HINT], {}),
        ("A", "example.org.", ["x. 60 IN AAAA 2001:db8::1"], {}),
        ("SRV", "example.org.", ["example.org. 60 IN SRV 0 0 53 a.example.org."], {}),
    ],
)
def test_unchanged(qtype, name, lines, question):
    """The very same reply, so A records are never affected."""
    made = []

    def make(request):
        made.append(message(lines)(request))
        made.append(made[0].wire)
        return made[0]

    reply = asked(qtype, make, name, **question)
    assert reply is made[0]
    assert reply.wire is made[1]


def test_a_large_reply():
    names = [f"{number}.example.org." for number in range(400)]
    reply = asked("SRV", message(
        [f"example.org. 60 IN SRV 0 0 53 {name}" for name in names], [],
        [f"{name} 60 IN AAAA 2001:db8::1" for name in names],
    ))  # fmt: skip
    assert (reply.ancount, reply.wire[8:12], reply.tc) == (400, bytes(4), False)


@pytest.mark.parametrize("make", [lambda request: request.drop(), lambda request: request.error(2)])
def test_other_replies(make):
    expected = make(make_request("example.org.", "HTTPS"))
    reply = asked("HTTPS", make)
    assert (reply.is_dropped, reply.rcode) == (expected.is_dropped, expected.rcode)


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=60), st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=9))))
def test_any_rdata(noise, params):
    """Malformed parameters stay; of others only the hint and its key go."""
    found = without_hint(noise)
    assert found is None or len(found) < len(noise)
    text = b"".join(
        key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for key, value in params
    )
    left = without_hint(b"\0\1\0" + text)
    assert (left is None) == all(key != 6 for key, _ in params)
    if left is not None:
        assert without_hint(left) is None
        others = [value for key, value in params if key not in (0, 6)]
        assert all(value in left for value in others)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=120))
def test_any_message(noise):
    request = Request.from_wire(query("example.org.", "HTTPS"))
    wire = request.error(0).wire
    reply = Reply(wire[:6] + b"\0\1\0\0\0\1" + wire[12:] + noise)
    try:
        found = filtered(request, reply)
    except FormError:
        return
    assert found is None or reply_problem(request, Reply(found)) is None


@pytest.mark.parametrize(
    ("name", "qtype", "question", "state"),
    [
        ("a.", "AAAA", {}, "answers"),
        ("a.", "HTTPS", {}, "removes IPv6 addresses"),
        ("a.", "A", {}, "not affected"),
        ("a.", "AAAA", {"do": True, "cd": 1}, "the client validates (DO and CD)"),
        ("except.example.", "AAAA", {}, "excepted"),
    ],
)
def test_the_state(name, qtype, question, state):
    handler = NoAAAA(["except.example."])
    assert handler.explain_state(make_request(name, qtype, **question)) == {"state": state}
