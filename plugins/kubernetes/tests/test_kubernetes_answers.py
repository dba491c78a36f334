"""Replies: the tables of plugin/kubernetes/handler_*_test.go, and where RFCs decide otherwise."""

import pytest

from corepy.testing import helper_module
from corepy_kubernetes.lookup import PodMode
from corepy_kubernetes.objects import Namespace, Needs, Port

kube = helper_module(__file__, "kubernetes_cluster")
Cluster, service, slice_of = kube.Cluster, kube.service, kube.slice_of
SOA, NO_DATA, NO_NAME = kube.soa(), kube.no_data(), kube.no_name()

NS = "testns.svc.cluster.local."


@pytest.fixture(scope="module")
def cluster():
    return Cluster(kube.objects(), namespaces={"testns", "svcns"})


def a(name, *ips, ttl=5):
    return [f"{name} {ttl} {'AAAA' if ':' in ip else 'A'} {ip}" for ip in ips]


def srv(name, weight, port, *targets):
    return [f"{name} 5 SRV 0 {weight} {port} {target}" for target in targets]


HDLS = f"hdls1.{NS}"
HDLS_TARGETS = [
    f"{label}.{HDLS}"
    for label in ("172-0-0-2", "172-0-0-3", "dup-name", "5678-abcd--1", "5678-abcd--2")
]
HDLS_ADDRESSES = [
    *a(f"172-0-0-2.{HDLS}", "172.0.0.2"),
    *a(f"172-0-0-3.{HDLS}", "172.0.0.3"),
    *a(f"dup-name.{HDLS}", "172.0.0.4", "172.0.0.5"),
    *a(f"5678-abcd--1.{HDLS}", "5678:abcd::1"),
    *a(f"5678-abcd--2.{HDLS}", "5678:abcd::2"),
]

