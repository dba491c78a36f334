"""Replies: the cases of CoreDNS's external_test.go, apex_test.go and transfer_test.go, and more."""

import asyncio
from dataclasses import replace

import pluggy
import pytest

from corepy.dns.names import from_text
from corepy.plugin import BlockHandlers, Fallthrough, LifecycleContext, StartupError
from corepy.testing import Recorder, helper_module, link, make_request
from corepy_k8s_external.handler import External, Settings

Cluster = helper_module(__file__, "cluster").Cluster

SOA = "example.com. 5 IN SOA ns1.dns.example.com. hostmaster.dns.example.com. 1499347823 7200 1800 86400 5"
ZONES = ("example.com.", "in-addr.arpa.")


async def _no_reload(_):
    return False


CONTEXT = LifecycleContext(pluggy.PluginManager("corepy"), _no_reload, lambda: None)


def external(*, headless=True, fallthrough=(), zones=ZONES, cluster=None, **settings):
    handlers, cluster = BlockHandlers(), cluster or Cluster()
    handler = External(
        Settings(zones, headless=headless, **settings), Fallthrough(fallthrough), handlers
    )
    handlers.complete([("k8s_external", handler), ("kubernetes", cluster)])
    handler.before_listen(CONTEXT)
    assert cluster.zones == [from_text(zone) for zone in zones]
    return handler


def ask(handler, name, qtype="A", below=None, router=None, **question):
    request = make_request(name, qtype, **question)
    request.context = replace(request.context, router=router)
    top = link([handler, below or Recorder()])
    return asyncio.run(top.serve_dns(request))


def sections(reply):
    record = reply.record
    parts = (record.rr, record.auth, record.ar)
    return tuple(sorted(" ".join(str(rr).split()) for rr in part) for part in parts)


def of(owner, qtype, *rdatas):
    return sorted(f"{owner} 5 IN {qtype} {rdata}" for rdata in rdatas)


NS = "testns.example.com."
SVC1, SVC6, SVC11, SVC12 = (f"svc{number}.{NS}" for number in (1, 6, 11, 12))
HEADLESS = f"svc-headless.{NS}"
ENDPOINTS = [f"endpoint-svc-{number}.{HEADLESS}" for number in (0, 1)]
TO_ENDPOINTS = [f"0 50 80 {it}" for it in ENDPOINTS]
AT_ENDPOINTS = [*of(ENDPOINTS[0], "A", "1.2.3.4"), *of(ENDPOINTS[1], "A", "1.2.3.5")]
TWO = f"two.{NS}"

CASES = [
    ("4.3.2.1.in-addr.arpa.", "PTR", [SVC1], []),
    (SVC1, "A", ["1.2.3.4"], []),
    (SVC1, "SRV", [f"0 100 80 {SVC1}"], of(SVC1, "A", "1.2.3.4")),
    (f"_http._tcp.{SVC1}", "SRV", [f"0 100 80 {SVC1}"], of(SVC1, "A", "1.2.3.4")),
    (SVC6, "AAAA", ["1:2::5"], []),
    (f"_http._tcp.{SVC6}", "SRV", [f"0 100 80 {SVC6}"], of(SVC6, "AAAA", "1:2::5")),
    (SVC6, "SRV", [f"0 100 80 {SVC6}"], of(SVC6, "AAAA", "1:2::5")),
    (SVC11, "A", ["2.3.4.5"], []),
    (SVC11, "SRV", [f"0 100 80 {SVC11}"], of(SVC11, "A", "2.3.4.5")),
    (f"_http._tcp.{SVC11}", "SRV", [f"0 100 80 {SVC11}"], of(SVC11, "A", "2.3.4.5")),
    (SVC12, "CNAME", ["dummy.hostname."], []),
    (f"_http._tcp.{SVC12}", "SRV", ["0 100 80 dummy.hostname."], []),
    (SVC12, "SRV", ["0 100 80 dummy.hostname."], []),
    (HEADLESS, "A", ["1.2.3.4", "1.2.3.5"], []),
    (HEADLESS, "SRV", TO_ENDPOINTS, AT_ENDPOINTS),
    (f"_http._tcp.{HEADLESS}", "SRV", TO_ENDPOINTS, AT_ENDPOINTS),
    (ENDPOINTS[0], "SRV", [f"0 100 80 {ENDPOINTS[0]}"], AT_ENDPOINTS[:1]),
    (ENDPOINTS[1], "SRV", [f"0 100 80 {ENDPOINTS[1]}"], AT_ENDPOINTS[1:]),
    (ENDPOINTS[0], "A", ["1.2.3.4"], []),
    (ENDPOINTS[1], "A", ["1.2.3.5"], []),
    ("example.com.", "SOA", [SOA.partition(" SOA ")[2]], []),
    ("example.com.", "NS", ["ns1.dns.example.com."], of("ns1.dns.example.com.", "A", "127.0.0.1")),
    ("ns1.dns.example.com.", "A", ["127.0.0.1"], []),
    # The weight of a target with several addresses is that of all of them.
    (
        f"_a._tcp.{TWO}", "SRV", [f"0 66 80 {TWO}", "0 33 80 other.hostname."],
        of(TWO, "A", "1.2.3.8", "1.2.3.9"),
    ),
    (f"bare.{NS}", "A", ["1.2.3.7"], []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "qtype", "rdatas", "additional"), CASES)
