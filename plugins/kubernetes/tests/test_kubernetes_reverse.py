"""Reverse names, and the names of the server itself (CoreDNS: reverse_test.go, ns_test.go)."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.dns.names import from_text
from corepy.testing import helper_module
from corepy_kubernetes.addresses import address_of, dashed, pod_address
from corepy_kubernetes.nameservers import local_addresses
from corepy_kubernetes.objects import Namespace, pack_address

kube = helper_module(__file__, "kubernetes_cluster")
Cluster, service, slice_of = kube.Cluster, kube.service, kube.slice_of

ZONES = (
    "cluster.local.",
    "0.10.in-addr.arpa.",
    "168.192.in-addr.arpa.",
    "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.4.3.2.1.ip6.arpa.",
    "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.0.0.7.7.0.0.0.0.d.f.ip6.arpa.",
)
HOSTS = ("ep1b", "ip6svc1ex", "ip6svc1in")


def objects():
    ips = ("1234:abcd::1", "fd00:77:30::a", "fd00:77:30::2:9ba6")
    return [
        Namespace("testns"),
        service("svc1", "192.168.1.100"),
        service("svc2"),
        slice_of("svc1", "10.0.0.100", "10.0.0.99", hostnames=("ep1a", "double-ep")),
        slice_of("svc1", *ips, number=2, hostnames=HOSTS),
        slice_of("svc1", "10.0.0.100", number=3, hostnames=("ep1a",)),
        slice_of("svc2", "10.0.0.99", "10.0.0.98", hostnames=("double-ep", "")),
        service("hidden", "10.0.0.77", namespace="hidden"),
    ]


@pytest.fixture(scope="module")
def cluster():
    return Cluster(objects(), ZONES)


def reverse(ip):
    return str(ipaddress.ip_address(ip).reverse_pointer) + "."


@pytest.mark.parametrize(
    ("ip", "names"),
    [
        ("10.0.0.100", ["ep1a.svc1"]),
        ("192.168.1.100", ["svc1"]),
        ("1234:abcd::1", ["ep1b.svc1"]),
        ("fd00:77:30::a", ["ip6svc1ex.svc1"]),
        ("fd00:77:30::2:9ba6", ["ip6svc1in.svc1"]),
        ("10.0.0.99", ["double-ep.svc1", "double-ep.svc2"]),
        ("10.0.0.98", ["10-0-0-98.svc2"]),
    ],
)
def test_the_names_of_an_address(cluster, ip, names):
    name = reverse(ip)
    expected = [f"{name} 5 PTR {it}.testns.svc.cluster.local." for it in names]
    assert cluster.ask(name, "PTR") == (0, expected, [], [])
    assert cluster.ask(name, "ANY") == (0, expected, [], [])
    assert cluster.ask(name, "A")[:2] == (0, [])


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        ("101.0.0.10.in-addr.arpa.", "PTR", kube.no_name("0.10.in-addr.arpa.")),
        ("77.0.0.10.in-addr.arpa.", "PTR", kube.no_name("0.10.in-addr.arpa.")),
        ("example.org.cluster.local.", "PTR", kube.no_name()),
        ("svc1.testns.svc.cluster.local.", "PTR", kube.no_data()),
        ("svc1.testns.svc.0.10.in-addr.arpa.", "A", kube.no_name("0.10.in-addr.arpa.")),
        ("100.0.0.10.cluster.local.", "PTR", kube.no_name()),
        ("0.10.in-addr.arpa.", "PTR", kube.no_data("0.10.in-addr.arpa.")),
        ("0.0.10.in-addr.arpa.", "PTR", kube.no_data("0.10.in-addr.arpa.")),
        ("256.0.10.in-addr.arpa.", "PTR", kube.no_name("0.10.in-addr.arpa.")),
        ("1.100.0.0.10.in-addr.arpa.", "PTR", kube.no_name("0.10.in-addr.arpa.")),
        (f"0.{ZONES[3]}", "PTR", kube.no_data(ZONES[3])),
        (f"g.{ZONES[3]}", "PTR", kube.no_name(ZONES[3])),
        (f"00.{ZONES[3]}", "PTR", kube.no_name(ZONES[3])),
        ("1.1.168.192.in-addr.arpa.", "SOA", kube.no_name("168.192.in-addr.arpa.")),
        ("1.1.172.in-addr.arpa.", "PTR", kube.FALLS),
    ],
)
def test_addresses_without_a_name(cluster, name, qtype, expected):
    assert cluster.ask(name, qtype) == expected


def test_fallthrough_of_reverse_names():
    cluster = Cluster(objects(), ["cluster.local.", "in-addr.arpa."], fallthrough=["in-addr.arpa."])
    assert cluster.ask("8.8.8.8.in-addr.arpa.", "PTR") == kube.FALLS
    assert cluster.ask("8.8.in-addr.arpa.", "NS") == kube.FALLS
    assert cluster.ask("100.0.0.10.in-addr.arpa.", "PTR")[1]
    assert cluster.ask("svc0.testns.svc.cluster.local.")[0] == 3


def test_only_names_of_exposed_namespaces():
    cluster = Cluster([*objects(), Namespace("hidden")], ZONES, namespaces={"hidden"})
    assert cluster.ask("77.0.0.10.in-addr.arpa.", "PTR")[1]
    assert cluster.ask("100.0.0.10.in-addr.arpa.", "PTR")[0] == 3


def test_a_host_name_that_changes():
    cluster = Cluster(objects(), ZONES)
    name = "100.0.0.10.in-addr.arpa."
    cluster.ask(name, "PTR")
    cluster.add(slice_of("svc1", "10.0.0.100", number=3, hostnames=("other",)))
    answers = cluster.ask(name, "PTR")[1]
    assert [line.split()[-1].split(".")[0] for line in answers] == ["ep1a", "other"]
    changes = cluster.answered.take_changes(cluster.handler.own_zones, ())
    assert changes(from_text(name))


@given(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16))
def test_addresses_as_names(packed):
    address = pack_address(ipaddress.ip_address(packed).compressed)
    assert address is not None
    pointer = from_text(ipaddress.ip_address(packed).reverse_pointer)
    assert address_of(pointer) == address
    if packed == address:
        assert pod_address(dashed(address)) == address
    assert len(dashed(address)) < 64
    assert not dashed(address).endswith(b"-")


@given(st.binary(max_size=80))
def test_no_label_is_too_odd(label):
    address = pod_address(label)
    assert address is None or len(address) in (4, 16)
    assert address_of(label + b"\x07in-addr\x04arpa\x00") is None or len(label) >= 8


# The server's own names.


def servers(external=()):
    return [
        Namespace("kube-system"),
        service("dns-service", "10.0.0.111", external=external, namespace="kube-system"),
        service("hdls-dns-service", namespace="kube-system"),
        service("dns6-service", "10::111", namespace="kube-system"),
        *(
            slice_of(name, "10.244.0.20", namespace="kube-system")
            for name in ("dns-service", "hdls-dns-service", "dns6-service")
        ),
    ]


def with_address(items, ip="10.244.0.20", **more):
    cluster = Cluster(items, **more)
    cluster.handler.servers.local = [pack_address(ip)]
    return cluster


def test_the_services_of_this_server():
    cluster = with_address(servers())
    zone = "kube-system.svc.cluster.local."
    headless = f"10-244-0-20.hdls-dns-service.{zone}"
    _rcode, answers, _, additional = cluster.ask("cluster.local.", "NS")
    assert answers == [
        f"cluster.local. 5 NS {name}"
        for name in (f"dns-service.{zone}", headless, f"dns6-service.{zone}")
    ]
    assert additional == [
        f"dns-service.{zone} 5 A 10.0.0.111",
        f"{headless} 5 A 10.244.0.20",
        f"dns6-service.{zone} 5 AAAA 10::111",
    ]
    name = "ns.dns.cluster.local."
    assert cluster.ask(name) == (0, [f"{name} 5 A 10.0.0.111", f"{name} 5 A 10.244.0.20"], [], [])
    assert cluster.ask(name, "AAAA") == (0, [f"{name} 5 AAAA 10::111"], [], [])
    assert cluster.ask(name, "SRV") == kube.no_data()


def test_outside_of_a_cluster_the_server_is_at_its_own_addresses():
    cluster = with_address([], "192.0.2.53")
    name = "ns.dns.Cluster.local."
    assert cluster.ask("Cluster.local.", "NS") == (
        0, [f"Cluster.local. 5 NS {name}"], [], [f"{name} 5 A 192.0.2.53"],
    )  # fmt: skip
    assert cluster.ask(name)[1] == [f"{name} 5 A 192.0.2.53"]
    assert Cluster().ask("cluster.local.", "NS")[:2] == (0, [])


@pytest.mark.parametrize(
    "item",
    [
        service("dns-service", "10.0.0.112", namespace="kube-system"),
        slice_of("dns-service", "10.244.0.21", namespace="kube-system"),
        slice_of("new", "10.244.0.20", namespace="kube-system"),
    ],
    ids=["cluster IP", "endpoint", "service"],
)
def test_the_name_server_changes_with_its_service(item):
    cluster = with_address(servers())
    before = cluster.ask("ns.dns.cluster.local.")
    cluster.ask("cluster.local.", "NS")
    cluster.ask("svc1.testns.svc.cluster.local.")
    cluster.add(item, service("new", "10.0.0.113", namespace="kube-system"))
    changes = cluster.answered.take_changes(cluster.handler.own_zones, ())
    assert changes(from_text("ns.dns.cluster.local."))
    assert changes(from_text("cluster.local."))
    assert not changes(from_text("svc1.testns.svc.cluster.local."))
    assert cluster.ask("ns.dns.cluster.local.") != before


@pytest.mark.parametrize(
    ("external", "headless", "expected"),
    [((), True, ["10.244.0.20"]), ((), False, []), (("1.2.3.4", "lb.test"), False, ["1.2.3.4"])],
)
def test_the_server_for_clients_outside(external, headless, expected):
    handler = with_address(servers(external)).handler
    assert handler.name_server_addresses(None, headless=headless) == expected
    assert with_address([], "192.0.2.1").handler.name_server_addresses(None, headless=False) == [
        "192.0.2.1"
    ]


def test_local_addresses():
    hosts = ["127.0.0.1", "::1", "192.0.2.1", "fe80::1%eth0", "192.0.2.1"]
    assert local_addresses(hosts) == [pack_address("192.0.2.1"), pack_address("fe80::1")]
    assert b"\x7f\0\0\1" not in local_addresses([""])
