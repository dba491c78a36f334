"""A stub of the Cloud DNS API, of Google's token servers and of the metadata server.

The shapes are those of the reference of the API (dns/v1, resourceRecordSets.list) and of Google's
documents about OAuth 2.0 and credentials.
"""

import json
from base64 import urlsafe_b64decode
from functools import cache
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from corepy.http.http_client import parse_url
from corepy.testing.http_recorder import HTTPRecorder

TOKEN = "ya29.the-access-token"
REFRESH_TOKEN = "1//the-refresh-token"
CLIENT_SECRET = "the-client-secret"
EMAIL = "dns@my-project.iam.gserviceaccount.com"
SOA = "ns-cloud-c1.googledomains.com. cloud-dns-hostmaster.google.com. 1 21600 300 259200 300"

_P = (
    "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_"
    "Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc"
)
_Q = (
    "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7Tje"
    "LQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc"
)
"""The primes of the RSA key in RFC 7515 appendix A.2.1; its exponent is 65537."""


def decoded(text):
    """The bytes of base64url without padding."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@cache
def private_key():
    p, q = (int.from_bytes(decoded(it)) for it in (_P, _Q))
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return numbers.private_key()


@cache
def pem():
    return (
        private_key()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


def http(status, content, *headers, kind="application/json; charset=UTF-8"):
    """A response; `content` is JSON, unless it is bytes."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} Text", f"Content-Length: {len(body)}", f"Content-Type: {kind}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def google_error(status, reason, message, *headers):
    error = {"message": message, "domain": "global", "reason": reason}
    document = {"error": {"code": status, "message": message, "errors": [error]}}
    return http(status, document, *headers)


def rrset(name, rtype, *rrdatas, ttl=300, **members):
    return {
        "kind": "dns#resourceRecordSet",
        "name": name,
        "type": rtype,
        "ttl": ttl,
        "rrdatas": list(rrdatas),
        "signatureRrdatas": [],
        **members,
    }


class CloudDNSAPI:
    """Serves `zones`, lists of record sets by "PROJECT:NAME", in pages of `page_size`."""

    def __init__(self, tls=False):
        self.zones = {}
        self.page_size = 100
        self.token = TOKEN
        self.faults = []
        """Responses instead of those of the API to the next requests for record sets."""
        self.token_fault = None
        self.requests = []
        self.recorder = HTTPRecorder(self.respond, tls=tls)

    def put(self, hosted, *sets, origin="example.org."):
        self.zones[hosted] = [rrset(origin, "SOA", SOA, ttl=21600), *sets]

    @property
    def url(self):
        scheme = "https" if self.recorder.tls else "http"
        return f"{scheme}://127.0.0.1:{self.recorder.port}"

    def target(self):
        return parse_url(self.url)

    def __enter__(self):
        self.recorder.__enter__()
        return self

    def __exit__(self, *error):
        self.recorder.__exit__(*error)

    # -- files with credentials

    def service_account(self, **changes):
        return {
            "type": "service_account",
            "project_id": "my-project",
            "private_key_id": "the-key-id",
            "private_key": pem(),
            "client_email": EMAIL,
            "client_id": "1",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": f"{self.url}/token",
            "universe_domain": "googleapis.com",
            **changes,
        }

    def authorized_user(self, **changes):
        return {
            "type": "authorized_user",
            "client_id": "764.apps.googleusercontent.com",
            "client_secret": CLIENT_SECRET,
            "refresh_token": REFRESH_TOKEN,
            "token_uri": f"{self.url}/token",
            **changes,
        }

    def external_account(self, path, **changes):
        return {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.url}/v1/token",
            "credential_source": {"file": str(path)},
            **changes,
        }

    @property
    def impersonation_url(self):
        return f"{self.url}/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"

    # -- responses

    def respond(self, request):
        self.requests.append(request)
        parts = urlsplit(request.target)
        if not parts.path.startswith("/dns/v1/"):
            return self.token_fault or self._token(parts.path)
        if self.faults:
            return self.faults.pop(0)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            message = "Request had invalid authentication credentials."
            return google_error(401, "authError", message)
        return self._list(parts.path, parse_qs(parts.query))

    def _token(self, path):
        if path.endswith(":generateAccessToken"):
            return http(200, {"accessToken": self.token, "expireTime": "2126-01-01T00:00:00Z"})
        return http(200, {"access_token": self.token, "expires_in": 3599, "token_type": "Bearer"})

    def _list(self, path, query):
        _, _, _, _, project, _, name, _ = path.split("/")
        sets = self.zones.get(f"{project.replace('%3A', ':')}:{name}")
        if sets is None:
            message = f"The 'parameters.managedZone' resource named '{name}' does not exist."
            return google_error(404, "notFound", message)
        start = int(query.get("pageToken", ["0&+="])[0].removesuffix("&+="))
        kind = "dns#resourceRecordSetsListResponse"
        page = {"kind": kind, "rrsets": sets[start : start + self.page_size]}
        if start + self.page_size < len(sets):
            page["nextPageToken"] = f"{start + self.page_size}&+="
        return http(200, page)
