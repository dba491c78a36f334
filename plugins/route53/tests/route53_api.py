"""Servers for the tests of *route53*: moto's Route 53 and STS, and one that answers as told."""

import contextlib
import http.client
import re
import subprocess
import sys
import time
from urllib.parse import quote
from xml.sax.saxutils import escape

from corepy.http.http_client import parse_url
from corepy.testing.http_recorder import HTTPRecorder
from corepy.testing.upstream import free_port
from corepy_route53.options import Environment, Options

NAMESPACE = "https://route53.amazonaws.com/doc/2013-04-01/"
SOA = "ns-1.awsdns-00.com. awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400"
KEYS = ("AKIDEXAMPLE", "secret-key-of-the-test")
SCOPE = "Credential=AKIDEXAMPLE/20260101/us-east-1/route53/aws4_request"


def options_for(server, **more):
    """Options with which requests go to a server."""
    settings = {"keys": KEYS, "endpoint": parse_url(server.url), **more}
    return Options(**settings)


def environment(**variables):
    return Environment.current(variables)


# -- moto


class Moto:
    """moto's server: hosted zones by HTTP requests, as an account sees them."""

    def __init__(self, folder):
        self._folder = folder
        self.port = free_port()
        self._process = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with (self._folder / "moto.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.call("GET", "/2013-04-01/hostedzone")
                return
            assert self._process.poll() is None, (self._folder / "moto.log").read_text()
            time.sleep(0.02)

    def stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def call(self, method, path, body=""):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"AWS4-HMAC-SHA256 {SCOPE}, SignedHeaders=host, Signature=x"}
        with contextlib.closing(connection):
            connection.request(method, path, body.encode(), headers)
            response = connection.getresponse()
            content = response.read().decode()
            assert response.status < 300, content
            return content

    def create(self, name):
        """Create a hosted zone and return its ID. moto's SOA record is malformed, so it is set."""
        body = (
            f'<CreateHostedZoneRequest xmlns="{NAMESPACE}"><Name>{name}</Name>'
            f"<CallerReference>{time.monotonic_ns()}</CallerReference></CreateHostedZoneRequest>"
        )
        content = self.call("POST", "/2013-04-01/hostedzone", body)
        zone_id = re.search(r"<Id>/hostedzone/(\w+)</Id>", content)[1]
        self.change(zone_id, record_set(name, "SOA", SOA, ttl=900))
        return zone_id

    def delete(self, zone_id):
        self.call("DELETE", f"/2013-04-01/hostedzone/{quote(zone_id)}")

    def change(self, zone_id, *record_sets, action="UPSERT"):
        changes = "".join(f"<Change><Action>{action}</Action>{it}</Change>" for it in record_sets)
        body = (
            f'<ChangeResourceRecordSetsRequest xmlns="{NAMESPACE}"><ChangeBatch><Changes>'
            f"{changes}</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
        )
        self.call("POST", f"/2013-04-01/hostedzone/{zone_id}/rrset", body)


@contextlib.contextmanager
def moto_server(folder):
    server = Moto(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def record_set(name, rtype, *values, ttl=60, more=""):
    """A ResourceRecordSet in XML; `more` precedes the TTL."""
    records = "".join(
        f"<ResourceRecord><Value>{escape(it)}</Value></ResourceRecord>" for it in values
    )
    return (
        f"<ResourceRecordSet><Name>{escape(name)}</Name><Type>{rtype}</Type>{more}"
        f"<TTL>{ttl}</TTL><ResourceRecords>{records}</ResourceRecords></ResourceRecordSet>"
    )


def alias(name, rtype="A"):
    return (
        f"<ResourceRecordSet><Name>{name}</Name><Type>{rtype}</Type><AliasTarget>"
        "<HostedZoneId>Z2</HostedZoneId><DNSName>lb.example.net.</DNSName>"
        "<EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget></ResourceRecordSet>"
    )


def page_of(*record_sets, following=None):
    """A page of ListResourceRecordSets; `following` is (name, type[, identifier])."""
    names = ("NextRecordName", "NextRecordType", "NextRecordIdentifier")
    cursor = "".join(
        f"<{tag}>{escape(text)}</{tag}>" for tag, text in zip(names, following or (), strict=False)
    )
    return (
        f'<?xml version="1.0"?>\n<ListResourceRecordSetsResponse xmlns="{NAMESPACE}">'
        f"<ResourceRecordSets>{''.join(record_sets)}</ResourceRecordSets>"
        f"<IsTruncated>{str(following is not None).lower()}</IsTruncated>{cursor}"
        "<MaxItems>300</MaxItems></ListResourceRecordSetsResponse>"
    ).encode()


def zone_page(*record_sets, name="example.org.", **more):
    return page_of(record_set(name, "SOA", SOA), *record_sets, **more)


def error_page(code, message="Explained.", tag="ErrorResponse"):
    return (
        f'<{tag} xmlns="{NAMESPACE}"><Error><Type>Sender</Type><Code>{code}</Code>'
        f"<Message>{escape(message)}</Message></Error><RequestId>0123</RequestId></{tag}>"
    ).encode()


# -- a server that answers as told


def http_response(body, status=200, *headers):
    content = body if isinstance(body, bytes) else body.encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


class Told(HTTPRecorder):
    """Answers the requests with `answers`, in order; the last one is repeated.

    An answer may be a function of the request.
    """

    def __init__(self, *answers):
        super().__init__(self._answer)
        self.answers = list(answers)
        self.seen = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _answer(self, request):
        self.seen.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(request) if callable(answer) else answer