CASES = [
    (f"svc1.{NS}", "A", (0, a(f"svc1.{NS}", "10.0.0.1"), [], [])),
    (f"svcempty.{NS}", "A", (0, a(f"svcempty.{NS}", "10.0.0.7"), [], [])),
    (
        f"svc1.{NS}",
        "SRV",
        (0, srv(f"svc1.{NS}", 100, 80, f"svc1.{NS}"), [], a(f"svc1.{NS}", "10.0.0.1")),
    ),
    (
        f"svc6.{NS}",
        "SRV",
        (0, srv(f"svc6.{NS}", 100, 80, f"svc6.{NS}"), [], a(f"svc6.{NS}", "1234:abcd::1")),
    ),
    (
        f"_http._tcp.svc1.{NS}",
        "SRV",
        (0, srv(f"_http._tcp.svc1.{NS}", 100, 80, f"svc1.{NS}"), [], a(f"svc1.{NS}", "10.0.0.1")),
    ),
    (f"_http._udp.svc1.{NS}", "SRV", NO_NAME),
    (f"_https._tcp.svc1.{NS}", "SRV", NO_NAME),
    (f"_http._tcp.svc1.{NS}", "A", (0, a(f"_http._tcp.svc1.{NS}", "10.0.0.1"), [], [])),
    (HDLS, "A", (0, a(HDLS, "172.0.0.2", "172.0.0.3", "172.0.0.4", "172.0.0.5"), [], [])),
    (HDLS, "AAAA", (0, a(HDLS, "5678:abcd::1", "5678:abcd::2"), [], [])),
    (
        f"_http._tcp.{HDLS}",
        "SRV",
        (0, srv(f"_http._tcp.{HDLS}", 16, 80, *HDLS_TARGETS), [], HDLS_ADDRESSES),
    ),
    (HDLS, "SRV", (0, srv(HDLS, 16, 80, *HDLS_TARGETS), [], HDLS_ADDRESSES)),
    (f"hdlsprtls.{NS}", "A", (0, a(f"hdlsprtls.{NS}", "172.0.0.20"), [], [])),
    (f"hdlsprtls.{NS}", "SRV", NO_DATA),
    (
        f"172-0-0-20.hdlsprtls.{NS}",
        "A",
        (0, a(f"172-0-0-20.hdlsprtls.{NS}", "172.0.0.20"), [], []),
    ),
    (f"172-0-0-2.{HDLS}", "A", (0, a(f"172-0-0-2.{HDLS}", "172.0.0.2"), [], [])),
    (f"172-0-0-2.{HDLS}", "AAAA", NO_DATA),
    (f"172-0-0-4.{HDLS}", "A", NO_NAME),  # it has a host name
    (f"5678-abcd--2.{HDLS}", "AAAA", (0, a(f"5678-abcd--2.{HDLS}", "5678:abcd::2"), [], [])),
    (f"5678-abcd-0-0-0-0-0-2.{HDLS}", "AAAA", NO_NAME),
    (f"dup-name.{HDLS}", "A", (0, a(f"dup-name.{HDLS}", "172.0.0.4", "172.0.0.5"), [], [])),
    (f"ep1a.svc1.{NS}", "A", (0, a(f"ep1a.svc1.{NS}", "172.0.0.1"), [], [])),
    (f"bogusendpoint.{HDLS}", "A", NO_NAME),
    (f"bogusendpoint.svc0.{NS}", "A", NO_NAME),
    (f"svc1.{NS}", "AAAA", NO_DATA),
    (f"svc6.{NS}", "AAAA", (0, a(f"svc6.{NS}", "1234:abcd::1"), [], [])),
    (f"svc0.{NS}", "AAAA", NO_NAME),
    (f"svc0.{NS}", "A", NO_NAME),
    ("svc0.svc-nons.svc.cluster.local.", "A", NO_NAME),
    ("svc1.unexposedns.svc.cluster.local.", "A", NO_NAME),
    (
        "dns-version.cluster.local.",
        "TXT",
        (0, ['dns-version.cluster.local. 28800 TXT "1.1.0"'], [], []),
    ),
    ("dns-version.cluster.local.", "A", NO_DATA),
    (f"svc1.{NS}", "TXT", NO_DATA),
    ("svc0.svc-nons.svc.cluster.local.", "TXT", NO_NAME),
    ("svc.cluster.local.", "A", NO_DATA),
    ("pod.cluster.local.", "A", NO_DATA),
    (NS, "A", NO_DATA),
    (NS, "TXT", NO_DATA),
    ("nons.svc.cluster.local.", "A", NO_NAME),
    ("svc.cluster.local.", "NS", NO_DATA),
    (NS, "NS", NO_DATA),
    ("foo.cluster.local.", "NS", NO_NAME),
    ("foo.svc.cluster.local.", "NS", NO_NAME),
    (f"svc-dual-stack.{NS}", "A", (0, a(f"svc-dual-stack.{NS}", "10.0.0.3"), [], [])),
    (f"svc-dual-stack.{NS}", "AAAA", (0, a(f"svc-dual-stack.{NS}", "10::3"), [], [])),
    (
        f"svc-dual-stack.{NS}",
        "SRV",
        (
            0,
            srv(f"svc-dual-stack.{NS}", 50, 80, f"svc-dual-stack.{NS}"),
            [],
            a(f"svc-dual-stack.{NS}", "10.0.0.3", "10::3"),
        ),
    ),
    (f"svc1.{NS}", "SOA", NO_DATA),
    (f"svc0.{NS}", "SOA", NO_NAME),
    (f"svc1.{NS}", "ANY", (0, a(f"svc1.{NS}", "10.0.0.1"), [], [])),
    (f"svc6.{NS}", "ANY", (0, a(f"svc6.{NS}", "1234:abcd::1"), [], [])),
    (f"svc1.{NS}", "MX", NO_DATA),
    (f"svc0.{NS}", "MX", NO_NAME),
    (f"svc1.{NS}", "HTTPS", NO_DATA),
    (f"svc1.{NS}", "PTR", NO_DATA),
    (f"external.{NS}", "CNAME", (0, [f"external.{NS} 5 CNAME ext.interwebs.test."], [], [])),
    (f"external.{NS}", "ANY", (0, [f"external.{NS} 5 CNAME ext.interwebs.test."], [], [])),
    (f"external.{NS}", "SRV", NO_DATA),
    (f"external.{NS}", "TXT", NO_DATA),
    (f"svc1.{NS}", "CNAME", NO_DATA),
    (f"endpoint.external.{NS}", "CNAME", NO_NAME),
    (f"subdomain.subdomain.external.{NS}", "CNAME", NO_NAME),
    ("cluster.local.", "SOA", (0, [SOA], [], [])),
    ("cluster.local.", "ANY", (0, [SOA], [], [])),
    ("cluster.local.", "HINFO", NO_DATA),
    ("cluster.local.", "A", NO_DATA),
    ("cluster.local.", "AAAA", NO_DATA),
    ("cluster.local.", "SRV", NO_DATA),
    ("cluster.local.", "TXT", NO_DATA),
    ("dns.cluster.local.", "A", NO_DATA),
    ("x.dns.cluster.local.", "A", NO_NAME),
    ("example.org.", "A", kube.FALLS),
    ("cluster.local.example.org.", "A", kube.FALLS),
    ("xcluster.local.", "A", kube.FALLS),
    # Names of ports are below these (RFC 8020), so they exist.
    (f"_tcp.svc1.{NS}", "A", NO_DATA),
    (f"_tcp.{HDLS}", "NS", NO_DATA),
    (f"_udp.svc1.{NS}", "A", NO_NAME),
    (f"_tcp.external.{NS}", "A", NO_NAME),
    # As in CoreDNS, a port needs no underscores.
    (f"http.tcp.svc1.{NS}", "A", (0, a(f"http.tcp.svc1.{NS}", "10.0.0.1"), [], [])),
    (f"a.b.c.svc1.{NS}", "A", NO_NAME),
    (f"a.pin._zone.{HDLS}", "A", NO_NAME),
    (f"svc1.{NS}", "AXFR", (5, [], [], [])),
]


