"""For other plugins: zone transfers, search paths, metadata, services for clients outside."""

import asyncio
from types import SimpleNamespace

import pytest

from corepy.dns.names import from_text, to_text
from corepy.plugin import BlockHandlers
from corepy.plugin.protocols import (
    ExternalServiceSource,
    OwnNames,
    SearchPathSource,
    TransferSource,
)
from corepy.testing import Recorder, helper_module, make_request
from corepy_kubernetes import kubernetes
from corepy_kubernetes.lookup import PodMode
from corepy_kubernetes.objects import Namespace, Needs, Port

kube = helper_module(__file__, "kubernetes_cluster")
Cluster, service, slice_of = kube.Cluster, kube.service, kube.slice_of

ZONE = from_text("cluster.local.")
NS = "testns.svc.cluster.local."


def test_what_it_is_for_other_plugins():
    handler = Cluster().handler
    for protocol in (TransferSource, SearchPathSource, ExternalServiceSource, OwnNames):
        assert isinstance(handler, protocol)


# Transfers (xfr_test.go).


def records(portions):
    """The records of a transfer as text."""
    from dnslib import RR, DNSBuffer

    wires = [wire for portion in portions for wire in portion]
    return [kube.shown(RR.parse(DNSBuffer(wire))) for wire in wires]


def transfer(cluster, zone="cluster.local.", serial=None):
    return records(cluster.handler.transfer_zone(from_text(zone), serial))


def test_a_whole_zone():
    cluster = Cluster(kube.objects(), namespaces={"testns"})
    cluster.handler.servers.local = kube.addresses("192.0.2.53")
    first, *found, last = transfer(cluster)
    assert first == last == kube.soa()
    hdls = f"hdls1.{NS}"
    assert set(found[:2]) == {
        "cluster.local. 5 NS ns.dns.cluster.local.",
        "ns.dns.cluster.local. 5 A 192.0.2.53",
    }
    assert len(found) == len(set(found))
    assert set(found[2:]) == {
        f"svc1.{NS} 5 A 10.0.0.1",
        f"svc1.{NS} 5 SRV 0 100 80 svc1.{NS}",
        f"_http._tcp.svc1.{NS} 5 SRV 0 100 80 svc1.{NS}",
        f"svcempty.{NS} 5 A 10.0.0.7",
        f"svcempty.{NS} 5 SRV 0 100 80 svcempty.{NS}",
        f"_http._tcp.svcempty.{NS} 5 SRV 0 100 80 svcempty.{NS}",
        f"svc6.{NS} 5 AAAA 1234:abcd::1",
        f"svc6.{NS} 5 SRV 0 100 80 svc6.{NS}",
        f"_http._tcp.svc6.{NS} 5 SRV 0 100 80 svc6.{NS}",
        f"svc-dual-stack.{NS} 5 A 10.0.0.3",
        f"svc-dual-stack.{NS} 5 AAAA 10::3",
        f"svc-dual-stack.{NS} 5 SRV 0 100 80 svc-dual-stack.{NS}",
        f"_http._tcp.svc-dual-stack.{NS} 5 SRV 0 100 80 svc-dual-stack.{NS}",
        *(f"{hdls} 5 A 172.0.0.{number}" for number in (2, 3, 4, 5)),
        *(f"{hdls} 5 AAAA 5678:abcd::{number}" for number in (1, 2)),
        *(f"172-0-0-{number}.{hdls} 5 A 172.0.0.{number}" for number in (2, 3)),
        *(f"dup-name.{hdls} 5 A 172.0.0.{number}" for number in (4, 5)),
        *(f"5678-abcd--{number}.{hdls} 5 AAAA 5678:abcd::{number}" for number in (1, 2)),
        *(f"_http._tcp.{hdls} 5 SRV 0 50 80 172-0-0-{number}.{hdls}" for number in (2, 3)),
        f"_http._tcp.{hdls} 5 SRV 0 50 80 dup-name.{hdls}",
        *(f"_http._tcp.{hdls} 5 SRV 0 50 80 5678-abcd--{number}.{hdls}" for number in (1, 2)),
        f"hdlsprtls.{NS} 5 A 172.0.0.20",
        f"172-0-0-20.hdlsprtls.{NS} 5 A 172.0.0.20",
        f"external.{NS} 5 CNAME ext.interwebs.test.",
        f"external-to-service.{NS} 5 CNAME svc1.{NS}",
    }


