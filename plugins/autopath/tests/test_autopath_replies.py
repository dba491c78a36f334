"""What a client gets: the cases of plugin/autopath/autopath_test.go, and the faults of CoreDNS."""

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import FormError, Reply
from corepy.dns.names import from_text
from corepy.dns.reply_validation import reply_problem
from corepy.plugin import Cacheability, Handler
from corepy.testing import Recorder, make_request, reply_of, run_chain
from corepy_autopath.autopath import AutoPath
from corepy_autopath.metrics import SUCCESSES

PATH = ("example.org.", "example.com.", "com.", ".")
SOA = "example.org. 1800 IN SOA example.org. example.org. 1502165581 14400 3600 604800 14400"
NXDOMAIN, SERVFAIL, REFUSED = 3, 2, 5


def wires(path):
    return tuple(from_text(name) for name in path)


def message(answer=(), authority=(), additional=(), **header):
    """A function that makes this reply."""

    values = {"aa": 0, **header}

    def reply(request):
        question = dnslib.DNSRecord.parse(request.wire)
        return Reply.from_wire(reply_of(question, answer, authority, additional, **values))

    return reply


def address(name, ttl=3600):
    return message([f"{name} {ttl} IN A 127.0.0.53"])


GONE = message([], [SOA], rcode=NXDOMAIN)


class Zone(Handler):
    """Answers by name, others with SERVFAIL; its replies may be repeated for `keep` seconds."""

    name = "zone"
    cacheability = Cacheability.SETS_DEADLINE

    def __init__(self, replies):
        self.replies = replies
        self.asked = []
        self.keep = {}
        self.hits = 0

    async def serve_dns(self, request):
        self.asked.append(request.qname)
        make = self.replies.get(request.name)
        reply = request.error(SERVFAIL) if make is None else make(request)
        if request.name in self.keep:
            since, until = self.keep[request.name]
            reply.since, reply.deadline = request.received + since, request.received + until
            reply.hit_counters = (self,)
        return reply

    def count_hits(self, times):
        self.hits += times


def search(name, replies, path=PATH, zones=(".",), **question):
    """The reply as text, and the names that were asked for."""
    zone = Zone(replies)
    qclass = question.pop("qclass", 1)
    request = make_request(name, question.pop("qtype", "A"), **question)
    if qclass != 1:
        request = request.derive(qclass=qclass)
    reply = run_chain(request, AutoPath(zones, wires(path)), zone)
    if len(zone.asked) > 1:
        assert reply_problem(request, reply) is None
    return reply, zone.asked


def lines(reply):
    """The rcode and all records of a reply."""
    record = reply.record
    sections = (record.rr, record.auth, record.ar)
    return [reply.rcode] + [[" ".join(str(rr).split()) for rr in it] for it in sections]


COREDNS = {
    "b.example.org.": GONE,
    "b.example.com.": GONE,
    "b.com.": address("b.com."),
    "a.example.com.": address("a.example.com."),
}


def test_a_name_further_down_the_path():
    """CoreDNS gives the alias the TTL of the address, 3600: longer than the denials are valid."""
    reply, asked = search("b.example.org.", COREDNS)
    assert lines(reply) == [
        0,
        ["b.example.org. 1800 IN CNAME b.com.", "b.com. 3600 IN A 127.0.0.53"],
        [],
        [],
    ]
    assert asked == ["b.example.org.", "b.example.com.", "b.com."]


def test_a_name_outside_the_first_domain():
    reply, asked = search("a.example.com.", COREDNS)
    assert lines(reply) == [0, ["a.example.com. 3600 IN A 127.0.0.53"], [], []]
    assert asked == ["a.example.com."]


def test_no_answer_at_all():
    reply, asked = search("c.example.org.", {})
    assert lines(reply) == [SERVFAIL, [], [], []]
    assert asked == ["c.example.org.", "c.example.com.", "c.com.", "c."]


@pytest.mark.parametrize(
    ("name", "is_searched"),
    [
        ("google.com", False),
        ("default.svc.cluster.local.", False),  # CoreDNS: SERVFAIL
        ("a.default.svc.cluster.local.", True),
        ("a.b.svc.cluster.local.", False),
        ("adefault.svc.cluster.local.", False),
        ("a.b.DEFAULT.svc.cluster.Local.", True),
    ],
)
def test_names_in_the_first_domain(name, is_searched):
    path = ("default.svc.cluster.local.", "svc.cluster.local.", "cluster.local.")
    _, asked = search(name, {}, path)
    assert len(asked) == (3 if is_searched else 1)


