"""Replies from a copy without Nomad: the table of plugin/nomad/nomad_test.go, and more."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import dns.message
import dns.rcode
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corepy.dns.records import rr
from corepy.testing import Recorder, link, make_request
from corepy_nomad import metrics, namespaces
from corepy_nomad.answers import Answers
from corepy_nomad.client import Names
from corepy_nomad.handler import Nomad
from corepy_nomad.namespaces import Denial, Failure, Namespace
from corepy_nomad.responses import Instance, NameList
from corepy_nomad.source import Settings

QUIET = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
ZONE = b"\7service\5nomad\0"
SOA = "service.nomad. 30 IN SOA ns1.service.nomad. hostmaster.service.nomad. 7 3600 600 86400 30"
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5
SERVICES = {
    "example": [("1.2.3.4", 23202)],
    "fakeipv6": [("1:2:3::4", 8000)],
    "multi": [("1.2.3.4", 25395), ("1.2.3.5", 20888), ("1.2.3.6", 26292)],
    "both": [("1.2.3.4", 80), ("2001:db8::1", 80), ("::ffff:1.2.3.9", 81)],
    "same": [("1.2.3.4", 80), ("1.2.3.4", 80), ("1.2.3.4", 81)],
    "host": [("www.example.org", 443)],
    "mixed": [("www.example.org", 443), ("1.2.3.4", 80)],
    "inside": [("example.default.service.nomad", 80)],
    "filtered": [],
    "odd": [("no address at all..", 80)],
}


def source_of(services=None, ttl=30):
    """A copy that no Nomad feeds."""
    namespace = Namespace("default", time.monotonic())
    services = SERVICES if services is None else services
    found = NameList("default")
    found.names |= set(services)
    namespace.update(Names(7, found, time.monotonic()))
    for name, instances in services.items():
        copy = namespace.copy_of(name, time.monotonic())
        copy.answers = Answers([Instance(*it) for it in instances], ttl)
        copy.outdated_since = None

    def find(label, service):
        if label == "failing":
            return Failure("Nomad is away")
        return namespace.find(service, time.monotonic()) if label == "default" else Denial.NO_NAME

    forgetter = SimpleNamespace(is_forgetting=False)
    more: dict[str, Any] = {"namespaces": {"default": namespace}, "serial": 7, "token": b"1"}
    return SimpleNamespace(find=find, load=None, forgetter=forgetter, **more)


def handler_of(services=None, ttl=30):
    handler = Nomad(Settings((), ttl=ttl), ZONE)
    vars(handler)["source"] = source_of(services, ttl)
    return handler


def ask(handler, name, qtype="A", router=None, below=None, **question):
    """The reply of a handler as dnspython reads it, and the reply itself."""
    request = make_request(name, qtype, **question)
    request.context = replace(request.context, router=router)
    top = link([handler, below or Recorder()], guarded=True)
    reply = asyncio.run(top.serve_dns(request))
    return dns.message.from_wire(reply.wire), reply


def texts(section):
    return sorted(line for rrset in section for line in rrset.to_text().splitlines())


@pytest.mark.parametrize(
    ("name", "qtype", "rcode", "answer", "additional"),
    [
        # plugin/nomad/nomad_test.go
        ("example", "A", NOERROR, ["A 1.2.3.4"], []),
        ("example", "AAAA", NOERROR, [], []),
        ("fakeipv6", "AAAA", NOERROR, ["AAAA 1:2:3::4"], []),
        ("fakeipv6", "A", NOERROR, [], []),
        ("multi", "A", NOERROR, ["A 1.2.3.4", "A 1.2.3.5", "A 1.2.3.6"], []),
        ("nonexistent", "A", NXDOMAIN, [], []),
        ("example", "SRV", NOERROR, ["SRV 10 10 23202 {name}"], ["A 1.2.3.4"]),
        # and more
        ("both", "A", NOERROR, ["A 1.2.3.4", "A 1.2.3.9"], []),
        ("both", "AAAA", NOERROR, ["AAAA 2001:db8::1"], []),
        (
            *("both", "SRV", NOERROR, ["SRV 10 10 80 {name}", "SRV 10 10 81 {name}"]),
            ["A 1.2.3.4", "A 1.2.3.9", "AAAA 2001:db8::1"],
        ),
        ("same", "A", NOERROR, ["A 1.2.3.4"], []),
        (
            *("same", "SRV", NOERROR, ["SRV 10 10 80 {name}", "SRV 10 10 81 {name}"]),
            ["A 1.2.3.4"],
        ),
        ("EXAMPLE", "A", NOERROR, ["A 1.2.3.4"], []),
        ("Example", "SRV", NOERROR, ["SRV 10 10 23202 {name}"], ["A 1.2.3.4"]),
        ("example", "TXT", NOERROR, [], []),
        ("example", "CNAME", NOERROR, [], []),
        ("example", "SOA", NOERROR, [], []),
        ("example", "ANY", NOERROR, ["A 1.2.3.4"], []),
        ("fakeipv6", "ANY", NOERROR, ["AAAA 1:2:3::4"], []),
        ("host", "SRV", NOERROR, ["SRV 10 10 443 www.example.org."], []),
        (
            *("mixed", "SRV", NOERROR, ["SRV 10 10 443 www.example.org.", "SRV 10 10 80 {name}"]),
            ["A 1.2.3.4"],
        ),
        ("filtered", "A", NXDOMAIN, [], []),
        ("odd", "SRV", NXDOMAIN, [], []),
        ("a.example", "A", NXDOMAIN, [], []),
        ("\\228", "A", NXDOMAIN, [], []),
    ],
)
def test_a_service(name, qtype, rcode, answer, additional):
    name = f"{name}.default.service.nomad."
    found, reply = ask(handler_of(), name, qtype)
    assert found.rcode() == rcode
    assert texts(found.answer) == sorted(f"{name} 30 IN {it.format(name=name)}" for it in answer)
    assert texts(found.authority) == ([] if answer else [SOA])
    assert texts(found.additional) == sorted(f"{name} 30 IN {it}" for it in additional)
    assert found.flags & dns.flags.AA
    assert reply.deadline == reply.since + 1


@pytest.mark.parametrize(
    ("name", "qtype", "rcode", "answer"),
    [
        ("service.nomad.", "SOA", NOERROR, [SOA]),
        ("Service.Nomad.", "ANY", NOERROR, [SOA.replace("service.nomad. 30", "Service.Nomad. 30")]),
        ("service.nomad.", "A", NOERROR, []),
        ("service.nomad.", "NS", NOERROR, []),
        ("default.service.nomad.", "A", NOERROR, []),
        ("other.service.nomad.", "A", NXDOMAIN, []),
        ("example.other.service.nomad.", "A", NXDOMAIN, []),
        ("example.*.service.nomad.", "A", NXDOMAIN, []),
        ("*.service.nomad.", "A", NXDOMAIN, []),
        ("example.a_b.service.nomad.", "A", NXDOMAIN, []),
        ("failing.service.nomad.", "A", SERVFAIL, []),
        ("a.failing.service.nomad.", "A", SERVFAIL, []),
        ("example.default.service.nomad.", "AXFR", REFUSED, []),
    ],
)
def test_other_names(name, qtype, rcode, answer):
    found, reply = ask(handler_of(), name, qtype)
    assert (found.rcode(), len(found.answer)) == (rcode, len(answer))
    if answer:
        assert texts(found.answer)[0].lower() == answer[0].lower()
    assert len(found.authority) == (rcode in (NOERROR, NXDOMAIN) and not answer)
    if rcode == SERVFAIL:
        assert (reply.error, reply.deadline) == ("Nomad is away", None)


def test_other_zones_and_classes_are_passed_on():
    below = Recorder(lambda request: request.reply(0, [rr(request.name_wire, 1, 5, bytes(4))]))
    for name in ("example.org.", "nomad.", "xservice.nomad."):
        found, reply = ask(handler_of(), name, below=below)
        assert (len(found.answer), reply.deadline) == (1, None)
    request = make_request("example.default.service.nomad.").derive(qclass=3)
    asyncio.run(link([handler_of(), below]).serve_dns(request))
    assert len(below.requests) == 4


def test_without_nomad_the_reply_is_an_error():
    found, reply = ask(Nomad(Settings(()), ZONE), "example.default.service.nomad.")
    assert (found.rcode(), reply.error) == (SERVFAIL, "Nomad has not been asked yet")
    assert ask(Nomad(Settings(()), ZONE), "service.nomad.", "SOA")[0].rcode() == NOERROR


def test_the_ttl():
    found, _ = ask(handler_of(ttl=0), "example.default.service.nomad.", "SRV")
    assert {rrset.ttl for rrset in (*found.answer, *found.additional)} == {0}
    found, _ = ask(handler_of(ttl=3600), "no.default.service.nomad.")
    assert found.authority[0].ttl == 30
    found, _ = ask(handler_of(ttl=5), "no.default.service.nomad.")
    assert found.authority[0].ttl == 5


class Upstream:
    """The rest of the server, which knows an IPv4 address for every name."""

    async def lookup(self, request):
        answer = [rr(request.name_wire, 1, 60, bytes((9, 9, 9, 9)))] if request.qtype == 1 else []
        return request.reply(0, answer)


@pytest.mark.parametrize(
    ("name", "qtype", "answer", "is_repeated"),
    [
        ("host", "A", ["CNAME www.example.org.", "A 9.9.9.9"], False),
        ("host", "CNAME", ["CNAME www.example.org."], True),
        ("host", "ANY", ["CNAME www.example.org."], True),
        ("mixed", "A", ["A 1.2.3.4", "A 9.9.9.9"], False),
        ("inside", "A", ["CNAME example.default.service.nomad.", "A 1.2.3.4"], True),
    ],
)
def test_names_of_hosts(name, qtype, answer, is_repeated):
    found, reply = ask(handler_of(), f"{name}.default.service.nomad.", qtype, router=Upstream())
    kinds = [line.partition(" IN ")[2] for rrset in found.answer for line in texts([rrset])]
    assert sorted(kinds) == sorted(answer)
    assert (reply.deadline is not None) == is_repeated
    assert found.flags & dns.flags.AA


@QUIET
@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.ip_addresses(v=4).map(str),
                st.ip_addresses(v=6).map(str),
                st.text(max_size=12),
                st.just("host.example"),
            ),
            st.integers(0, 65535),
        ),
        max_size=6,
    ),
    st.sampled_from(("A", "AAAA", "SRV", "ANY", "CNAME", "MX")),
)
def test_replies_are_valid_for_any_instances(instances, qtype):
    found, _ = ask(handler_of({"web": instances}), "web.default.service.nomad.", qtype, Upstream())
    assert found.rcode() in (NOERROR, NXDOMAIN)
    for rrset in found.answer:
        assert len(set(rrset)) == len(rrset.to_text().splitlines())


@QUIET
@given(st.lists(st.binary(min_size=1, max_size=20), max_size=4), st.sampled_from((ZONE, b"\0")))
def test_any_name_is_answered(labels, zone):
    handler = handler_of()
    handler.zone = zone
    name = b"".join(bytes((len(it),)) + it for it in labels) + ZONE
    request = make_request(".").derive(name_wire=name)
    reply = asyncio.run(link([handler, Recorder()], guarded=True).serve_dns(request))
    assert dns.message.from_wire(reply.wire).rcode() in (NOERROR, NXDOMAIN, SERVFAIL)
    assert reply.error in (None, "Nomad is away")


def test_a_service_with_many_instances_fits_into_a_message():
    many = [(f"10.{n >> 8}.{n & 255}.1", n) for n in range(5000)]
    many += [(f"2001:db8::{n:x}", n) for n in range(5000)]
    handler = handler_of({"many": many})
    for qtype, least in (("A", 1400), ("AAAA", 800), ("SRV", 1000), ("ANY", 1400)):
        found, reply = ask(handler, "many.default.service.nomad.", qtype)
        assert sum(map(len, found.answer)) >= least
        assert len(reply.wire) <= 65535


def count(metric, namespace):
    return metric.labels("dns://:53", namespace).value


def test_queries_are_counted_without_names_that_clients_choose():
    handler = handler_of()
    before = [count(metrics.SUCCESSES, "default"), count(metrics.FAILURES, "default")]
    unknown = count(metrics.FAILURES, "")
    _, reply = ask(handler, "example.default.service.nomad.")
    ask(handler, "no.default.service.nomad.")
    ask(handler, "example.chosen.service.nomad.")
    ask(handler, "a.b.c.d.service.nomad.")
    (counter,) = reply.hit_counters
    counter.count_hits(3)
    assert count(metrics.SUCCESSES, "default") == before[0] + 4
    assert count(metrics.FAILURES, "default") == before[1] + 1
    assert count(metrics.FAILURES, "") == unknown + 2
    assert all("chosen" not in labels for labels, _ in metrics.FAILURES.children())


def test_old_names_are_not_answered_for_ever(monkeypatch):
    handler = handler_of()
    monkeypatch.setattr(namespaces, "LONGEST_STALE", -1.0)
    _, reply = ask(handler, "example.default.service.nomad.")
    assert reply.error == "Nomad has not been reached for too long"


def test_explaining():
    handler = handler_of()
    states = {
        "example.default.service.nomad.": ("found", 1),
        "no.default.service.nomad.": ("no such name", None),
        "default.service.nomad.": ("no records at this name", None),
        "service.nomad.": ("zone", None),
        "a.b.c.service.nomad.": ("no such name", None),
        "a.failing.service.nomad.": ("Nomad is away", None),
        "example.org.": ("the name is outside its zone", None),
    }
    for name, (state, instances) in states.items():
        found = handler.explain_state(make_request(name))
        assert (found["state"], found.get("instances")) == (state, instances)
        assert not handler.queries_upstream(make_request(name))
    vars(handler)["source"] = SimpleNamespace(find=lambda *_: None)
    assert handler.explain_state(make_request("a.b.service.nomad."))["state"] == "not read yet"
    assert handler.queries_upstream(make_request("a.b.service.nomad."))
    assert not handler.queries_upstream(make_request("example.org."))


def test_caches_keep_replies_over_a_reload_unless_names_are_removed():
    handler = handler_of()
    assert handler.inputs == b"1"
    handler.source.forgetter.is_forgetting = True
    assert handler.inputs is None
    assert Nomad(Settings(()), ZONE).inputs is None
