"""Rules for TTLs and rcodes: the tables of plugin/rewrite/{ttl,rcode}_test.go, and the caches."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corepy.dns import constants as c
from corepy.dns import finish
from corepy.dns.edns import EDE_BLOCKED, ede
from corepy.dns.presentation import read_record
from corepy.dns.wire import read_ttl, ttl_offsets
from corepy.plugin import Cacheability, Handler
from corepy.server.listen.packet_cache import CachedReply, MemoryPool
from corepy.testing import Recorder, Upstream, make_request, run_chain, serve, set_up

TTL_RULES = "\n".join(
    f"rewrite stop ttl {rule}"
    for rule in (
        "srv1.coredns.rocks 1",
        "exact srv15.coredns.rocks 15",
        "prefix srv30 30",
        "suffix 45.coredns.rocks 45",
        "substring rv50 50",
        r"regex (srv10)\.(coredns)\.(rocks) 10",
        r"regex (srv20)\.(coredns)\.(rocks) 20",
        "range.example.com. 30-300",
        "ceil.example.com. -11",
        "floor.example.com. 5-",
    )
)


def rewritten(text, name, qtype="A", answer=(), rcode=0, authority=(), **question):
    """Return the reply to a query that passes the rules in `text`."""
    (handler,) = set_up(text).handlers
    answers = [read_record(each, 60).wire for each in answer]
    denial = [read_record(each, 60).wire for each in authority]
    below = Recorder(lambda asked: asked.reply(rcode, answers, denial))
    return run_chain(make_request(name, qtype, **question), handler, below)


@pytest.mark.parametrize(
    ("name", "qtype", "data", "ttl", "expected"),
    [
        ("srv1.coredns.rocks.", "A", "10.0.0.1", 5, 1),
        ("srv15.coredns.rocks.", "A", "10.0.0.15", 5, 15),
        ("srv30.coredns.rocks.", "A", "10.0.0.30", 5, 30),
        ("srv45.coredns.rocks.", "A", "10.0.0.45", 5, 45),
        ("srv50.coredns.rocks.", "A", "10.0.0.50", 5, 50),
        ("srv10.coredns.rocks.", "A", "10.0.0.10", 5, 10),
        ("xmpp.coredns.rocks.", "SRV", "0 100 100 srvxmpp.coredns.rocks.", 5, 5),
        ("srv15.coredns.rocks.", "HINFO", 'INTEL-64 "RHEL 7.5"', 5, 15),
        ("srv20.coredns.rocks.", "A", "10.0.0.22", 5, 20),
        ("range.example.com.", "A", "10.0.0.1", 5, 30),
        ("range.example.com.", "A", "10.0.0.1", 55, 55),
        ("range.example.com.", "A", "10.0.0.1", 500, 300),
        ("ceil.example.com.", "A", "10.0.0.1", 5, 5),
        ("ceil.example.com.", "A", "10.0.0.1", 15, 11),
        ("floor.example.com.", "A", "10.0.0.1", 0, 5),
        ("floor.example.com.", "A", "10.0.0.1", 30, 30),
    ],
)
def test_ttls(name, qtype, data, ttl, expected):
    answer = [f"{name} {ttl} {qtype} {data}", f"{name} {ttl} {qtype} {data}"]
    reply = rewritten(TTL_RULES, name, qtype, answer)
    assert [rr.ttl for rr in reply.record.rr] == [expected, expected]


def test_ttls_of_all_sections_and_of_several_rules():
    text = "rewrite continue ttl a.example 30-\nrewrite continue ttl suffix example -20"
    soa = "example. 900 SOA ns.example. host.example. 1 2 3 4 300"
    reply = rewritten(text, "a.example", answer=["a.example. 5 A 192.0.2.1"], authority=[soa])
    record = reply.record
    # the last rule changes the reply first
    assert [rr.ttl for rr in (*record.rr, *record.auth)] == [30, 30]


def test_a_reply_without_records_has_no_ttl_to_change():
    reply = rewritten("rewrite ttl a.example 30", "a.example")
    assert reply.wire[4:12] == b"\0\1" + bytes(6)


@pytest.mark.parametrize("mode", ["stop", "continue"])
@pytest.mark.parametrize("old", ["FORMERR", "SERVFAIL", "REFUSED", "NOTIMP", "NXDOMAIN"])
@pytest.mark.parametrize("answer", [(), ("srv1.coredns.rocks. 5 A 10.0.0.1",)])
def test_rcodes(mode, old, answer):
    text = f"rewrite {mode} rcode exact srv1.coredns.rocks {old} NOERROR"
    reply = rewritten(text, "srv1.coredns.rocks", answer=answer, rcode=c.RCODES[old])
    assert reply.rcode == 0
    assert reply.ancount == len(answer)
    assert reply.record.header.aa == 1  # glibc asks again after an empty reply without AA and RA
    other = rewritten(text, "srv1.coredns.rocks", rcode=c.RCODES["YXDOMAIN"])
    assert other.rcode == c.RCODES["YXDOMAIN"]


def test_an_rcode_is_changed_once_by_each_rule():
    """CoreDNS applies the rules to each record, so the result depends on their number."""
    text = "rewrite continue rcode a.example 0 3\nrewrite continue rcode a.example 3 0"
    answer = ["a.example. 5 A 192.0.2.1", "a.example. 5 A 192.0.2.2"]
    assert rewritten(text, "a.example", answer=answer).rcode == 3


def test_an_extended_rcode():
    reply = rewritten("rewrite rcode a.example NOERROR BADCOOKIE", "a.example", edns=1232)
    assert (reply.rcode, reply.extended_rcode) == (23, 1)
    below = Recorder(lambda asked: asked.error(23))
    (handler,) = set_up("rewrite rcode a.example 23 SERVFAIL").handlers
    reply = run_chain(make_request("a.example", edns=1232), handler, below)
    assert (reply.rcode, reply.extended_rcode) == (2, 0)


def test_the_failure_of_a_chain_without_an_answer_is_changed():
    with serve(". {\n rewrite rcode a.example SERVFAIL NXDOMAIN\n}") as server:
        assert server.ask("a.example").header.rcode == c.NXDOMAIN
        assert server.ask("b.example").header.rcode == c.SERVFAIL


def test_extended_errors_and_the_reason_are_kept():
    below = Recorder(lambda asked: asked.error(c.REFUSED, "no", (EDE_BLOCKED, "blocked")))
    (handler,) = set_up("rewrite name a.example b.example").handlers
    reply = run_chain(make_request("a.example", edns=1232), handler, below)
    assert reply.options == ede(EDE_BLOCKED, "blocked")
    assert (reply.rcode, reply.error) == (c.REFUSED, "no")


@pytest.mark.parametrize(
    ("rule", "record", "is_authentic"),
    [
        ("ttl a.example 5", "a.example. 60 A 192.0.2.1", True),
        ("type TXT A", "a.example. 60 A 192.0.2.1", False),
        ("name suffix example test", None, False),
        ("edns0 local set 65001 x", None, True),
        ("name a.example b.example", "b.example. 60 A 192.0.2.1", False),
        ("name a.example b.example", "b.example. 60 MX 1 b.example.", False),
        ("name suffix example example answer value ^b a", "a.example. 60 MX 1 b.test.", False),
        ("name suffix example example answer value ^b a", "a.example. 60 MX 1 c.test.", True),
    ],
)
def test_replies_to_changed_questions_are_not_authentic(rule, record, is_authentic):
    """AD is for validated records, and denials of the client's question (RFC 4035 section 3.2.3)."""

    def answer(asked):
        reply = asked.reply(0, [read_record(record, 60).wire] if record else [])
        reply.patch(reply.wire[:3] + bytes((reply.wire[3] | c.FLAG_AD,)) + reply.wire[4:])
        return reply

    (handler,) = set_up(f"rewrite {rule}").handlers
    qtype = "TXT" if "TXT A" in rule else record.split()[2] if record else "A"
    reply = run_chain(make_request("a.example", qtype, edns=1232), handler, Recorder(answer))
    assert (reply.rcode, reply.record.header.ad) == (0, is_authentic)