def test_answers(name, qtype, rdatas, additional):
    reply = ask(external(), name, qtype)
    assert reply.aa
    assert sections(reply) == (of(name, qtype, *rdatas), [], additional)


@pytest.mark.parametrize(
    ("name", "qtype", "rcode"),
    [
        (SVC1, "PTR", 0),
        (f"not-existing.{NS}", "PTR", 3),
        (f"*._not-udp-or-tcp.{SVC1}", "SRV", 3),
        (SVC1, "AAAA", 0),
        (SVC1, "TXT", 0),
        (f"svc0.{NS}", "AAAA", 3),
        (f"svc0.{NS}", "A", 3),
        ("svc0.svc-nons.example.com.", "A", 3),
        (NS, "A", 0),
        (NS, "SOA", 0),
        (f"bare.{NS}", "SRV", 0),
        ("example.com.", "SRV", 0),
        ("example.com.", "A", 0),
        ("dns.example.com.", "SRV", 0),
        ("dns.example.com.", "NS", 0),
        ("ns1.dns.example.com.", "SRV", 0),
        ("ns1.dns.example.com.", "NS", 0),
        ("ns1.dns.example.com.", "AAAA", 0),
        ("ns2.dns.example.com.", "A", 3),
        ("a.ns1.dns.example.com.", "A", 3),
    ],
)
def test_denials(name, qtype, rcode):
    reply = ask(external(), name, qtype)
    assert (reply.rcode, reply.aa) == (rcode, True)
    assert sections(reply) == ([], [SOA], [])


def test_the_case_of_a_query_is_kept():
    assert ask(external(), "Svc1.testNS.Example.com.").wire.count(b"testNS") == 1
    reply = ask(external(), "NS1.dns.Example.com.")
    assert [str(rr.rname) for rr in reply.record.rr] == ["NS1.dns.Example.com."]


def test_headless_services_need_the_option():
    assert ask(external(headless=False), HEADLESS).rcode == 3
    assert ask(external(headless=False), SVC1).rcode == 0


def test_the_ttl_is_that_of_the_directive():
    reply = ask(external(ttl=77), SVC1, "SRV")
    assert {rr.ttl for rr in (*reply.record.rr, *reply.record.ar)} == {77}
    assert (reply.since, reply.deadline) == (0.0, 1.0)
    assert ask(external(ttl=0), SVC1).deadline is None


@pytest.mark.parametrize(
    ("apex", "names"),
    [(b"\7testdns\0", ["testdns"]), (b"\1a\1b\0", ["b", "a.b"])],
)
def test_the_own_names_of_a_zone(apex, names):
    handler = external(apex=apex)
    for name in names:
        assert ask(handler, f"{name}.example.com.").rcode == 0
    assert sections(ask(handler, f"ns1.{names[-1]}.example.com."))[0]
    assert ask(handler, "dns.example.com.").rcode == 3


def test_names_of_reverse_records_are_in_the_first_zone_that_is_not_a_reverse_one():
    """In CoreDNS they are in the first zone, also below in-addr.arpa."""
    reply = ask(external(zones=("in-addr.arpa.", "example.com.")), "4.3.2.1.in-addr.arpa.", "PTR")
    assert sections(reply)[0] == of("4.3.2.1.in-addr.arpa.", "PTR", SVC1)
    assert ask(external(), "9.9.9.9.in-addr.arpa.", "PTR").rcode == 3


class Router:
    """The rest of the server."""

    async def lookup(self, request):
        return request.reply(0, [request.question[:-4] + b"\0\1\0\1\0\0\0\x09\0\4\1\1\1\1"])


