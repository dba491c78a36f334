"""A handler that knows external services, in place of *kubernetes*: the data of external_test.go."""

from corepy.dns.names import from_text, labels_of
from corepy.plugin import Cacheability, Handler
from corepy.plugin.protocols import Service

HTTP = [("http", "tcp", 80)]
SERVICES = {
    "svc1": (["1.2.3.4"], HTTP),
    "svc6": (["1:2::5"], HTTP),
    "svc11": (["2.3.4.5"], HTTP),
    "svc12": (["dummy.hostname"], HTTP),
    "two": (["1.2.3.8", "1.2.3.9", "other.hostname"], [("a", "tcp", 80), ("b", "udp", 81)]),
    "bare": (["1.2.3.7"], [("", "", -1)]),
}
ENDPOINTS = {"svc-headless": ({"endpoint-svc-0": "1.2.3.4", "endpoint-svc-1": "1.2.3.5"}, HTTP)}
NAMESPACE = "testns"


class Cluster(Handler):
    """Implements `ExternalServiceSource` as plugin/kubernetes/external.go."""

    name = "kubernetes"
    cacheability = Cacheability.SAFE
    inputs = b""

    def __init__(self, synced=True):
        self.synced = synced
        self.zones = []
        self.serial = 1499347823

    async def serve_dns(self, request):
        return await self.next.serve_dns(request)

    def add_external_zone(self, zone):
        self.zones.append(zone)

    def external_services(self, request, zone, *, headless):
        if request.qtype == 12 and request.name.endswith(".arpa."):
            address = ".".join(reversed(request.name.split(".")[:4]))
            return [
                Service(b"", f"{name}.{NAMESPACE}")
                for name, (hosts, _) in SERVICES.items()
                if address in hosts
            ] or None
        labels = [it.decode() for it in labels_of(request.name_wire[: -len(zone)] + b"\0")]
        if labels[-1] != NAMESPACE or len(labels) > 4:
            return None
        if len(labels) == 1:
            return ()
        found = [
            it for it in self._at(labels[-2], zone, headless) if labels[:-2] in ([], it[1], it[2])
        ]
        if not found:
            return None
        return () if request.qtype == 12 else [it[0] for it in found]

    def _at(self, name, zone, headless):
        """Yield services with the labels of their port and of their endpoint."""
        key = from_text(f"{name}.{NAMESPACE}.")[:-1] + zone
        hosts, ports = SERVICES.get(name, ((), ()))
        for host in hosts:
            for label, protocol, number in ports:
                yield Service(key, host, number, ttl=60), [f"_{label}", f"_{protocol}"], None
        endpoints, ports = ENDPOINTS.get(name, ({}, ())) if headless else ({}, ())
        for endpoint, host in endpoints.items():
            for label, protocol, number in ports:
                own = from_text(f"{endpoint}.")[:-1] + key
                port = [f"_{label}", f"_{protocol}"]
                yield Service(own, host, number, ttl=60), port, [endpoint]

    def all_external_services(self, zone, *, headless):
        for name in (*SERVICES, *ENDPOINTS):
            for service, (port, protocol), endpoint in self._at(name, zone, headless):
                base = from_text(f"{port}.{protocol}.{name}.{NAMESPACE}.")[:-1] + zone
                if endpoint:
                    yield Service(service.key, service.host, service.port, group="endpoint")
                    host = f"{endpoint[0]}.{name}.{NAMESPACE}.example.com"
                    yield Service(base, host, service.port, group="port")
                else:
                    yield service
                    if port != "_":
                        yield Service(base, service.host, service.port, stripped_labels=2)

    def name_server_addresses(self, request, *, headless):
        return ["127.0.0.1"]

    def external_serial(self, zone):
        return self.serial
