"""A cluster in memory: objects by short forms, and the handler that answers for them."""

import asyncio

from corepy.dns.names import from_text
from corepy.plugin import BlockConfig, Fallthrough
from corepy.testing import Recorder, make_request
from corepy.testing.chain import link
from corepy_kubernetes.answered import Answered
from corepy_kubernetes.answers import Answers
from corepy_kubernetes.index import Index
from corepy_kubernetes.kubernetes import Kubernetes
from corepy_kubernetes.lookup import Rules
from corepy_kubernetes.names import OwnZones
from corepy_kubernetes.objects import (
    Import,
    Kind,
    Namespace,
    Needs,
    Pod,
    Port,
    Service,
    Slice,
    pack_address,
)

SERIAL = 1499347823
FALLS = "no record of its own"
HTTP = Port("http", "TCP", 80)


def addresses(*texts):
    packed = [pack_address(text) for text in texts]
    assert None not in packed
    return tuple(packed)


def service(name, *ips, ports=(HTTP,), external=(), namespace="testns", external_name=None):
    """A service with these cluster IPs; headless without any, unless it has an external name."""
    headless = not ips and external_name is None
    outside = tuple(pack_address(it) or it for it in external)
    return Service(namespace, name, headless, addresses(*ips), ports, external_name, outside)


def slice_of(name, *ips, ports=(HTTP,), number=1, namespace="testns", **more):
    """A slice of a service with endpoints at these addresses, all of one family."""
    packed = addresses(*ips)
    size = len(packed[0]) if packed else 4
    return Slice(namespace, f"{name}-{number}", name, ports, size, b"".join(packed), **more)


def pod(name, *ips, namespace="podns", labels=()):
    return Pod(namespace, name, addresses(*ips), labels)


def imported(name, *ips, ports=(HTTP,), namespace="testns"):
    return Import(namespace, name, not ips, addresses(*ips), ports)


def objects():
    """The objects of CoreDNS's tests (plugin/kubernetes/handler_test.go)."""
    names = ("dup-name", "dup-name")
    return [
        *(Namespace(it) for it in ("testns", "podns", "svcns", "kube-system")),
        service("kubedns", "10.0.0.10", ports=(Port("dns", "UDP", 53),), namespace="kube-system"),
        service("svc1", "10.0.0.1"),
        service("svcempty", "10.0.0.7"),
        service("svc6", "1234:abcd::1"),
        service("svc-dual-stack", "10.0.0.3", "10::3"),
        service("hdls1", ports=()),
        service("hdlsprtls", ports=()),
        service("external", external_name="ext.interwebs.test"),
        service("external-to-service", external_name="svc1.testns.svc.cluster.local."),
        service("svc1", "10.0.0.2", namespace="unexposedns"),
        slice_of("svc1", "172.0.0.1", hostnames=("ep1a",)),
        slice_of("svcempty"),
        slice_of("hdls1", "172.0.0.2", "172.0.0.3"),
        slice_of("hdls1", "172.0.0.4", "172.0.0.5", number=2, hostnames=names),
        slice_of("hdls1", "5678:abcd::1", "5678:abcd::2", number=3),
        slice_of("hdlsprtls", "172.0.0.20", ports=()),
    ]


class Cluster:
    """The handler of one directive, with objects that a test adds and removes."""

    def __init__(
        self,
        items=(),
        zones=("cluster.local.",),
        *,
        multicluster=(),
        namespaces=None,
        needs=Needs(),  # noqa: B008 - immutable
        ttl=5,
        fallthrough=(),
        synced=True,
        search=(),
        latency=None,
        **rules,
    ):
        self.now = SERIAL
        answered = Answered()
        self.answered = answered
        self.index = Index(
            needs, answered, namespaces=namespaces, latency=latency, now=lambda: self.now
        )
        self.handler = Kubernetes(
            self.index,
            answered,
            Answers(ttl),
            OwnZones(zones, multicluster),
            Rules(**rules),
            Fallthrough(fallthrough),
            config=BlockConfig(()),
            startup_timeout=0.0,
            search=[from_text(it) for it in search],
        )
        self.add(*items)
        if synced:
            for kind in Kind:
                relist = self.index.relist(kind)
                for item in list(self.index.items(kind)):
                    relist.put(item)
                relist.finish()
        self.below = Recorder()
        self.top = link([self.handler, self.below])

    def add(self, *items):
        for item in items:
            self.index.put(item)

    def remove(self, item):
        kind = next(it for it in Kind if item in list(self.index.items(it)))
        self.index.remove(kind, item.namespace, item.name)

    def reply(self, name, qtype="A", **question):
        """The reply to a query, without a server."""
        self.below.requests.clear()
        return self.answer(make_request(name, qtype, **question))

    def answer(self, request):
        """The reply to a request."""
        answer = self.top.begin_dns(request)
        return answer if hasattr(answer, "wire") else asyncio.run(_wait(answer))

    def ask(self, name, qtype="A", **question):
        """The rcode and the records of the three sections as text; FALLS if another answers."""
        reply = self.reply(name, qtype, **question)
        if self.below.requests:
            return FALLS
        assert reply.aa or reply.rcode in (2, 5)
        record = reply.record
        sections = (record.rr, record.auth, record.ar)
        return reply.rcode, *([shown(rr) for rr in section] for section in sections)


async def _wait(answer):
    return await answer


def shown(rr):
    data = str(rr.rdata)
    return f"{rr.rname} {rr.ttl} {_TYPES.get(rr.rtype, rr.rtype)} {data}"


_TYPES = {1: "A", 28: "AAAA", 33: "SRV", 5: "CNAME", 6: "SOA", 12: "PTR", 2: "NS", 16: "TXT"}


def soa(zone="cluster.local.", serial=SERIAL, ttl=5):
    mine = f"ns.dns.{zone} hostmaster.{zone} {serial} 7200 1800 86400 {ttl}"
    return f"{zone} {min(ttl, 300)} SOA {mine}"


def no_data(zone="cluster.local."):
    return 0, [], [soa(zone)], []


def no_name(zone="cluster.local."):
    return 3, [], [soa(zone)], []