def test_names_of_load_balancers_are_looked_up():
    reply = ask(external(), SVC12, router=Router())
    alias, address = of(SVC12, "CNAME", "dummy.hostname."), "dummy.hostname. 9 IN A 1.1.1.1"
    assert sections(reply)[0] == sorted([*alias, address])
    assert reply.deadline is None
    assert sections(ask(external(), SVC12))[0] == alias
    # Beside addresses there is no alias: all addresses are those of the name.
    reply = ask(external(), TWO, router=Router())
    assert sections(reply)[0] == of(TWO, "A", "1.1.1.1", "1.2.3.8", "1.2.3.9")


def test_fallthrough():
    handler, below = external(fallthrough=["fall.example.com."]), Recorder()
    for name in ("x.fall.example.com.", "a.example.", "fall.example.com."):
        ask(handler, name, below=below)
    assert len(below.requests) == 3
    assert ask(handler, f"svc0.{NS}", below=below).rcode == 3
    assert len(below.requests) == 3


@pytest.mark.parametrize(("qtype", "flags"), [("AXFR", {}), ("IXFR", {}), ("SOA", {"opcode": 4})])
def test_transfers_and_notifications_are_refused(qtype, flags):
    assert ask(external(), "example.com.", qtype, **flags).rcode == 5


def test_no_answer_before_the_services_are_known():
    handler = external(cluster=Cluster(synced=False))
    assert ask(handler, SVC1).rcode == 2
    assert not handler.ready()
    assert handler.transfer_zone(from_text("example.com."), None) is None
    assert handler.explain_state(make_request(SVC1))["state"] == "not synced"


def test_its_inputs_are_those_of_the_services():
    cluster = Cluster()
    handler = external(cluster=cluster)
    cluster.inputs = b"version 1"
    assert handler.inputs == b"version 1"
    assert External(Settings(ZONES), Fallthrough(), BlockHandlers()).inputs is None


def test_a_block_without_services():
    handlers = BlockHandlers()
    handler = External(Settings(ZONES), Fallthrough(), handlers)
    handlers.complete([("k8s_external", handler)], "Corefile:1")
    with pytest.raises(StartupError, match="add kubernetes to the block"):
        handler.before_listen(CONTEXT)


# -- transfers


def transferred(handler, zone="example.com.", serial=None):
    """The records of a transfer, as a message."""

    async def collect():
        return [
            it async for portion in handler.transfer_zone(from_text(zone), serial) for it in portion
        ]

    records = asyncio.run(collect())
    reply = make_request(zone, "AXFR").reply(0, records)
    return [" ".join(str(rr).split()) for rr in reply.record.rr]


def test_a_transfer_has_the_records_of_all_queries():
    """As transfer_test.go, but a name with a CNAME record has no other ones."""
    handler = external()
    records = transferred(handler)
    assert records[0] == records[-1] == SOA
    expected = {SOA}
    for name, qtype, rdatas, _ in CASES:
        if qtype != "PTR" and not (name == SVC12 and qtype == "SRV"):
            expected.update(of(name, qtype, *rdatas))
    expected.update(of(TWO, "A", "1.2.3.8", "1.2.3.9"))
    for name, qtype in ((TWO, "SRV"), (f"_b._udp.{TWO}", "SRV")):
        expected.update(sections(ask(handler, name, qtype))[0])
    assert sorted(records[:-1]) == sorted(expected)


def test_a_transfer_to_a_client_that_has_the_zone():
    assert transferred(external(), serial=1499347823) == [SOA]
    assert transferred(external(), serial=1499347824) == [SOA]
    assert len(transferred(external(), serial=1499347822)) > 10


@pytest.mark.parametrize("zone", ["other.example.", "in-addr.arpa.", "testns.example.com."])
def test_other_zones_are_not_transferred(zone):
    assert external().transfer_zone(from_text(zone), None) is None


def test_secondary_servers_are_notified_of_a_new_serial(monkeypatch):
    monkeypatch.setattr("corepy_k8s_external.handler.NOTIFY_INTERVAL", 0.0)
    notified = []

    class Notifier(Recorder):
        def notify_secondaries(self, zone):
            notified.append(zone)

    async def run():
        cluster, handlers = Cluster(), BlockHandlers()
        handler = External(Settings(ZONES), Fallthrough(), handlers)
        handlers.complete([("transfer", Notifier()), ("x", handler), ("kubernetes", cluster)])
        handler.before_listen(CONTEXT)
        handler.serving(CONTEXT)
        for _ in range(3):
            await asyncio.sleep(0)
        assert notified == [from_text("example.com.")]
        cluster.serial += 1
        for _ in range(3):
            await asyncio.sleep(0)
        assert notified == [from_text("example.com.")] * 2
        handler.shutdown(CONTEXT)

    asyncio.run(run())