@pytest.mark.parametrize(("name", "qtype", "expected"), CASES)
def test_the_schema(cluster, name, qtype, expected):
    assert cluster.ask(name, qtype) == expected
    assert cluster.ask(name, qtype) == expected  # a prepared answer, too


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        ("SvC1.TeStNs.SvC.cLuStEr.LoCaL.", "A", ["SvC1.TeStNs.SvC.cLuStEr.LoCaL. 5 A 10.0.0.1"]),
        (
            "_HtTp._TcP.sVc1.TeStNs.SvC.cLuStEr.LoCaL.",
            "SRV",
            [
                "_HtTp._TcP.sVc1.TeStNs.SvC.cLuStEr.LoCaL. 5 SRV 0 100 80 "
                "svc1.testns.svc.cLuStEr.LoCaL.",
                "svc1.testns.svc.cLuStEr.LoCaL. 5 A 10.0.0.1",
            ],
        ),
        ("Cluster.local.", "SOA", [kube.soa("Cluster.local.")]),
        ("Svc1.testns.svc.Cluster.local.", "AAAA", [kube.soa("Cluster.local.")]),
    ],
)
def test_the_case_of_the_query_is_kept(cluster, name, qtype, expected):
    cluster.ask(name.lower(), qtype)
    _, *sections = cluster.ask(name, qtype)
    assert [record for section in sections for record in section] == expected


def test_all_namespaces_by_default():
    cluster = Cluster(kube.objects())
    assert cluster.ask("kubedns.kube-system.svc.cluster.local.")[1]
    assert cluster.ask("svc1.unexposedns.svc.cluster.local.") == NO_NAME  # it does not exist
    cluster.add(Namespace("unexposedns"))
    assert cluster.ask("svc1.unexposedns.svc.cluster.local.")[1]


def test_before_the_first_objects_names_are_unknown():
    cluster = Cluster(kube.objects(), synced=False)
    assert cluster.ask(f"svc0.{NS}") == (2, [], [], [])
    assert cluster.ask(f"svc1.{NS}")[0] == 0
    assert not cluster.handler.ready()
    assert Cluster().handler.ready()