# -- what the reply has


def test_the_first_name_exists():
    """CoreDNS adds a second alias if the reply has one."""
    chain = message(
        ["b.example.org. 60 IN CNAME x.example.org.", "x.example.org. 5 IN A 192.0.2.1"]
    )
    reply, asked = search("b.example.org.", {"b.example.org.": chain})
    assert lines(reply) == [
        0,
        ["b.example.org. 60 IN CNAME x.example.org.", "x.example.org. 5 IN A 192.0.2.1"],
        [],
        [],
    ]
    assert asked == ["b.example.org."]


def test_the_case_of_the_query():
    reply, asked = search("B.eXample.ORG.", COREDNS)
    assert lines(reply)[1] == ["B.eXample.ORG. 1800 IN CNAME B.com.", "b.com. 3600 IN A 127.0.0.53"]
    assert asked == ["B.eXample.ORG.", "B.example.com.", "B.com."]


def test_several_labels():
    replies = {"www.b.example.org.": GONE, "www.b.": address("www.b.", 7)}
    reply, _ = search("www.b.example.org.", replies, ("example.org.", "."))
    assert lines(reply)[1] == ["www.b.example.org. 7 IN CNAME www.b.", "www.b. 7 IN A 127.0.0.53"]


@pytest.mark.parametrize(
    ("denial", "ttl"),
    [
        (message([], [SOA.replace("604800 14400", "604800 9")], rcode=NXDOMAIN), 9),
        (message([], [SOA.replace("1800", "20")], rcode=NXDOMAIN), 20),
        (message(rcode=NXDOMAIN), 5),
        (message(["b.example.org. 4 IN CNAME x."], [SOA], rcode=NXDOMAIN), 4),
        (message(rcode=SERVFAIL), 5),
        (GONE, 100),
    ],
)
def test_the_alias_expires_with_the_denials(denial, ttl):
    replies = {"b.example.org.": denial, "b.": address("b.", 100)}
    reply, _ = search("b.example.org.", replies, ("example.org.", "."))
    assert lines(reply)[1][0] == f"b.example.org. {ttl} IN CNAME b."


def test_no_data():
    """CoreDNS sends no alias, although the SOA record is that of another zone."""
    nodata = message([], ["com. 300 IN SOA a. b. 1 2 3 4 60"])
    replies = {"b.example.org.": GONE, "b.com.": nodata}
    reply, _ = search("b.example.org.", replies, ("example.org.", "com.", "."), qtype="AAAA")
    assert lines(reply) == [
        0,
        ["b.example.org. 60 IN CNAME b.com."],
        ["com. 300 IN SOA a. b. 1 2 3 4 60"],
        [],
    ]


def test_all_sections_and_flags():
    found = message(
        ["b. 60 IN MX 10 mx.b."],
        ["b. 60 IN NS ns.b."],
        ["mx.b. 60 IN A 192.0.2.1"],
        aa=1,
        ad=1,
        tc=1,
    )
    path = ("example.org.", ".")
    reply, _ = search("b.example.org.", {"b.example.org.": GONE, "b.": found}, path, qtype="MX")
    assert lines(reply) == [
        0,
        ["b.example.org. 60 IN CNAME b.", "b. 60 IN MX 10 mx.b."],
        ["b. 60 IN NS ns.b."],
        ["mx.b. 60 IN A 192.0.2.1"],
    ]
    header = reply.record.header
    assert (header.aa, header.tc, header.ra, header.rd, header.ad) == (1, 1, 1, 1, 0)


def test_the_options_of_the_reply():
    def stale(request):
        reply = address("b.")(request)
        reply.options = b"\0\x0f\0\2\0\3"
        return reply

    replies = {"b.example.org.": GONE, "b.": stale}
    reply, _ = search("b.example.org.", replies, ("example.org.", "."))
    assert reply.options == b"\0\x0f\0\2\0\3"


# -- where the search ends


def test_nothing_exists():
    reply, asked = search("b.example.org.", dict.fromkeys(
        ("b.example.org.", "b.example.com.", "b.com.", "b."), GONE
    ))  # fmt: skip
    assert lines(reply) == [NXDOMAIN, [], [SOA], []]
    assert len(asked) == 4