def test_all_names_of_a_transfer_are_answered_alike():
    cluster = Cluster(kube.objects())
    for record in transfer(cluster)[1:-1]:
        name, _, qtype, *_ = record.split()
        assert record.replace("SRV 0 50", "SRV 0 16").replace("SRV 0 100", "SRV 0") in [
            it.replace("SRV 0 100", "SRV 0").replace("SRV 0 50 80 svc-dual", "SRV 0 80 svc-dual")
            for it in cluster.ask(name, "CNAME" if qtype == "CNAME" else qtype)[1]
        ]


@pytest.mark.parametrize(
    ("serial", "is_whole"),
    [
        (None, True),
        (kube.SERIAL, False),
        (kube.SERIAL + 1, False),
        (kube.SERIAL - 1, True),
        (0, True),
    ],
)
def test_a_client_that_has_the_zone_gets_its_soa_record(serial, is_whole):
    found = transfer(Cluster(kube.objects()), serial=serial)
    assert (len(found) > 1) is is_whole
    assert found[0] == kube.soa()


def test_zones_that_cannot_be_transferred():
    cluster = Cluster(kube.objects(), ["cluster.local.", "10.in-addr.arpa."])
    assert cluster.handler.transfer_zone(from_text("local."), None) is None
    assert cluster.handler.transfer_zone(from_text("x.cluster.local."), None) is None
    assert cluster.handler.transfer_zone(from_text("10.in-addr.arpa."), None) is None
    assert Cluster(synced=False).handler.transfer_zone(ZONE, None) is None


def test_the_transfer_of_a_multicluster_zone():
    items = [
        Namespace("testns"),
        kube.imported("svc1", "10.9.0.1"),
        kube.imported("hdls1"),
        slice_of("x", "172.0.0.2", imported="hdls1", cluster="cluster1"),
    ]
    cluster = Cluster(items, multicluster=("cluster.local.",), needs=Needs(imports=True))
    assert set(transfer(cluster)) == {
        kube.soa(),
        f"svc1.{NS} 5 A 10.9.0.1",
        f"svc1.{NS} 5 SRV 0 100 80 svc1.{NS}",
        f"_http._tcp.svc1.{NS} 5 SRV 0 100 80 svc1.{NS}",
        f"hdls1.{NS} 5 A 172.0.0.2",
        f"172-0-0-2.cluster1.hdls1.{NS} 5 A 172.0.0.2",
        f"_http._tcp.hdls1.{NS} 5 SRV 0 100 80 172-0-0-2.cluster1.hdls1.{NS}",
    }


def test_objects_may_change_during_a_transfer():
    cluster = Cluster([Namespace("testns"), *(service(f"s{it}", "10.0.0.1") for it in range(250))])
    portions = cluster.handler.transfer_zone(ZONE, None)
    next(portions)
    cluster.remove(service("s249", "10.0.0.1"))
    assert sum(len(portion) for portion in portions) == 3 * 250 + 1


class Notifier(Recorder):
    """Records the zones whose secondary servers are notified."""

    def __init__(self):
        super().__init__()
        self.zones: list[str] = []
        self.changed = asyncio.Event()

    def notify_secondaries(self, zone):
        self.zones.append(to_text(zone))
        self.changed.set()


def test_secondary_servers_are_notified_of_new_serials(monkeypatch):
    monkeypatch.setattr(kubernetes, "NOTIFY_INTERVAL", 0.0)
    cluster = Cluster(kube.objects(), ["cluster.local.", "10.in-addr.arpa."])
    handler, notifier = cluster.handler, Notifier()
    handlers = BlockHandlers()
    handlers.complete([("transfer", notifier), ("kubernetes", handler)])
    monkeypatch.setattr(handler, "_config", SimpleNamespace(handlers=handlers))

    async def main():
        handler.serving(SimpleNamespace(forget_names=None))
        assert notifier.zones == ["cluster.local."]
        notifier.changed.clear()
        cluster.now += 1
        cluster.add(service("new", "10.0.0.99"))
        await notifier.changed.wait()
        handler._serial_watch.stop()
        await asyncio.sleep(0)
        assert notifier.zones == ["cluster.local."] * 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("local.", True), (".", True), ("ns.svc.cluster.local.", True), ("example.", False)],
)
def test_names_that_no_other_server_denies(name, expected):
    assert asyncio.run(Cluster().handler.has_names_below(from_text(name))) is expected


# Search paths (autopath_test.go) and metadata (metadata_test.go).

LABELS = (("app.kubernetes.io/name", "foo"), ("bar", "baz"))
POD = kube.pod("foo", "10.240.0.1", labels=LABELS)


def pods(**more):
    more = {"pods": PodMode.VERIFIED, "needs": Needs(pods=True)} | more
    return Cluster([Namespace("podns"), POD], **more)