def test_ttl_and_serial():
    cluster = Cluster(kube.objects(), ttl=1000)
    assert cluster.ask(f"svc1.{NS}")[1] == a(f"svc1.{NS}", "10.0.0.1", ttl=1000)
    assert cluster.ask(f"svc1.{NS}", "AAAA")[2] == [kube.soa(ttl=1000)]
    cluster.now += 10
    cluster.add(service("new", "10.0.0.99"))
    assert cluster.ask("cluster.local.", "SOA")[1] == [kube.soa(serial=kube.SERIAL + 10, ttl=1000)]


def test_other_opcodes_are_refused():
    cluster = Cluster(kube.objects())
    cluster.ask(f"svc1.{NS}")
    assert cluster.ask(f"svc1.{NS}", opcode=5) == (5, [], [], [])


PODS = [
    Namespace("podns"),
    kube.pod("foo", "10.240.0.1", "fd00::1"),
    kube.pod("bar", "10.240.0.2", namespace="x"),
]
POD = "podns.pod.cluster.local."


@pytest.mark.parametrize(
    ("mode", "name", "qtype", "expected"),
    [
        (PodMode.DISABLED, f"10-240-0-1.{POD}", "A", NO_NAME),
        (PodMode.DISABLED, POD, "A", NO_NAME),
        (PodMode.INSECURE, f"10-240-0-1.{POD}", "A", (0, a(f"10-240-0-1.{POD}", "10.240.0.1"), [], [])),
        (PodMode.INSECURE, f"172-0-0-2.{POD}", "A", (0, a(f"172-0-0-2.{POD}", "172.0.0.2"), [], [])),
        (PodMode.INSECURE, f"172-0-0-2.{POD}", "AAAA", NO_DATA),
        (PodMode.INSECURE, f"172-0-0-2.{POD}", "SRV", NO_DATA),
        (PodMode.INSECURE, f"fd00--9.{POD}", "AAAA", (0, a(f"fd00--9.{POD}", "fd00::9"), [], [])),
        (PodMode.INSECURE, f"blah.{POD}", "A", NO_NAME),
        (PodMode.INSECURE, f"blah.{POD}", "HINFO", NO_NAME),
        (PodMode.INSECURE, f"1-2-3-256.{POD}", "A", NO_NAME),
        (PodMode.INSECURE, f"1-2-3.{POD}", "A", NO_NAME),
        (PodMode.INSECURE, "1-2-3-4.nons.pod.cluster.local.", "A", NO_NAME),
        (PodMode.INSECURE, POD, "A", NO_DATA),
        (PodMode.INSECURE, f"a.b.1-2-3-4.{POD}", "A", (0, a(f"a.b.1-2-3-4.{POD}", "1.2.3.4"), [], [])),
        (PodMode.INSECURE, f"a.b.c.1-2-3-4.{POD}", "A", NO_NAME),
        (PodMode.VERIFIED, f"10-240-0-1.{POD}", "A", (0, a(f"10-240-0-1.{POD}", "10.240.0.1"), [], [])),
        (PodMode.VERIFIED, f"fd00--1.{POD}", "AAAA", (0, a(f"fd00--1.{POD}", "fd00::1"), [], [])),
        (PodMode.VERIFIED, f"10-240-0-2.{POD}", "A", NO_NAME),  # that of another namespace
        (PodMode.VERIFIED, f"172-0-0-2.{POD}", "A", NO_NAME),
        (PodMode.VERIFIED, POD, "A", NO_DATA),
        (PodMode.VERIFIED, "nons.pod.cluster.local.", "A", NO_NAME),
    ],
)  # fmt: skip
def test_names_of_pods(mode, name, qtype, expected):
    cluster = Cluster(PODS, pods=mode, needs=Needs(pods=mode is PodMode.VERIFIED))
    assert cluster.ask(name, qtype) == expected