class Timed(Handler):
    """Answers as *cache* would: with a TTL, since some time, until a deadline."""

    name = "timed"
    cacheability = Cacheability.SETS_DEADLINE

    def __init__(self, ttl, since, deadline):
        self.ttl, self.since, self.deadline = ttl, since, deadline

    async def serve_dns(self, request):
        reply = request.reply(
            answer=[read_record(f"{request.name} {self.ttl} A 192.0.2.1", 60).wire]
        )
        reply.since, reply.deadline = self.since, self.deadline
        return reply


@pytest.mark.parametrize(
    ("rule", "ttl", "since", "deadline", "expected"),
    [
        # raised to 30, so it is that of this moment
        ("30", 5, 97.25, 105.0, (30, 100.5, 101.5)),
        ("30-300", 5, 97.25, 105.0, (30, 100.5, 101.5)),
        # ten seconds may pass until 40 is 30; three have, since 97.25
        ("30-300", 40, 97.25, 140.0, (40, 97.25, 111.25)),
        ("30-300", 40, 97.25, 105.0, (40, 97.25, 105.0)),
        ("30", 400, 97.25, 500.0, (30, 97.25, 101.25)),
        # any lower TTL is in the range, too, but at 0 the chain returns 30 again
        ("-30", 400, 97.25, 500.0, (30, 97.25, 130.25)),
        ("-30", 5, 97.25, 105.0, (5, 97.25, 105.0)),
        ("0", 400, 97.25, 500.0, (0, 97.25, 500.0)),
        ("30", 5, 97.25, None, (30, 97.25, None)),
        # the last rule changes the reply first, and the first rule limits what it promises
        ("-300 30-", 5, 97.25, 105.0, (30, 100.5, 101.5)),
        ("-20 30-", 5, 97.25, 105.0, (20, 100.5, 101.5)),
        ("30- -20", 400, 97.25, 500.0, (30, 100.5, 101.5)),
    ],
)
@pytest.mark.parametrize("rename", ["", "rewrite continue name b.example a.example\n"])
def test_the_packet_cache_keeps_what_ttl_rules_promise(
    rule, ttl, since, deadline, expected, rename
):
    rules = [f"rewrite continue ttl a.example {each}" for each in rule.split()]
    (handler,) = set_up(rename + "\n".join(rules)).handlers
    request = make_request("b.example" if rename else "a.example")
    request.received = 100.5
    reply = run_chain(request, handler, Timed(ttl, since, deadline))
    assert (reply.record.rr[0].ttl, reply.since, reply.deadline) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 5, 40, 4000]), min_size=1, max_size=3),
    st.lists(st.sampled_from(["0", "20", "-30", "10-", "5-60", "0-7"]), min_size=1, max_size=3),
    st.floats(90.0, 100.5),
    st.floats(0.25, 90.0),
)
def test_repeated_ttls_stay_in_the_ranges(ttls, ranges, since, lifetime):
    """Each TTL that the packet cache shows until its deadline is in the range of the rules."""
    (handler,) = set_up("\n".join(f"rewrite continue ttl a {each}" for each in ranges)).handlers

    def answer(asked):
        reply = asked.reply(0, [read_record(f"a. {ttl} A 192.0.2.1", 60).wire for ttl in ttls])
        reply.since, reply.deadline = since, 100.5 + lifetime
        return reply

    def limited(ttl):
        for text in reversed(ranges):
            low, dash, high = text.partition("-")
            least, most = int(low or 0), int(high or 2**31) if dash else int(low)
            ttl = min(max(ttl, least), most)
        return ttl

    request = make_request("a")
    request.received = 100.5
    reply = run_chain(request, handler, Recorder(answer))
    sent = finish(request, reply)
    assert [rr.ttl for rr in reply.record.rr] == [limited(ttl) for ttl in ttls]
    chunk = MemoryPool(1 << 16).take(b"", len(sent) - 2)
    assert chunk is not None
    entry = CachedReply(reply, sent[2:], chunk, request.received)
    for step in range(400):
        now = request.received + step / 4
        if now >= entry.deadline:
            break
        entry.age(now)
        for ttl, first in zip(shown(entry.body), ttls, strict=True):
            assert limited(0) <= ttl <= limited(2**31)
            if limited(first) != first:
                assert ttl or not limited(first)  # the chain would return the limit again