@pytest.mark.parametrize(
    ("zone", "peer", "more", "expected"),
    [
        ("interwebs.test.", "10.240.0.1", {}, "podns.svc.interwebs.test. svc.interwebs.test. interwebs.test. corp.test. ."),
        (".", "::ffff:10.240.0.1", {}, "podns.svc. svc. . corp.test. ."),
        ("interwebs.test.", "10.240.0.9", {}, ""),
        ("other.test.", "10.240.0.1", {}, ""),
        ("interwebs.test.", "10.240.0.1", {"pods": PodMode.INSECURE}, ""),
    ],
)  # fmt: skip
def test_the_search_path_of_a_pod(zone, peer, more, expected):
    handler = pods(zones=[zone], search=["corp.test."], **more).handler
    request = make_request("x.interwebs.test.", peer=(peer, 1))
    assert " ".join(map(to_text, handler.search_path(request))) == expected


CLIENT = {
    "client-namespace": "podns",
    "client-pod-name": "foo",
    "client-label/app.kubernetes.io/name": "foo",
    "client-label/bar": "baz",
}


def named(**given):
    parts = dict.fromkeys(("port-name", "protocol", "endpoint", "service", "namespace", "kind"), "")
    return parts | {key.replace("_", "-"): value for key, value in given.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("foo.bar.notapod.cluster.local.", {"parse-error": "invalid query name"}),
        ("10-240-0-1.podns.pod.cluster.local.", named(kind="pod", namespace="podns", service="10-240-0-1")),
        ("s.ns.svc.cluster.local.", named(kind="svc", namespace="ns", service="s")),
        ("1-2-3-4.s.ns.svc.cluster.local.", named(kind="svc", namespace="ns", service="s", endpoint="1-2-3-4")),
        ("_http._tcp.s.ns.svc.cluster.local.", named(kind="svc", namespace="ns", service="s", port_name="http", protocol="tcp")),
        ("1-2-3-4.c1.s.ns.svc.clusterset.local.", named(kind="svc", namespace="ns", service="s", endpoint="1-2-3-4", cluster="c1")),
        ("cluster.local.", named()),
        ("example.com.", {}),
    ],
)  # fmt: skip
def test_metadata(name, expected):
    zones = ("cluster.local.", "clusterset.local.")
    handler = pods(zones=zones, multicluster=zones[1:]).handler
    labels = handler.metadata(make_request(name, peer=("10.240.0.1", 1)))
    assert labels == {f"kubernetes/{key}": value for key, value in {**CLIENT, **expected}.items()}
    labels = handler.metadata(make_request(name, peer=("10.240.0.2", 1)))
    assert labels == {f"kubernetes/{key}": value for key, value in expected.items()}


def test_the_topology_zone_is_metadata():
    handler = pods(zonal=True).handler
    labels = handler.metadata(make_request("a.b.pin._zone.s.ns.svc.cluster.local."))
    assert labels["kubernetes/zone"] == "a.b"
    assert labels["kubernetes/endpoint"] == ""
    assert handler.metadata(make_request("s.ns.svc.cluster.local."))["kubernetes/zone"] == ""


# Services for clients outside (external_test.go).

EXAMPLE = from_text("example.com.")


def outside():
    ports = (kube.HTTP,)
    items = [
        Namespace("testns"),
        service("svc1", "10.0.0.1", ports=ports, external=("1.2.3.4", "lb.test")),
        service("svc6", "10.0.0.3", ports=ports, external=("1:2::5",)),
        service("plain", "10.0.0.4"),
        service("bare", "10.0.0.5", ports=(), external=("1.2.3.9",)),
        service("svc-headless"),
        slice_of("svc-headless", "1.2.3.4", "1.2.3.5", hostnames=("endpoint-svc-0", "")),
        service("hidden", "10.0.0.6", external=("1.2.3.6",), namespace="hidden"),
    ]
    return Cluster(items)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("svc1.testns", [("svc1.testns", "1.2.3.4", 80), ("svc1.testns", "lb.test", 80)]),
        ("svc6.testns", [("svc6.testns", "1:2::5", 80)]),
        ("bare.testns", [("bare.testns", "1.2.3.9", -1)]),
        ("_http._tcp.svc6.testns", [("svc6.testns", "1:2::5", 80)]),
        ("_http._not-tcp.svc6.testns", None),
        ("_not-http._tcp.svc6.testns", None),
        ("a._http._tcp.svc6.testns", None),
        ("plain.testns", None),
        ("svc0.testns", None),
        ("svc1.hidden", None),
        ("hidden", None),
        ("testns", []),
        ("svc-headless.testns", [
            ("endpoint-svc-0.svc-headless.testns", "1.2.3.4", 80),
            ("1-2-3-5.svc-headless.testns", "1.2.3.5", 80),
        ]),
        ("endpoint-svc-0.svc-headless.testns", [("endpoint-svc-0.svc-headless.testns", "1.2.3.4", 80)]),
        ("endpoint-svc-1.svc-headless.testns", None),
        ("_http._tcp.svc-headless.testns", [
            ("endpoint-svc-0.svc-headless.testns", "1.2.3.4", 80),
            ("1-2-3-5.svc-headless.testns", "1.2.3.5", 80),
        ]),
    ],
)  # fmt: skip
def test_services_for_clients_outside(labels, expected):
    handler = outside().handler
    request = make_request(f"{labels}.example.com.")
    found = handler.external_services(request, EXAMPLE, headless=True)
    if expected is None:
        assert found is None
        return
    expected = [(from_text(f"{key}.example.com."), host, port) for key, host, port in expected]
    assert [(it.key, it.host, it.port) for it in found] == expected
    assert {it.ttl for it in found} <= {5}
    pointer = make_request(f"{labels}.example.com.", "PTR")
    assert handler.external_services(pointer, EXAMPLE, headless=True) == ()