def test_servfail_of_a_name_server():
    """The search goes on, as that of glibc; at its end, the first reply counts."""
    replies = {"b.example.org.": GONE, "b.com.": address("b.com.")}
    reply, _ = search("b.example.org.", replies)
    assert lines(reply)[1] == ["b.example.org. 5 IN CNAME b.com.", "b.com. 3600 IN A 127.0.0.53"]
    reply, asked = search("b.example.org.", {"b.example.org.": GONE})
    assert (lines(reply), len(asked)) == ([NXDOMAIN, [], [SOA], []], 4)


def failed(request):
    return request.error(SERVFAIL, "no upstream answers")


def busy(request):
    reply = request.error(SERVFAIL)
    reply.is_momentary = True
    return reply


@pytest.mark.parametrize("failure", [failed, busy, lambda request: request.drop()])
def test_a_failure_ends_the_search(failure):
    """README of CoreDNS: on any failures, the original reply is returned."""
    reply, asked = search("b.example.org.", {"b.example.org.": GONE, "b.example.com.": failure})
    assert lines(reply) == [NXDOMAIN, [], [SOA], []]
    assert not reply.is_dropped
    assert len(asked) == 2
    reply, asked = search("b.example.org.", {"b.example.org.": failure})
    expected = failure(make_request("b.example.org."))
    assert lines(reply) == [expected.rcode, [], [], []]
    assert (reply.error, reply.is_dropped) == (expected.error, expected.is_dropped)
    assert len(asked) == 1


def test_refused_is_final():
    """As in CoreDNS (test/acl_autopath_test.go): a name that a client is denied is not evaded."""

    def refused(request):
        return request.error(REFUSED, ede=(15, ""))

    reply, asked = search("b.example.org.", {"b.example.com.": refused})
    assert lines(reply) == [REFUSED, [], [], []]
    assert reply.options == b"\0\x0f\0\2\0\x0f"
    assert asked == ["b.example.org.", "b.example.com."]


def test_an_exception():
    def broken(request):
        raise FormError("broken")

    with pytest.raises(FormError):
        search("b.example.org.", {"b.example.org.": GONE, "b.example.com.": broken})


def with_record(request, rtype, rdata):
    """A reply with one record of the name asked for."""
    wire = request.error(0).wire
    fixed = rtype.to_bytes(2, "big") + b"\0\1\0\0\0\1" + len(rdata).to_bytes(2, "big")
    return Reply(b"".join((wire[:6], b"\0\1", wire[8:], b"\xc0\x0c", fixed, rdata)))


def test_a_reply_that_is_malformed():
    """Its records cannot be copied."""
    replies = {"b.example.org.": GONE, "b.com.": lambda it: with_record(it, 1, b"abc")}
    reply, _ = search("b.example.org.", replies, ("example.org.", "com."))
    assert lines(reply) == [NXDOMAIN, [], [SOA], []]


def test_a_reply_without_room_for_the_alias():
    """The alias is kept, and the client learns that records are missing."""
    name = "b." + "a." * 110
    replies = {
        f"{name}example.org.": GONE, f"{name}com.": lambda it: with_record(it, 16, bytes(65_200))
    }  # fmt: skip
    reply, _ = search(f"{name}example.org.", replies, ("example.org.", "com."), qtype="TXT")
    assert lines(reply) == [0, [f"{name}example.org. 1 IN CNAME {name}com."], [], []]
    assert reply.tc


def test_names_that_are_too_long():
    long = ".".join(["x" * 60] * 4) + "."
    _, asked = search("abcdefghijk.org.", {}, ("org.", long, "."))
    assert asked == ["abcdefghijk.org.", "abcdefghijk."]


def test_a_domain_twice():
    _, asked = search("a.org.", {}, ("org.", "com.", "com.", ".", "org.", "."))
    assert asked == ["a.org.", "a.com.", "a."]


def test_the_root_as_the_first_domain():
    _, asked = search("a.", {}, (".", "com."))
    assert asked == ["a.", "a.com."]
    _, asked = search(".", {}, (".", "com."))
    assert asked == ["."]


# -- queries that are passed on