def test_services_without_endpoints_may_be_ignored():
    cluster = Cluster(kube.objects(), ignore_empty=True)
    assert cluster.ask(f"svcempty.{NS}") == NO_NAME
    assert cluster.ask(f"svc1.{NS}")[1]
    assert cluster.ask(f"external.{NS}", "CNAME")[1]
    cluster.add(slice_of("svcempty", "172.0.0.9"))
    assert cluster.ask(f"svcempty.{NS}")[1]


def test_without_endpoints_headless_services_do_not_exist():
    cluster = Cluster([Namespace("testns"), service("hdls1"), service("svc1", "10.0.0.1")])
    assert cluster.ask(HDLS) == NO_NAME
    assert cluster.ask(f"1-2-3-4.svc1.{NS}") == NO_NAME
    assert cluster.ask(f"_tcp.svc1.{NS}") == NO_DATA


def test_names_of_endpoints():
    names = {"hostnames": ("", "", "host"), "pods": ("pod-0", "", "pod-2")}
    endpoints = slice_of("db", "10.1.0.1", "10.1.0.2", "10.1.0.3", **names)
    items = [Namespace("testns"), service("db"), endpoints]
    plain, named = Cluster(items), Cluster(items, pod_names=True)
    targets = [line.split()[-1].split(".")[0] for line in plain.ask(f"db.{NS}", "SRV")[1]]
    assert targets == ["10-1-0-1", "10-1-0-2", "host"]
    targets = [line.split()[-1].split(".")[0] for line in named.ask(f"db.{NS}", "SRV")[1]]
    assert targets == ["pod-0", "10-1-0-2", "host"]
    assert plain.ask(f"10-1-0-1.db.{NS}")[1]
    assert plain.ask(f"pod-0.db.{NS}") == NO_NAME
    assert named.ask(f"pod-0.db.{NS}")[1]
    assert named.ask(f"10-1-0-1.db.{NS}") == NO_NAME
    assert named.ask(f"pod-2.db.{NS}") == NO_NAME


def test_an_address_that_ends_with_colons():
    items = [Namespace("testns"), service("db"), slice_of("db", "fd00:1::")]
    cluster = Cluster(items)
    assert cluster.ask(f"fd00-1--0.db.{NS}", "AAAA")[1] == a(f"fd00-1--0.db.{NS}", "fd00:1::")
    assert cluster.ask(f"fd00-1--.db.{NS}", "AAAA") == NO_NAME


def test_several_ports():
    ports = (Port("http", "TCP", 80), Port("dns", "UDP", 53), Port("", "SCTP", -1))
    cluster = Cluster([Namespace("testns"), service("svc1", "10.0.0.1", ports=ports)])
    _, answers, _, additional = cluster.ask(f"svc1.{NS}", "SRV")
    assert answers == [
        *srv(f"svc1.{NS}", 33, 80, f"svc1.{NS}"),
        *srv(f"svc1.{NS}", 33, 53, f"svc1.{NS}"),
    ]
    assert additional == a(f"svc1.{NS}", "10.0.0.1")
    assert len(cluster.ask(f"_dns._udp.svc1.{NS}", "SRV")[1]) == 1


def test_an_address_of_several_slices_is_answered_once():
    slices = [slice_of("db", "10.1.0.1", number=number) for number in (1, 2)]
    cluster = Cluster([Namespace("testns"), service("db"), *slices])
    assert cluster.ask(f"db.{NS}")[1] == a(f"db.{NS}", "10.1.0.1")
    assert cluster.ask(f"db.{NS}", "SRV")[1] == srv(f"db.{NS}", 50, 80, f"10-1-0-1.db.{NS}")


ZONES = ("us-west-2a", "us-west-2b", "corp.example.com")


def zonal(**more):
    endpoints = slice_of("hdls", "172.0.0.1", "172.0.0.2", "172.0.0.3", zones=ZONES)
    items = [Namespace("testns"), service("hdls"), service("clstr", "10.0.0.10"), endpoints]
    return Cluster(items, **more)