def test_headless_services_are_optional():
    request = make_request("svc-headless.testns.example.com.")
    assert outside().handler.external_services(request, EXAMPLE, headless=False) is None


@pytest.mark.parametrize(
    ("name", "hosts"),
    [
        ("4.3.2.1.in-addr.arpa.", ["svc1.testns"]),
        ("6.3.2.1.in-addr.arpa.", None),
        ("255.3.2.1.in-addr.arpa.", None),
    ],
)
def test_external_addresses_have_names(name, hosts):
    found = outside().handler.external_services(make_request(name, "PTR"), EXAMPLE, headless=True)
    assert (found and [it.host for it in found]) == hosts


def test_all_services_for_clients_outside():
    handler = outside().handler
    entries = list(handler.all_external_services(EXAMPLE, headless=True))
    shown = {(to_text(it.key), it.host, it.stripped_labels, it.group) for it in entries}
    headless = "svc-headless.testns.example.com."
    assert shown == {
        ("svc1.testns.example.com.", "1.2.3.4", 0, ""),
        ("_http._tcp.svc1.testns.example.com.", "1.2.3.4", 2, ""),
        ("svc1.testns.example.com.", "lb.test", 0, ""),
        ("_http._tcp.svc1.testns.example.com.", "lb.test", 2, ""),
        ("svc6.testns.example.com.", "1:2::5", 0, ""),
        ("_http._tcp.svc6.testns.example.com.", "1:2::5", 2, ""),
        ("bare.testns.example.com.", "1.2.3.9", 0, ""),
        (f"endpoint-svc-0.{headless}", "1.2.3.4", 0, "endpoint"),
        (f"1-2-3-5.{headless}", "1.2.3.5", 0, "endpoint"),
        (f"_http._tcp.{headless}", f"endpoint-svc-0.{headless}", 0, "port"),
        (f"_http._tcp.{headless}", f"1-2-3-5.{headless}", 0, "port"),
    }
    plain = list(handler.all_external_services(EXAMPLE, headless=False))
    assert not [it for it in plain if it.group]


def test_the_serial_for_clients_outside_and_their_caches():
    cluster = outside()
    handler = cluster.handler
    handler.add_external_zone(EXAMPLE)
    name = from_text("svc6.testns.example.com.")
    handler.external_services(make_request("svc6.testns.example.com."), EXAMPLE, headless=False)
    before = handler.external_serial(EXAMPLE)
    cluster.now += 1
    cluster.add(service("plain", "10.0.0.4", ports=(Port("x", "TCP", 1),)))
    assert handler.external_serial(EXAMPLE) == before
    cluster.add(service("svc6", "10.0.0.3", external=("1:2::6",)))
    assert handler.external_serial(EXAMPLE) == before + 1
    changes = cluster.answered.take_changes(handler.own_zones, handler.external_zones)
    assert changes(name)
    assert not changes(from_text("svc1.testns.example.com."))


@pytest.mark.parametrize("zone", ["3.2.1.in-addr.arpa.", "in-addr.arpa."])
def test_a_reverse_name_changes_with_the_external_address(zone):
    cluster = outside()
    reverse = make_request("4.3.2.1.in-addr.arpa.", "PTR")
    assert cluster.handler.external_services(reverse, from_text(zone), headless=False)
    cluster.add(service("svc1", "10.0.0.1", external=("1.2.3.5",)))
    changes = cluster.answered.take_changes(cluster.handler.own_zones, ())
    assert changes(reverse.name_wire)