def shown(body):
    """Return the TTLs of a reply without its ID."""
    wire = b"\0\0" + body
    return [read_ttl(wire, offset) for offset in ttl_offsets(wire)]


def test_replies_of_the_packet_cache():
    records = {
        "a.example. A": ["a.example. 600 A 192.0.2.1"],
        "b.example. A": ["b.example. 600 A 192.0.2.2"],
    }
    rules = "rewrite continue ttl a.example 30\nrewrite name c.example a.example"
    with (
        Upstream(records) as upstream,
        serve(f". {{\n{rules}\ncache\nforward . {upstream.to}\n}}", still=True) as server,
    ):
        for name, address, ttl in (
            ("a.example", "192.0.2.1", 30),
            ("c.example", "192.0.2.1", 600),
            ("b.example", "192.0.2.2", 600),
        ):
            for _ in range(3):
                record = server.ask(name)
                (found,) = record.rr
                assert (str(record.q.qname), str(found.rname)) == (f"{name}.",) * 2
                assert str(found.rdata) == address
                assert found.ttl in (ttl, ttl - 1) if ttl > 30 else found.ttl == ttl
        assert server.packet_entries == 3
        asked = sorted(text for text, _ in upstream.queries if "example" in text)
        assert asked == ["a.example. A", "b.example. A"]
