"""Any name and type gets a valid reply, the same one each time, before and after changes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corepy.dns import Request
from corepy.dns import constants as c
from corepy.dns.names import from_text, parent_offsets
from corepy.dns.reply_validation import reply_problem
from corepy.testing import helper_module, make_request
from corepy_kubernetes.lookup import PodMode
from corepy_kubernetes.objects import Needs

kube = helper_module(__file__, "kubernetes_cluster")
ZONES = ("cluster.local.", "set.local.", "10.in-addr.arpa.", "ip6.arpa.")
WORDS = (
    *(b"svc1", b"hdls1", b"external", b"external-to-service", b"svc-dual-stack", b"testns", b"podns"),
    *(b"svc", b"pod", b"dns", b"ns", b"dns-version", b"_http", b"_tcp", b"http", b"tcp", b"_zone"),
    *(b"pin", b"prefer", b"us-west-2a", b"172-0-0-2", b"dup-name", b"5678-abcd--1", b"10-240-0-1"),
    *(b"cluster1", b"_", b"*", b"10", b"0", b"1", b"a", b"SVC1", b"TestNS", b"a.b", b"\xff\0", b"-"),
)  # fmt: skip
PAIRED = (
    *(b"_http", b"_tcp", b"http", b"tcp", b"_", b"a", b"svc1", b"cluster1"),
    *(b"172-0-0-2", b"_zone", b"pin"),
)  # fmt: skip
SUFFIXES = (
    b"\7cluster\5local\0", b"\7Cluster\5LOCAL\0", b"\3set\5local\0",
    b"\x0210\7in-addr\4arpa\0", b"\3ip6\4arpa\0", b"\3svc\7cluster\5local\0",
    b"\6testns\3svc\7cluster\5local\0", b"\5hdls1\6testns\3svc\7cluster\5local\0",
    b"\5hdls1\6testns\3svc\3set\5local\0",
)  # fmt: skip
LABELS = st.lists(st.sampled_from(WORDS) | st.binary(min_size=1, max_size=63), max_size=6)
TYPES = st.sampled_from(
    (
        *(c.TYPE_A, c.TYPE_AAAA, c.TYPE_SRV, c.TYPE_TXT, c.TYPE_CNAME, c.TYPE_PTR, c.TYPE_SOA),
        *(c.TYPE_NS, c.TYPE_ANY, c.TYPE_MX, c.TYPE_HTTPS, c.TYPE_DS, c.TYPE_AXFR, 65280),
    )
)


def items():
    return [
        *kube.objects(),
        kube.pod("foo", "10.240.0.1"),
        kube.imported("hdls1"),
        kube.slice_of("i", "172.0.0.2", imported="hdls1", cluster="cluster1"),
        kube.slice_of("hdls1", "172.0.0.9", number=8, zones=("us-west-2a",)),
    ]


@pytest.fixture(scope="module")
def cluster():
    needs = Needs(pods=True, imports=True, zones=True)
    options = {"pods": PodMode.VERIFIED, "zonal": True, "pod_names": True, "needs": needs}
    found = kube.Cluster(items(), ZONES, multicluster=ZONES[1:2], **options)
    found.handler.servers.local = kube.addresses("172.0.0.2")
    return found


def query(labels, suffix, qtype):
    """A query for a name of at most 255 bytes."""
    name = suffix
    for label in labels:
        if len(name) + len(label) < 255:
            name = bytes((len(label),)) + label + name
    wire = b"\0\1\1\0\0\1\0\0\0\0\0\0" + name + qtype.to_bytes(2, "big") + b"\0\1"
    request = Request.from_wire(wire)
    plain = make_request("x.")
    request.context, request.peer, request.client = plain.context, plain.peer, plain.client
    return request


@given(labels=LABELS, suffix=st.sampled_from(SUFFIXES), qtype=TYPES)
def test_every_reply_is_valid_and_repeatable(cluster, labels, suffix, qtype):
    request = query(labels, suffix, qtype)
    first, again = (cluster.answer(request) for _ in range(2))
    assert first.wire == again.wire
    first.validated = None  # the handler vouches for it
    assert reply_problem(request, first) is None
    assert first.rcode in (0, 3, 5)
    assert cluster.handler.metadata(request)


@given(labels=LABELS, suffix=st.sampled_from(SUFFIXES))
def test_no_name_is_denied_that_has_names_below(cluster, labels, suffix):
    """A resolver may conclude from NXDOMAIN that there is nothing below (RFC 8020)."""
    check_names_above(cluster, query(labels, suffix, c.TYPE_A))


@pytest.mark.parametrize("service", ["hdls1", "svc1", "hdlsprtls"])
@pytest.mark.parametrize("zone", ["cluster", "set"])
def test_names_above_those_of_ports_and_endpoints_are_not_denied(cluster, service, zone):
    """Ports and protocols need no underscores, and "_" alone is any of them, as in CoreDNS."""
    suffix = from_text(f"{service}.testns.svc.{zone}.local.")
    for second, first in itertools.product(PAIRED, repeat=2):
        check_names_above(cluster, query([second, first], suffix, c.TYPE_A))


def check_names_above(cluster, request):
    if cluster.answer(request).rcode == 3:
        return
    name = request.name_wire
    for offset in parent_offsets(name)[1:]:
        found = cluster.handler.own_zones.find(name[offset:])
        if found is None:
            return
        assert cluster.answer(query([], name[offset:], c.TYPE_A)).rcode == 0, name[offset:]