@pytest.mark.parametrize(
    "question",
    [
        {"do": True, "cd": 1},
        {"qclass": 3},
        {"qtype": "AXFR"},
        {"qtype": "IXFR"},
        {"opcode": 4},
        {"zones": ("example.com.",)},
    ],
)
def test_passed_on(question):
    reply, asked = search("b.example.org.", {"b.example.org.": GONE}, **question)
    assert (reply.rcode, asked) == (NXDOMAIN, ["b.example.org."])


@pytest.mark.parametrize("question", [{"do": True}, {"cd": 1}, {"zones": ("org.",)}])
def test_not_passed_on(question):
    reply, _ = search("b.example.org.", COREDNS, **question)
    assert len(lines(reply)[1]) == 2


def test_without_a_path():
    _, asked = search("b.example.org.", COREDNS, ())
    assert asked == ["b.example.org."]


# -- the packet cache and the metric


def keeping(keep):
    zone = Zone(COREDNS)
    zone.keep = keep
    request = make_request("b.example.org.")
    request.received = 100.0
    reply = run_chain(request, AutoPath((".",), wires(PATH)), zone)
    return reply, zone


def test_the_deadline_is_the_first_of_all():
    reply, zone = keeping(
        {"b.example.org.": (-3, 20), "b.example.com.": (-9, 5), "b.com.": (-0.5, 60)}
    )
    assert (reply.since, reply.deadline) == (99.5, 105.0)
    counters = list(reply.hit_counters)
    counters.remove(SUCCESSES.labels("dns://:53"))
    assert counters == [zone] * 3


def test_a_part_without_a_deadline():
    reply, _ = keeping({"b.example.org.": (-3, 20), "b.com.": (-1, 60)})
    assert reply.deadline is None


def test_the_deadline_of_a_denial():
    zone = Zone(dict.fromkeys(("b.org.", "b.com."), GONE))
    zone.keep = {"b.org.": (-3, 20), "b.com.": (-9, 5)}
    request = make_request("b.org.")
    request.received = 100.0
    reply = run_chain(request, AutoPath((".",), wires(("org.", "com."))), zone)
    assert (reply.rcode, reply.since, reply.deadline) == (NXDOMAIN, 97.0, 105.0)
    assert reply.hit_counters == (zone, zone)


def counted(name, replies):
    value = SUCCESSES.labels("dns://:53")
    before = value.value
    search(name, replies)
    return value.value - before


def test_the_metric():
    assert counted("b.example.org.", COREDNS) == 1
    assert counted("b.example.org.", {"b.example.org.": address("b.example.org.")}) == 1
    assert counted("a.example.com.", COREDNS) == 0
    assert counted("gone.example.org.", {}) == 0


def test_the_state():
    handler = AutoPath(("example.org.",), wires(("example.org.", "com.", ".")))
    state = {"state": "searched", "search path": "example.org. com. ."}
    assert handler.explain_state(make_request("a.example.org.")) == state
    assert handler.explain_state(make_request("example.org.")) == {"state": "not searched"}


# -- any names and replies

LABEL = st.sampled_from(["a", "b", "org", "com", "x" * 63])
NAME = st.lists(LABEL, max_size=3).map(lambda it: ".".join([*it, ""]) if it else ".")
OUTCOMES = {
    "none": GONE,
    "no data": message([], [SOA]),
    "address": message(["b. 60 IN A 192.0.2.1"]),
    "refused": message(rcode=REFUSED),
    "failure": failed,
}


@settings(max_examples=60, deadline=None)
@given(
    name=NAME,
    path=st.lists(NAME, max_size=4),
    outcomes=st.lists(st.sampled_from(list(OUTCOMES)), min_size=4, max_size=4),
)
def test_the_reply_is_that_of_the_first_answer(name, path, outcomes):
    left = [OUTCOMES[it] for it in outcomes]
    below = Recorder(lambda request: left.pop(0)(request))
    request = make_request(name)
    reply = run_chain(request, AutoPath((".",), wires(path)), below)
    assert reply_problem(request, reply) is None
    asked = [it.name for it in below.requests]
    assert asked[0] == request.name
    assert len(set(asked)) == len(asked) <= max(1, len(path))
    used = outcomes[: len(asked)]
    assert set(used[:-1]) <= {"none"}
    if used[-1] in ("no data", "address") and len(asked) > 1:
        alias = reply.record.rr[0]
        assert (str(alias.rname), str(alias.rdata)) == (request.name, asked[-1])
