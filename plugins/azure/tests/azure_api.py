"""A stub of Azure Resource Manager, Microsoft Entra ID and the metadata service of a machine.

The shapes are those of the published examples of Microsoft.Network (azure-rest-api-specs).
"""

import json
from urllib.parse import parse_qs, urlsplit

from corepy.http.http_client import parse_url
from corepy.testing.http_recorder import HTTPRecorder

SUBSCRIPTION = "b5e0bd0d-0000-4000-8000-000000000001"
SECRET = "Ab8Q~the-secret-value"
TOKEN = "eyJ0.the-access-token"
IDENTITY = f"subscription {SUBSCRIPTION}\ntenant the-tenant\nclient the-client\nsecret {SECRET}\n"


def http(status, content, *headers, kind="application/json"):
    """A response; `content` is JSON, unless it is bytes."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} Text", f"Content-Length: {len(body)}", f"Content-Type: {kind}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def arm_error(status, code, message, *headers):
    return http(status, {"error": {"code": code, "message": message}}, *headers)


def record_set(name, rtype, zone="example.org", *, ttl=300, **properties):
    """A record set of a public zone; the names of members are those of the API."""
    owner = zone if name == "@" else f"{name}.{zone}"
    place = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Network"
    return {
        "id": f"{place}/dnsZones/{zone}/{rtype}/{name}",
        "name": name,
        "type": f"Microsoft.Network/dnsZones/{rtype}",
        "etag": "00000000-0000-0000-0000-000000000000",
        "properties": {"metadata": {}, "TTL": ttl, "fqdn": owner, **properties},
    }


def soa(zone="example.org", serial=1):
    fields = {
        "host": "ns1-06.azure-dns.com.",
        "email": "azuredns-hostmaster.microsoft.com",
        "serialNumber": serial,
        "refreshTime": 3600,
        "retryTime": 300,
        "expireTime": 2419200,
        "minimumTTL": 300,
    }
    return record_set("@", "SOA", zone, ttl=3600, SOARecord=fields)


def a(name, *addresses, zone="example.org"):
    records = [{"ipv4Address": address} for address in addresses]
    return record_set(name, "A", zone, ARecords=records)


class AzureAPI:
    """Serves `zones`, lists of record sets by the path of the zone, in pages of `page_size`."""

    def __init__(self, tls=False):
        self.zones = {}
        self.page_size = 100
        self.token = TOKEN
        self.versions = None
        """The versions of the API that it has, None for all."""
        self.unknown_version = arm_error(400, "NoRegisteredProviderFound", "No provider")
        self.faults = []
        """Responses instead of those of the API to the next requests for record sets."""
        self.token_fault = None
        self.requests = []
        self.recorder = HTTPRecorder(self.respond, tls=tls)

    def put(self, name, *sets, group="rg", kind="dnsZones"):
        self.zones[f"{group}/{kind}/{name}"] = [soa(name), *sets]

    @property
    def url(self):
        scheme = "https" if self.recorder.tls else "http"
        return f"{scheme}://127.0.0.1:{self.recorder.port}"

    def environment(self, folder):
        """Variables that make a server use the stub, with `environment AzureStackCloud`."""
        path = folder / "cloud.json"
        fields = {
            "activeDirectoryEndpoint": f"{self.url}/",
            "resourceManagerEndpoint": f"{self.url}/",
            "tokenAudience": "https://management.example/",
        }
        path.write_text(json.dumps(fields))
        return {"AZURE_ENVIRONMENT_FILEPATH": str(path), "AZURE_ENVIRONMENT": "AzureStackCloud"}

    def __enter__(self):
        self.recorder.__enter__()
        return self

    def __exit__(self, *error):
        self.recorder.__exit__(*error)

    def respond(self, request):
        self.requests.append(request)
        parts = urlsplit(request.target)
        query = parse_qs(parts.query)
        if "oauth2" in parts.path:
            return self.token_fault or self._token()
        if self.faults:
            return self.faults.pop(0)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            message = "The access token has expired"
            return arm_error(401, "ExpiredAuthenticationToken", message)
        if self.versions is not None and query["api-version"][0] not in self.versions:
            return self.unknown_version
        return self._list(parts.path, query)

    def _token(self):
        return http(200, {"token_type": "Bearer", "expires_in": 3599, "access_token": self.token})

    def _list(self, path, query):
        _, _, subscription, _, group, _, _, kind, name, _ = path.split("/")
        assert subscription == SUBSCRIPTION
        sets = self.zones.get(f"{group}/{kind}/{name}")
        if sets is None:
            message = f"The Resource 'Microsoft.Network/{kind}/{name}' was not found."
            return arm_error(404, "ResourceNotFound", message)
        start = int(query.get("$skipToken", ["0"])[0])
        page = {"value": sets[start : start + self.page_size]}
        if start + self.page_size < len(sets):
            rest = f"api-version={query['api-version'][0]}&$skipToken={start + self.page_size}"
            page["nextLink"] = f"{self.url}{path}?{rest}"
        return http(200, page)

    def target(self):
        return parse_url(self.url)