@pytest.mark.parametrize(
    ("labels", "qtype", "expected"),
    [
        ("us-west-2a.pin._zone.hdls", "A", ["172.0.0.1"]),
        ("us-west-2b.pin._zone.hdls", "A", ["172.0.0.2"]),
        ("US-west-2b.PIN._zone.hdls", "A", ["172.0.0.2"]),
        ("corp.example.com.pin._zone.hdls", "A", ["172.0.0.3"]),
        ("us-west-2c.pin._zone.hdls", "A", 0),
        ("us-west-2c.pin._zone.hdls", "TXT", 0),
        ("us-west-2c.pin._zone.hdls", "HTTPS", 0),
        ("us-west-2a.prefer._zone.hdls", "A", ["172.0.0.1"]),
        ("us-west-2c.prefer._zone.hdls", "A", ["172.0.0.1", "172.0.0.2", "172.0.0.3"]),
        ("us-west-2c.prefer._zone.hdls", "TXT", 0),
        ("us-west-2a.pin._zone.ghost", "A", 3),
        ("us-west-2a.florp._zone.hdls", "A", 3),
        ("us-west-2a.pin._zone.clstr", "A", 3),
        ("pin._zone.hdls", "A", 0),
        ("_zone.hdls", "A", 0),
        ("_zone.clstr", "A", 3),
    ],
)  # fmt: skip
def test_names_with_a_topology_zone(labels, qtype, expected):
    rcode, answers, *_ = zonal(zonal=True).ask(f"{labels}.{NS}", qtype)
    assert ((answers and [line.split()[-1] for line in answers]) or rcode) == expected
    without = zonal().ask(f"{labels}.{NS}", qtype)
    assert without[0] == 3
    assert not without[1]


def test_srv_records_of_a_topology_zone():
    cluster = zonal(zonal=True)
    name = f"us-west-2a.pin._zone.hdls.{NS}"
    target = f"172-0-0-1.hdls.{NS}"
    assert cluster.ask(name, "SRV") == (0, srv(name, 100, 80, target), [], a(target, "172.0.0.1"))
    answers = cluster.ask(f"x.prefer._zone.hdls.{NS}", "SRV")[1]
    assert [line.split()[4] for line in answers] == ["33", "33", "33"]


SET = "testns.svc.clusterset.local."


def multicluster(**more):
    items = [
        Namespace("testns"),
        kube.imported("svc1", "10.9.0.1"),
        kube.imported("hdls1"),
        service("local", "10.0.0.1"),
        slice_of("svc1", "172.9.0.1", imported="svc1", cluster="cluster1"),
        slice_of("x", "172.0.0.2", imported="hdls1", cluster="cluster1"),
        slice_of("y", "172.0.0.3", imported="hdls1", cluster="cluster2", hostnames=("host",)),
    ]
    zones = ("cluster.local.", "clusterset.local.")
    return Cluster(
        items, zones, multicluster=("clusterset.local.",), needs=Needs(imports=True), **more
    )


@pytest.mark.parametrize(
    ("labels", "qtype", "expected"),
    [
        ("svc1", "A", ["10.9.0.1"]),
        ("hdls1", "A", ["172.0.0.2", "172.0.0.3"]),
        ("172-0-0-2.cluster1.hdls1", "A", ["172.0.0.2"]),
        ("172-0-0-2.CLUSTER1.hdls1", "A", ["172.0.0.2"]),
        ("172-0-0-2.cluster2.hdls1", "A", 3),
        ("host.cluster2.hdls1", "A", ["172.0.0.3"]),
        ("172-0-0-2.hdls1", "A", 3),
        ("cluster1.hdls1", "A", 0),
        ("cluster3.hdls1", "A", 3),
        ("cluster1.x.hdls1", "A", 3),
        ("_http._tcp.svc1", "A", ["10.9.0.1"]),
        ("172-9-0-1.cluster1.svc1", "A", ["172.9.0.1"]),
        ("local", "A", 3),
        ("us-west-2a.pin._zone.hdls1", "A", 3),
    ],
)  # fmt: skip
def test_a_multicluster_zone(labels, qtype, expected):
    rcode, answers, *_ = multicluster(zonal=True).ask(f"{labels}.{SET}", qtype)
    assert ((answers and [line.split()[-1] for line in answers]) or rcode) == expected


def test_srv_records_and_serial_of_a_multicluster_zone():
    cluster = multicluster()
    name = f"_http._tcp.hdls1.{SET}"
    targets = [f"172-0-0-2.cluster1.hdls1.{SET}", f"host.cluster2.hdls1.{SET}"]
    assert cluster.ask(name, "SRV")[1] == srv(name, 50, 80, *targets)
    cluster.now += 5
    cluster.add(kube.imported("svc2", "10.9.0.2"))
    assert cluster.ask("clusterset.local.", "SOA")[1] == [
        kube.soa("clusterset.local.", kube.SERIAL + 5)
    ]
    assert cluster.ask("cluster.local.", "SOA")[1] == [SOA]


def test_empty_services_of_a_multicluster_zone_may_be_ignored():
    cluster = multicluster(ignore_empty=True)
    cluster.add(kube.imported("empty", "10.9.0.3"))
    assert cluster.ask(f"empty.{SET}")[0] == 3
    assert cluster.ask(f"svc1.{SET}")[0] == 0


@pytest.mark.parametrize(
    ("external_name", "rcode"),
    [("192.0.2.1", 3), ("2001:db8::1", 3), ("", 3), ("a..b", 3), ("x" * 64, 3), ("ok.test", 0)],
)
def test_external_names(external_name, rcode):
    items = [Namespace("testns"), service("out", external_name=external_name)]
    assert Cluster(items).ask(f"out.{NS}", "CNAME")[0] == rcode


def test_an_alias_to_itself_has_no_data():
    items = [Namespace("testns"), service("me", external_name=f"me.{NS}")]
    assert Cluster(items).ask(f"me.{NS}") == NO_DATA


def test_fallthrough_for_names_that_do_not_exist():
    cluster = Cluster(kube.objects(), fallthrough=["."])
    assert cluster.ask(f"svc0.{NS}") == kube.FALLS
    assert cluster.ask("a.b.cluster.local.", "TXT") == kube.FALLS
    assert cluster.ask(f"svc1.{NS}", "AAAA") == NO_DATA
    assert Cluster(fallthrough=["other.test."]).ask("x.cluster.local.") == (
        3,
        [],
        [kube.soa(serial=0)],
        [],
    )


def test_the_root_as_zone():
    cluster = Cluster(kube.objects(), ["."], fallthrough=["."])
    assert cluster.ask("svc1.testns.svc.") == (0, a("svc1.testns.svc.", "10.0.0.1"), [], [])
    assert cluster.ask("1.0.0.10.in-addr.arpa.", "PTR")[1] == [
        "1.0.0.10.in-addr.arpa. 5 PTR svc1.testns.svc."
    ]
    assert cluster.ask("example.org.") == kube.FALLS


def test_many_endpoints_fit_into_a_message():
    count = 5000
    ips = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(count)]
    cluster = Cluster([Namespace("testns"), service("big"), slice_of("big", *ips)])
    for qtype in ("A", "SRV"):
        reply = cluster.reply(f"big.{NS}", qtype)
        assert 55_000 < len(reply.wire) < 65_536
        assert reply.record.rr


def test_a_name_that_is_too_long_is_left_out():
    zone = ".".join(["z" * 60] * 3) + "."
    items = [Namespace("n" * 30), service("s" * 20, namespace="n" * 30)]
    items.append(
        slice_of("s" * 20, "10.0.0.1", "10.0.0.2", namespace="n" * 30, hostnames=("h" * 63, "ok"))
    )
    answers = Cluster(items, [zone]).ask(f"{'s' * 20}.{'n' * 30}.svc.{zone}", "SRV")[1]
    assert len(answers) == 1
    assert " ok." in answers[0]
